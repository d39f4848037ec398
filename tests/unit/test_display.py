"""What is printed while a study runs, where there is no terminal."""

import io

import pytest
from rich.console import Console
from simulation import make_spec

from search.display import Display, describe_budget
from trainer.config import Budget

PROGRESS = {"phase": "train", "step": 3, "progress": 0.5, "train_loss": 2.5, "tokens_per_second": 1000.0}


@pytest.mark.parametrize(("rule", "runs"), [("model", 8), ("top", 12)])
def test_a_later_rung_counts_the_further_seeds(rule: str, runs: int) -> None:
    """Four recipes, three seeds: of the two best by the model, of all by the plain rule."""
    rungs = [
        {"name": "proxy", "budget": {"train_tokens": 1000}, "trials": 8},
        {"name": "full", "budget": {"train_tokens": 9000}, "promote": 4, "seeds": [1, 2, 3]},
    ]
    printed = io.StringIO()
    console = Console(file=printed)
    display = Display(console, make_spec(rungs=rungs, promotion={"rule": rule}), lambda: 100.0)
    display.rung_started("full", [])
    display.trial_started("full", 0, "sim-full-0000-1")
    display.trial_progress("full", 0, PROGRESS)
    assert (
        printed.getvalue().splitlines()[-1]
        == f"full/0: train, step 3 (50%), loss 2.500, 1,000 tokens/s; 1 running of {runs}"
    )


def test_what_a_rung_changes_reads_as_in_its_file() -> None:
    changes = {"evaluation.sgd": None, "schedule.train_seq_len": 512, "quant.clip": "sigma", "ema": {}}
    assert (
        describe_budget(Budget(train_seconds=35.0, world_size=2), changes)
        == "35 s on 2 GPUs, evaluation.sgd null, schedule.train_seq_len 512, quant.clip sigma, ema {}"
    )
