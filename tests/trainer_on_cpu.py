"""Trainers of tiny models on made-up tokens, for tests of the training loop."""

from pathlib import Path

import numpy as np
import torch
from shard_files import write_shards

from trainer.config import Recipe
from trainer.environment import Environment
from trainer.eval_config import EvalConfig
from trainer.events import Event
from trainer.loop import Trainer
from trainer.model import Gpt, new_model
from trainer.model_config import LoopConfig, ModelConfig
from trainer.store_config import QuantConfig
from trainer.train_config import ScheduleConfig

NUM_TOKENS = 4000
LOOP = LoopConfig(first_layer=1, last_layer=1, passes=3, start_fraction=0.5)
TINY = Recipe(
    model=ModelConfig(vocab_size=32, num_layers=3, model_dim=16, num_heads=2, num_kv_heads=1),
    schedule=ScheduleConfig(train_batch_tokens=64, train_seq_len=16),
    quant=QuantConfig(matrix_bits=4, passthrough_numel=0, scale_is_floored=False),
    evaluation=EvalConfig(stride=16),
)


def write_tokens(folder: Path) -> np.ndarray:
    """A training shard of random tokens of TINY's vocabulary; returns them."""
    tokens = np.random.default_rng(0).integers(0, 32, NUM_TOKENS)
    write_shards(folder, "train", [NUM_TOKENS], tokens)
    return tokens


def environment_of(folder: Path, rank: int = 0, world_size: int = 1) -> Environment:
    """An eager CPU rank, which agrees with no other. One thread, as open_device has it."""
    torch.set_num_threads(1)
    return Environment(
        rank=rank,
        world_size=world_size,
        device=torch.device("cpu"),
        compute_dtype=torch.float32,
        is_compiled=False,
        control_group=None,
        data_path=folder,
        tokenizer_path=folder,
        seed=7,
        run_id="test",
    )


def lively_model(config: ModelConfig, seed: int = 0) -> Gpt:
    """A model without the matrices of zeros that would hide what layers do."""
    model = new_model(config, torch.float32, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def trainer_of(folder: Path, recipe: Recipe, events: list[Event] | None = None) -> Trainer:
    """A trainer of a lively model over the folder's tokens."""
    emit = [].append if events is None else events.append
    return Trainer(lively_model(recipe.model), recipe, environment_of(folder), emit)
