"""A lively tiny model and token streams, for tests of scoring and of adaptation to what is scored."""

from pathlib import Path

import torch

from trainer.config import Recipe
from trainer.environment import Environment, open_environment
from trainer.eval_config import EvalConfig
from trainer.evaluate import Scorer
from trainer.layers import BOS_ID
from trainer.model import Gpt, new_model
from trainer.model_config import ModelConfig
from trainer.tokenizer import TokenBytes

VOCAB = 24
TABLE = TokenBytes(
    base_V=torch.arange(VOCAB, dtype=torch.int16) % 5,
    lead_V=torch.arange(VOCAB) % 3 == 0,
    boundary_V=torch.arange(VOCAB) < 4,
)
CONFIG = ModelConfig(vocab_size=VOCAB, num_layers=2, model_dim=16, num_heads=2, num_kv_heads=1, embed_init_std=1.0)


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


def scorer_of(tokens: torch.Tensor, evaluation: EvalConfig, config: ModelConfig = CONFIG) -> Scorer:
    return Scorer(lively_model(config), tokens, TABLE, Recipe(model=config, evaluation=evaluation), ENVIRONMENT)


def random_tokens(count: int, seed: int, bos_every: int = VOCAB) -> torch.Tensor:
    """Tokens with a BOS at about every bos_every-th place."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(2, VOCAB, (count,), generator=generator)
    return tokens.masked_fill(torch.rand(count, generator=generator) < 1 / bos_every, BOS_ID)
