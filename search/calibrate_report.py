"""What a calibration found: how each way to run recipes ranks them against what it costs, and which one to take."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from rich.table import Table

from search.correlation import rank_correlation, ranks
from search.spec import StudySpec
from search.spec_rungs import FidelitySpec, RungSpec
from search.spending import HOUR, OVERHEAD_SECONDS
from search.trials import TrialRow


def calibration_report(spec: StudySpec, rungs: Mapping[str, Sequence[TrialRow]]) -> dict[str, Any]:
    """How each candidate ranks against its cost, as JSON.

    Args:
        spec: the calibrating study; its last rung is the one to be predicted.
        rungs: trials by rung.

    Returns:
        candidates, each with what it is (the keys of a rung), its rank correlation (search.correlation) and what
        a run costs: gpu_seconds, dollars (None without a price), share_of_cost of a run of the last rung; last, its
        name; last_cost; and the recommended one's name: the cheapest that is known to rank, None where none is.
    """
    *others, last = spec.rungs
    last_cost = _cost_of(spec, last, rungs[last.name])
    candidates = [_candidate(spec, one, rungs[one.name], rungs[last.name], last_cost) for one in others]
    ranking = [one for one in candidates if one["ranks"]]
    unit = "gpu_seconds" if any(one["dollars"] is None for one in ranking) else "dollars"
    cheapest = min(ranking, key=lambda one: float(one[unit]), default=None)
    return {
        "last": last.name,
        "last_cost": last_cost,
        "candidates": candidates,
        "recommended": cheapest and cheapest["rung"],
    }


def _candidate(
    spec: StudySpec,
    rung: RungSpec,
    rows: Sequence[TrialRow],
    last: Sequence[TrialRow],
    last_cost: Mapping[str, Any],
) -> dict[str, Any]:
    pair, cost = rank_correlation(rows, last), _cost_of(spec, rung, rows)
    return {
        "rung": rung.name,
        "budget": rung.budget.model_dump(exclude_defaults=True),
        "set": rung.set,
        "tokens_by_speed": rung.tokens_by_speed,
        "accelerator": rung.accelerator,
        **pair,
        **cost,
        "share_of_cost": _share(cost, last_cost),
        "ranks": ranks(pair),
    }


def _cost_of(spec: StudySpec, rung: RungSpec, rows: Sequence[TrialRow]) -> dict[str, Any]:
    """What a run costs, start-up and scoring included: the mean of those measured, else by the rung's seconds."""
    measured = [row.gpu_seconds for row in rows if row.val_bpb is not None and not row.is_copy]
    gpu_seconds = sum(measured) / len(measured) if measured else None
    if gpu_seconds is None and rung.budget.train_seconds is not None:
        gpu_seconds = (rung.budget.train_seconds + OVERHEAD_SECONDS) * rung.budget.world_size
    price = spec.spend.prices.get(rung.price_key)
    dollars = None if price is None or gpu_seconds is None else gpu_seconds / HOUR * price
    return {"gpu_seconds": gpu_seconds, "dollars": dollars, "is_cost_measured": bool(measured)}


def _share(cost: Mapping[str, Any], whole: Mapping[str, Any]) -> float | None:
    """In money where both have a price."""
    units = ("dollars", "gpu_seconds")
    return next((cost[unit] / whole[unit] for unit in units if cost[unit] is not None and whole[unit]), None)


def calibration_table(report: Mapping[str, Any]) -> Table:
    """The report for people."""
    table = Table(title=f"how budgets rank recipes, compared with {report['last']}", title_justify="left")
    is_priced = any(one["dollars"] is not None for one in report["candidates"])
    table.add_column("budget")
    table.add_column("on")
    columns = ["GPU-seconds a run", *(["$ a run"] if is_priced else []), "of the last", "Spearman", "interval"]
    for column in (*columns, "Kendall", "interval", "recipes", "ranks"):
        table.add_column(column, justify="right")
    for one in report["candidates"]:
        table.add_row(
            one["rung"],
            one["accelerator"] or "any",
            _shown(one["gpu_seconds"], ",.1f"),
            *([_shown(one["dollars"], ",.3f")] if is_priced else []),
            _shown(one["share_of_cost"], ".0%"),
            _shown(one["spearman"], ".2f"),
            _interval(one["interval"]),
            _shown(one["kendall"], ".2f"),
            _interval(one["kendall_interval"]),
            str(one["recipes"]),
            {True: "yes", False: "not shown", None: "too few"}[one["ranks"]],
        )
    return table


def _shown(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _interval(ends: Sequence[float] | None) -> str:
    return "" if ends is None else "{:.2f} to {:.2f}".format(*ends)


def advice(report: Mapping[str, Any]) -> str:
    """What to do, in a line."""
    if report["recommended"] is not None:
        return f"Cheapest budget that ranks like {report['last']}: {report['recommended']}"
    return (
        f"No budget is shown to rank like {report['last']}. Run more recipes (--recipes), which narrows the intervals,"
        " or larger shares (--share)"
    )


def as_rung(report: Mapping[str, Any]) -> str:
    """The keys of the recommended rung as a study file has them; empty where none is."""
    found = [one for one in report["candidates"] if one["rung"] == report["recommended"]]
    keys = [{key: one[key] for key in FidelitySpec.model_fields if one[key]} for one in found]
    return "".join(yaml.safe_dump(one, default_flow_style=True, sort_keys=False, width=1000).strip() for one in keys)
