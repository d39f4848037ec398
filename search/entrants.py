"""The recipes of a rung that may go on to the next, as far as they were measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from search.trials import TrialRow, TrialStatus


@dataclass(frozen=True, kw_only=True, slots=True)
class Entrant:
    """A recipe of the source, as far as it was measured there.

    Attributes:
        row: its best run.
        score: mean val_bpb of its runs.
        runs: how many.
    """

    recipe_hash: str
    row: TrialRow
    score: float
    runs: int

    @property
    def name(self) -> str:
        """rung/number of its best run."""
        return f"{self.row.rung}/{self.row.number}"


def entrants(rows: Sequence[TrialRow]) -> list[Entrant]:
    """The measured recipes of a rung that keep their times, best score first; bytes are judged by their prediction."""
    groups: dict[str, list[TrialRow]] = {}
    for row in rows:
        over = {name for name, violation in row.violations.items() if violation > 0}
        if row.is_measured and over <= {"artifact_bytes"}:
            groups.setdefault(row.attributes["recipe_hash"], []).append(row)
    found = [
        Entrant(
            recipe_hash=recipe_hash,
            row=min(runs, key=lambda row: (row.status is not TrialStatus.FEASIBLE, row.attributes["val_bpb"])),
            score=fmean(row.attributes["val_bpb"] for row in runs),
            runs=len(runs),
        )
        for recipe_hash, runs in groups.items()
    ]
    return sorted(found, key=lambda one: (one.score, one.row.number))
