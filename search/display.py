"""What a person sees while a study runs: a live table on a terminal, plain lines elsewhere."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from search.promote import best_feasible
from search.promotion_rule import num_runs
from search.rung_table import short
from search.spec import StudySpec
from search.trials import TrialRow, TrialStatus
from trainer.config import Budget

PLAIN_SECONDS = 10.0  # between two lines about the same run where there is no terminal
STYLES = {
    TrialStatus.FEASIBLE: "green",
    TrialStatus.INFEASIBLE: "yellow",
    TrialStatus.STOPPED: "dim",
    TrialStatus.DUPLICATE: "dim",
}


@dataclass
class _Rung:
    """What is shown of one rung.

    Attributes:
        target: trials that it is to have, as far as is known.
        running: latest progress of its runs, by trial number.
        told: trials that have ended since it was taken up at began_at.
    """

    target: int
    began_at: float
    rows: dict[int, TrialRow]
    running: dict[int, dict[str, Any]] = field(default_factory=dict[int, dict[str, Any]])
    told: int = 0


class Display:
    """A LoopObserver that shows; use it as a context manager around the loop.

    Args:
        clock: seconds since any fixed moment.
    """

    def __init__(self, console: Console, spec: StudySpec, clock: Callable[[], float]) -> None:
        self._console, self._spec, self._clock = console, spec, clock
        self._rungs: dict[str, _Rung] = {}  # those taken up and not finished
        self._printed_at: dict[tuple[str, int], float] = {}
        self._live = Live(get_renderable=self._render, console=console, refresh_per_second=2, transient=True)

    def __enter__(self) -> Self:
        """Take over the bottom of the terminal, if there is one."""
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the terminal back."""
        self._live.stop()

    def rung_started(self, rung: str, rows: Sequence[TrialRow]) -> None:
        """A rung is taken up."""
        spec = next(one for one in self._spec.rungs if one.name == rung)
        planned = spec.trials or num_runs(spec.promote or 0, len(spec.seeds), self._spec.promotion.rule)
        target = max(planned, len(rows))
        shown = _Rung(target, self._clock(), {row.number: row for row in rows})
        self._rungs[rung] = shown
        self._print(f"[bold]{rung}[/bold] ({describe_budget(spec.to_budget(), spec.set)} a run): {_counts(shown)}")

    def trial_started(self, rung: str, number: int, run_id: str) -> None:
        """A run was submitted."""
        self._rungs[rung].running[number] = {}

    def trial_progress(self, rung: str, number: int, values: Mapping[str, Any]) -> None:
        """Latest progress of a run."""
        self._rungs[rung].running[number] = dict(values)
        is_due = self._clock() - self._printed_at.get((rung, number), 0.0) >= PLAIN_SECONDS
        if not self._console.is_terminal and is_due:
            self._printed_at[rung, number] = self._clock()
            self._print(f"{rung}/{number}: {describe_progress(values)}; {self._summary(rung)}")

    def trial_finished(self, row: TrialRow) -> None:
        """A trial was told."""
        shown = self._rungs[row.rung]
        shown.running.pop(row.number, None)
        shown.rows[row.number] = row
        shown.told += 1
        self._print(describe_trial(row))

    def rung_finished(self, rung: str, rows: Sequence[TrialRow]) -> None:
        """Nothing of the rung is left to run."""
        shown = self._rungs.pop(rung)
        shown.rows, shown.running = {row.number: row for row in rows}, {}
        self._print(f"[bold]{rung}[/bold] finished: {_counts(shown)}{_best(shown)}")

    def _print(self, line: str) -> None:
        # One event is one line, however narrow the terminal or the log that is grepped.
        self._console.print(line, highlight=False, soft_wrap=True)

    def _time_left(self, shown: _Rung) -> str:
        waiting = max(shown.target - sum(not row.is_open for row in shown.rows.values()), 0)
        if not shown.told or not waiting:
            return ""
        seconds = (self._clock() - shown.began_at) / shown.told * waiting
        return f"; about {seconds / 60:.0f} min left" if seconds >= 90 else f"; about {seconds:.0f} s left"

    def _summary(self, rung: str) -> str:
        shown = self._rungs[rung]
        return f"{_counts(shown)} of {shown.target}{_best(shown)}{self._time_left(shown)}"

    def _render(self) -> RenderableType:
        table = Table.grid(padding=(0, 2))
        for rung, shown in self._rungs.items():
            for number, values in sorted(shown.running.items()):
                bar = ProgressBar(total=1.0, completed=float(values.get("progress", 0.0)), width=20)
                table.add_row(f"{rung}/{number}", bar, describe_progress(values))
        lines = [f"{rung}: {self._summary(rung)}" for rung in self._rungs] or ["starting"]
        return Group(table, *(Text(line, style="bold", no_wrap=True, overflow="ellipsis") for line in lines))


def _counts(shown: _Rung) -> str:
    counts = Counter(row.status for row in shown.rows.values() if not row.is_open)
    parts = [f"{count} {status.value}" for status, count in sorted(counts.items())]
    if shown.running:
        parts.append(f"{len(shown.running)} running")
    return ", ".join(parts) or "no trial yet"


def _best(shown: _Rung) -> str:
    best = best_feasible(list(shown.rows.values()))
    return "" if best is None else f"; best val_bpb {best.val_bpb:.4f} (trial {best.number})"


def describe_progress(values: Mapping[str, Any]) -> str:
    """A run's progress in a few words."""
    parts = [str(values.get("phase", "starting"))]
    if "step" in values:
        parts.append(f"step {values['step']} ({values['progress']:.0%})")
        parts.append(f"loss {values['train_loss']:.3f}")
        parts.append(f"{values['tokens_per_second']:,.0f} tokens/s")
    return ", ".join(parts)


def describe_budget(budget: Budget, changes: Mapping[str, Any]) -> str:
    """How much of a recipe a run is, and what it changes in it, in a few words."""
    length = f"{budget.train_tokens:,} tokens" if budget.train_tokens else f"{budget.train_seconds:g} s"
    gpus = "" if budget.world_size == 1 else f" on {budget.world_size} GPUs"
    return ", ".join([length + gpus, *(f"{path} {short(value)}" for path, value in changes.items())])


def describe_trial(row: TrialRow) -> str:
    """How a trial ended, as one line with rich's markup."""
    style = STYLES.get(row.status, "red")
    parts = [f"{row.rung}/{row.number}: [{style}]{row.status.value}[/{style}]"]
    if row.val_bpb is not None and row.artifact_bytes is not None:
        parts.append(f"val_bpb {row.val_bpb:.4f}, {row.artifact_bytes:,} bytes, {row.gpu_seconds:.0f} s")
    if row.reason:
        parts.append(escape(row.reason))
    return "  ".join(parts)
