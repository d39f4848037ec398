"""Studies on a simulated machine whose outcomes a test writes down."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simulation import Machine, World, failure, make_spec, measured_by_recipe

from search.run import Run
from search.trials import TrialRow
from trainer.result import Failure, FailureKind, Measurement

Outcome = Measurement | Failure | None


def machine(folder: Path, world: World | None = None, **changes: Any) -> Machine:
    return Machine(folder, make_spec(**changes), world or World())


def one_rung(trials: int = 4, **more: Any) -> list[dict[str, Any]]:
    return [{"name": "proxy", "budget": {"train_tokens": 1000}, "trials": trials, **more}]


def statuses(rows: list[TrialRow]) -> list[str]:
    return [row.status.value for row in rows]


class Script:
    """Outcomes in the order of submission; after them, what the recipe decides."""

    def __init__(self, *outcomes: Outcome | str) -> None:
        self.left = list(outcomes)

    def __call__(self, run: Run, values: Mapping[str, Any]) -> Outcome:
        outcome = self.left.pop(0) if self.left else "recipe"
        return measured_by_recipe(run, values) if isinstance(outcome, str) else outcome


LOST = None
MACHINE = failure(FailureKind.MACHINE)
DIVERGED = failure(FailureKind.DIVERGED)
