"""The score that counts: of sliding windows, or of whichever test-time training the recipe has."""

from trainer.adapt_lora import score_with_lora
from trainer.adapt_sgd import slide_with_sgd
from trainer.evaluate import Record, Score, Scorer


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
