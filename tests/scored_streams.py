"""A lively tiny model, token streams and forms of adaptation, for tests of scoring."""

import dataclasses
from pathlib import Path

import torch
from torch import Tensor

from trainer.config import Recipe
from trainer.environment import Environment, open_environment
from trainer.eval_config import EvalConfig, LoraAdaptConfig, LoraTargets, SgdAdaptConfig
from trainer.evaluate import Scorer
from trainer.layers import BOS_ID
from trainer.model import Gpt, new_model
from trainer.model_config import LoopConfig, ModelConfig
from trainer.tokenizer import TokenBytes

VOCAB = 24
TABLE = TokenBytes(
    base_V=torch.arange(VOCAB, dtype=torch.int16) % 5,
    lead_V=torch.arange(VOCAB) % 3 == 0,
    boundary_V=torch.arange(VOCAB) < 4,
)
CONFIG = ModelConfig(vocab_size=VOCAB, num_layers=2, model_dim=16, num_heads=2, num_kv_heads=1, embed_init_std=1.0)

LENGTH = 8
SGD = SgdAdaptConfig(lr=0.05, epochs=2, chunk_tokens=16)
LORA = LoraAdaptConfig(rank=2, alpha=3.0, lr=0.02, weight_decay=0.1, chunk_tokens=3, batch_documents=3)
LOOPED = dataclasses.replace(CONFIG, num_layers=3, loop=LoopConfig(first_layer=1, last_layer=1, passes=2))
FORMS = {
    "query_value_head": LORA,
    "all": dataclasses.replace(LORA, targets=LoraTargets.ALL, beta1=0.0),
    "keeps_a": dataclasses.replace(LORA, keeps_a=True),
    "phases": dataclasses.replace(LORA, targets=LoraTargets.ALL, phases=2, prefix_fraction=0.6, phase_lr=0.05),
    "phases_and_keeps_a": dataclasses.replace(LORA, keeps_a=True, phases=1, prefix_fraction=0.5, phase_lr=0.05),
    "one_by_one": dataclasses.replace(LORA, batch_documents=1, keeps_a=True),
}


def environment_at(path: Path) -> Environment:
    return open_environment({"DATA_PATH": str(path), "TOKENIZER_PATH": str(path)})


ENVIRONMENT = environment_at(Path(__file__).parent)


def lively_model(config: ModelConfig = CONFIG) -> Gpt:
    """A model whose every weight counts: the matrices that start at zero would hide what attention sees."""
    model = new_model(config, torch.float32, 0)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if name.endswith("proj.weight"):
            parameter.data.normal_(0, 0.3, generator=generator)
    return model


def scorer_of(
    tokens: Tensor, evaluation: EvalConfig, config: ModelConfig = CONFIG, environment: Environment = ENVIRONMENT
) -> Scorer:
    return Scorer(lively_model(config), tokens, TABLE, Recipe(model=config, evaluation=evaluation), environment)


def random_tokens(count: int, seed: int, bos_every: int = VOCAB) -> Tensor:
    """Tokens with a BOS at about every bos_every-th place."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(2, VOCAB, (count,), generator=generator)
    return tokens.masked_fill(torch.rand(count, generator=generator) < 1 / bos_every, BOS_ID)


def sgd_scorer(tokens: Tensor, stride: int = 3, config: SgdAdaptConfig = SGD) -> Scorer:
    return scorer_of(tokens, EvalConfig(seq_len=LENGTH, stride=stride, sgd=config))


def lora_scorer(tokens: Tensor, config: LoraAdaptConfig = LORA, model: ModelConfig = CONFIG) -> Scorer:
    return scorer_of(tokens, EvalConfig(seq_len=LENGTH, stride=4, lora=config), model)
