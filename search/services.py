"""What the loop works with, who hears what it does, and how it is stopped."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from search.ledger import Ledger
from search.run import Runner
from search.store import ArtifactStore
from search.trials import TrialRow
from trainer.config import Budget, Recipe


class LoopObserver(Protocol):
    """Hears what the loop does, for a live display. Calls come from the driver's thread."""

    def rung_started(self, rung: str, rows: Sequence[TrialRow]) -> None:
        """A rung is taken up, with the trials it has so far."""
        ...

    def trial_started(self, rung: str, number: int, run_id: str) -> None:
        """A run was submitted, or one of an earlier driver is being waited for."""
        ...

    def trial_progress(self, rung: str, number: int, values: Mapping[str, Any]) -> None:
        """Latest progress of a run: phase, step, progress, train_loss, tokens_per_second."""
        ...

    def trial_finished(self, row: TrialRow) -> None:
        """A trial was told, with or without a run; repeats that are dropped are not heard of."""
        ...

    def rung_finished(self, rung: str, rows: Sequence[TrialRow]) -> None:
        """Nothing of the rung is left to run."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Services:
    """What the loop works with.

    Attributes:
        bundle: packs a recipe and a budget into the bytes of train_gpt.py.
        predict_bytes: artifact bytes of a recipe, given the bytes of its code and the trials so far.
        runner: executes runs; whoever made it closes it, after the loop.
        clock: epoch seconds.
        sleep: waits so many seconds; used where the runner has nothing to wait for.
        runs_folder: absolute; every worker sees it under this path.
    """

    ledger: Ledger
    artifacts: ArtifactStore
    bundle: Callable[[Recipe, Budget], bytes]
    predict_bytes: Callable[[Recipe, int, Sequence[TrialRow]], int]
    runner: Runner
    clock: Callable[[], float]
    sleep: Callable[[float], None]
    runs_folder: Path
    observer: LoopObserver


@dataclass(slots=True)
class Brake:
    """How the user stops the loop, from a signal handler or another thread.

    Attributes:
        trials_left: how many more trials may be taken up; None for no bound.
    """

    is_stopping: bool = False
    is_cancelling: bool = False
    trials_left: int | None = None

    def press(self) -> None:
        """Once: nothing more is asked, and runs finish. Twice: they are cancelled."""
        self.is_cancelling = self.is_stopping
        self.is_stopping = True

    @property
    def may_ask(self) -> bool:
        """Whether another trial may be taken up."""
        return not self.is_stopping and (self.trials_left is None or self.trials_left > 0)

    def count_trial(self) -> None:
        """One more trial was taken up."""
        if self.trials_left is not None:
            self.trials_left -= 1
