"""The note that the dashboard shows beside a rung: which recipe is most likely its best."""

from collections.abc import Mapping, Sequence
from typing import Any

import optuna

from search.trials import TrialRow
from search.winner import Terms, standings

MOST_SHOWN = 5  # five lines of a table stay far below the 2045 characters that one attribute may have
# Where Optuna Dashboard keeps a study's note; its own function for that imports the whole dashboard.
VERSION, TEXT = "dashboard:note_ver", "dashboard:note_str:0"


def write_note(study: optuna.Study, rows: Sequence[TrialRow], terms: Terms) -> None:
    """Put the standings of a rung's recipes beside its study, where they have changed."""
    text = note_of([one.facts() for one in standings(rows, terms)[:MOST_SHOWN]])
    storage, study_id = study._storage, study._study_id  # pyright: ignore[reportPrivateUsage] (as the dashboard does)
    stored = storage.get_study_system_attrs(study_id)
    if text and text != stored.get(TEXT):
        storage.set_study_system_attr(study_id, VERSION, stored.get(VERSION, 0) + 1)
        storage.set_study_system_attr(study_id, TEXT, text)


def note_of(best: Sequence[Mapping[str, Any]]) -> str:
    """The likeliest best recipes as Markdown; empty where none is feasible."""
    if not best:
        return ""
    lines = [
        f"Most likely the best: trial {best[0]['trial']}",
        "",
        "| trial | val_bpb over seeds | seeds | is the best |",
        "|--:|--:|--:|--:|",
    ]
    for one in best:
        score = f"{one['val_bpb']:.4f} ± {one['standard_error']:.4f}"
        lines.append(f"| {one['trial']} | {score} | {one['seeds']} | {one['probability']:.0%} |")
    return "\n".join(lines)
