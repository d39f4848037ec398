"""The score that counts: of sliding windows, or of whichever test-time training the recipe has."""

import torch

from trainer.adapt_lora import PHASE_CHUNK_TOKENS, Document, DocumentScorer, score_with_lora, train_on_documents
from trainer.adapt_sgd import restored_weights, slide_with_sgd
from trainer.evaluate import Record, Score, Scorer, scoring
from trainer.layers import BOS_ID


def final_record(scorer: Scorer) -> Record:
    """This rank's part of the scoring that the recipe asks for; the model is the same afterwards as before."""
    evaluation = scorer.recipe.evaluation
    if evaluation.sgd is not None:
        return slide_with_sgd(scorer, evaluation.sgd)
    if evaluation.lora is not None:
        return score_with_lora(scorer, evaluation.lora)
    return scorer.slide()


def final_score(scorer: Scorer) -> Score:
    """The score of the stream by the recipe's evaluation, over all ranks.

    Raises:
        DivergedError: it is not finite.
    """
    return scorer.score(final_record(scorer))


def warm_up_scoring(scorer: Scorer) -> None:
    """Compile all that scoring will run, on random tokens; nothing in eager mode. The model stays as it is.

    To be called before evaluation's clock starts: no graph depends on the text.
    """
    if not scorer.environment.is_compiled:
        return
    recipe, sgd, lora = scorer.recipe, scorer.recipe.evaluation.sgd, scorer.recipe.evaluation.lora
    lengths = (scorer.seq_len, sgd.chunk_tokens if sgd else 0, PHASE_CHUNK_TOKENS if lora and lora.phases else 0)
    num_tokens = 1 + 2 * max(lengths)
    generator = torch.Generator().manual_seed(0)
    tokens_T = torch.randint(BOS_ID + 1, recipe.model.vocab_size, (num_tokens,), generator=generator)
    random = Scorer(scorer.model, tokens_T, scorer.token_bytes, recipe, scorer.environment)
    random.slide()
    if sgd is not None:
        slide_with_sgd(random, sgd)
    if lora is not None:
        with restored_weights(scorer.model), scoring(scorer.model):
            if lora.phases:
                train_on_documents(random, [Document(0, PHASE_CHUNK_TOKENS)], lora)
            scorer.model.requires_grad_(False)
            longest = Document(0, scorer.seq_len + lora.chunk_tokens)
            DocumentScorer(random, lora, random.new_record()).add_batch([longest])
