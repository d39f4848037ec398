"""What a study has spent and what more would go to, as JSON and in a few lines."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from search.run_record import RunRecord
from search.spec import StudySpec
from search.spending import ROUNDING, Spending, word


def spending_status(spec: StudySpec, records: Sequence[RunRecord], first_left: int, now: float) -> dict[str, Any]:
    """Costs so far, what is left of the bounds, and what is still to be run, as JSON.

    Args:
        first_left: trials that the first rung has yet to run.
    """
    spending = Spending(spec, records, now)
    wanted = {rung.name: first_left if rung is spec.rungs[0] else spending.owed(rung) for rung in spec.rungs}
    return {
        "spent": asdict(spending.spent()),
        "bounds": spec.spend.bounds(),
        "left": spending.left(),
        "more_of_first": spending.num_affordable(spec.rungs[0]),
        "to_run": [
            {"rung": rung.name, "runs": wanted[rung.name], **asdict(spending.cost_of(rung).times(wanted[rung.name]))}
            for rung in spec.rungs
        ],
        "refused": {rung.name: why for rung in spec.rungs if (why := spending.refusal(rung)) is not None},
    }


def describe_spending(status: Mapping[str, Any]) -> list[str]:
    """The same in a few lines: what was spent, and what more would go to."""
    bounds = status["bounds"]
    shown = {key: value for key, value in status["spent"].items() if value or key in bounds}
    parts = [_of_bound(key, value, bounds.get(key)) for key, value in shown.items()]
    lines = [f"spent (hours of processes where there are no GPUs): {', '.join(parts) or 'nothing yet'}"]
    wanted = [f"{one['runs']} of {one['rung']} (about {_words(one)})" for one in status["to_run"] if one["runs"]]
    if bounds and wanted:
        missing = {key: sum(one[key] for one in status["to_run"]) - status["left"][key] for key in bounds}
        short = [word(key, value) for key, value in missing.items() if value > ROUNDING and key != "hours"]
        with_more = f"with {' and '.join(short)} more: " if short else ""
        lines.append(f"still to run {with_more}{', '.join(wanted)}")
    if bounds and not wanted:
        first = status["to_run"][0]["rung"]
        lines.append(f"all has run; what is left would hold about {status['more_of_first']} more of {first}")
    lines.extend(f"{rung}: {why}" for rung, why in status["refused"].items())
    return lines


def _of_bound(key: str, value: float, bound: float | None) -> str:
    return word(key, value) if bound is None else f"{word(key, value)} of {word(key, bound)}"


def _words(amount: Mapping[str, Any]) -> str:
    return ", ".join(word(key, amount[key]) for key in ("gpu_hours", "dollars") if amount[key])
