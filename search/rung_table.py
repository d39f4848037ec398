"""The best recipes of a rung side by side: what status and run print, a column for each, in 80 characters."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from search.decision import ATTRIBUTE
from search.spec import StudySpec
from search.status import SURE, terms_by_rung
from search.trials import TrialRow
from search.winner import Standing, Terms, standings

MOST_RECIPES = 5
MOST_PARAMS = 24  # where more differ, status --json has all


def rung_tables(spec: StudySpec, rungs: Mapping[str, Sequence[TrialRow]]) -> list[Group]:
    """The table of each rung of which a trial has ended.

    Args:
        rungs: trials by rung.
    """
    terms = terms_by_rung(spec, rungs)
    return [rung_table(name, rows, terms[name]) for name, rows in rungs.items() if not all(r.is_open for r in rows)]


def rung_table(name: str, rows: Sequence[TrialRow], terms: Terms) -> Group:
    """The recipes of a rung that are most likely the best, why each is there, and how they differ."""
    shown = standings(rows, terms)[:MOST_RECIPES]
    fields = [one.row.fields for one in shown]
    differing = differing_fields(fields)
    same = {path for one in fields for path in one} - set(differing)
    table = Table(box=box.SIMPLE_HEAD, padding=0)
    table.add_column("trial")
    for one in shown:
        table.add_column(str(one.row.number), justify="right")
    for label, cells in facts_of(shown).items():
        if any(cells):
            table.add_row(label, *cells)
    table.add_section()
    for path in differing[:MOST_PARAMS]:
        table.add_row(path.rpartition(".")[2], *(short(one[path]) if path in one else "" for one in fields))
    left_out = [
        *([f"{len(differing) - MOST_PARAMS} more in status --json"] if len(differing) > MOST_PARAMS else []),
        *([f"{len(same)} are the same"] if len(shown) > 1 and same else []),
    ]
    title = Text(f"{name}: best of {sum(not row.is_open for row in rows)} trials")
    return Group(title, table, *([Text(f" params: {', '.join(left_out)}")] if left_out else []))


def facts_of(shown: Sequence[Standing]) -> dict[str, list[str]]:
    """Rows of the table by their label, a cell a recipe; empty cells where there is nothing to say."""
    decisions: list[Mapping[str, Any]] = [one.row.attributes.get(ATTRIBUTE) or {} for one in shown]
    return {
        "val_bpb": [f"{one.mean:.4f}" for one in shown],
        "± noise": [f"{one.standard_error:.4f}" for one in shown],
        "seeds": [str(one.seeds) for one in shown],
        "is best": [f"{one.probability:.0%}" for one in shown],
        "bytes": [f"{one.row.artifact_bytes:,}" for one in shown],
        "all seeds fit": ["" if one.fits > SURE else f"{one.fits:.0%}" for one in shown],
        "from": [str(one.row.attributes.get("promoted_from", "")) for one in shown],
        "why": [decision.get("reason", "") for decision in decisions],
        "expected": [decimal(decision.get("mean")) for decision in decisions],
        "± model": [decimal(decision.get("sd")) for decision in decisions],
        "next best": [next((one["trial"] for one in decision.get("alternatives", ())), "") for decision in decisions],
    }


def decimal(value: float | None) -> str:
    """A score or a deviation in bits per byte; empty where there is none."""
    return "" if value is None else f"{value:.4f}"


def differing_fields(fields: Sequence[Mapping[str, Any]]) -> list[str]:
    """Paths on which recipes differ, in their order; all of them where there is one recipe."""
    paths = list(dict.fromkeys(path for one in fields for path in one))
    return [path for path in paths if len(fields) == 1 or len({repr(one.get(path)) for one in fields}) > 1]


def short(value: Any) -> str:
    """A value of a field in few characters, else as a study file has it."""
    if isinstance(value, float):
        return f"{value:.3g}"
    return value if isinstance(value, str) else json.dumps(value)
