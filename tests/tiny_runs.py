"""Whole runs of the trainer in this process on recipes that take parts of a second, for tests of several modules."""

import json
from pathlib import Path

from trainer.config import Budget, Recipe
from trainer.eval_config import EvalConfig
from trainer.main import run
from trainer.model_config import ModelConfig
from trainer.result import Failure, Measurement, outcome_from_dict
from trainer.store_config import QuantConfig
from trainer.train_config import ScheduleConfig

TINY = Recipe(
    model=ModelConfig(num_layers=2, model_dim=32, num_heads=2, num_kv_heads=1),
    schedule=ScheduleConfig(train_batch_tokens=512, train_seq_len=64, warmdown_fraction=0.5),
    quant=QuantConfig(passthrough_numel=512, scale_is_floored=False),
    evaluation=EvalConfig(stride=32),
)
CODE_PATH = Path(__file__)  # any file: its bytes are counted
BUDGET = Budget(train_tokens=4096, eval_tokens=1024)


def outcome_of(folder: Path, recipe: Recipe, budget: Budget = BUDGET) -> Measurement | Failure:
    """How a run in the working folder ended."""
    exit_code = run(recipe, budget, CODE_PATH)
    outcome = outcome_from_dict(json.loads((folder / "result.json").read_text()))
    assert exit_code == (0 if isinstance(outcome, Measurement) else 1)
    return outcome


def measurement_of(folder: Path, recipe: Recipe, budget: Budget = BUDGET) -> Measurement:
    """What a run that must succeed measured."""
    outcome = outcome_of(folder, recipe, budget)
    assert isinstance(outcome, Measurement), outcome
    return outcome


def failure_of(folder: Path, recipe: Recipe, budget: Budget = BUDGET) -> Failure:
    """How a run that must fail failed."""
    outcome = outcome_of(folder, recipe, budget)
    assert isinstance(outcome, Failure), outcome
    return outcome
