"""Which cheap budget ranks recipes as a study's last rung does: a study of its own that runs some at all of them.

Its recipes are the study's base, its queue and random points of its space; its rungs are shares of the last rung's
budget, and the study's own earlier rungs. Nothing is searched, no size refused and no run stopped early.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from rich.table import Table

from search.correlation import rank_correlation, ranks
from search.errors import SpecError
from search.spec import StudySpec
from search.spec_parts import MOST_LETTERS
from search.trials import TrialRow
from trainer.config import Budget

SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2)
SUFFIX = "-calibration"
ANY_SIZE = 10**12


def calibration_spec(spec: StudySpec, num_recipes: int, shares: Sequence[float] = SHARES) -> StudySpec:
    """The study that calibrates another one's proxies; the same arguments give the same study, which goes on.

    Args:
        num_recipes: that run at every budget.
        shares: of the last rung's seconds or tokens.

    Raises:
        SpecError: they leave no budget below the last rung's.
    """
    last = spec.rungs[-1]
    budgets = candidate_budgets(spec, shares)
    if len(budgets) < 2:
        raise SpecError(f"calibrate: shares must leave a budget below {last.name}'s, got {', '.join(map(str, shares))}")
    given: dict[str, Any] = spec.model_dump(mode="json", exclude_unset=True)
    values = given | {
        "name": spec.name[: MOST_LETTERS - len(SUFFIX)] + SUFFIX,
        "objectives": ["val_bpb"],
        "space": {name: part for name, part in given["space"].items() if name != "solve"},
        "limits": _limits(spec, budgets),
        "rungs": [_rung(spec, budget, num_recipes, is_first=place == 0) for place, budget in enumerate(budgets)],
        "sampler": {"kind": "random", "seed": spec.sampler.seed or 0},
        "promotion": {"rule": "top", "stop_behind": None},
        "early_stop": None,
    }
    try:
        return StudySpec.model_validate(values)
    except ValidationError as error:
        raise SpecError(f"calibrate: expected a study that runs at every share, got {error}") from error


def candidate_budgets(spec: StudySpec, shares: Sequence[float]) -> list[Budget]:
    """Budgets in the order of their cost, the last rung's at the end."""
    last = spec.rungs[-1].to_budget()
    scaled = [_scaled(last, share) for share in shares if 0 < share < 1]
    own = [budget for rung in spec.rungs[:-1] if (budget := rung.to_budget()) != last]
    return [*sorted({*scaled, *own}, key=lambda budget: (_cost(budget, last), str(budget))), last]


def _scaled(budget: Budget, share: float) -> Budget:
    tokens, seconds = budget.train_tokens, budget.train_seconds
    return Budget(
        train_tokens=None if tokens is None else max(round(tokens * share), 1),
        train_seconds=None if seconds is None else seconds * share,
        world_size=budget.world_size,
        eval_tokens=budget.eval_tokens,
    )


def _cost(budget: Budget, last: Budget) -> float:
    """GPU-seconds, or tokens where the last rung counts those; a budget of the other kind comes after."""
    amount = budget.train_tokens if last.train_tokens is not None else budget.train_seconds
    return float("inf") if amount is None else amount * (1 if last.train_tokens is not None else budget.world_size)


def _limits(spec: StudySpec, budgets: Sequence[Budget]) -> Mapping[str, float]:
    longest = max((budget.train_seconds or 0.0 for budget in budgets), default=0.0)
    return {
        "artifact_bytes": ANY_SIZE,
        "train_seconds": max(spec.limits.train_seconds, longest),
        "eval_seconds": spec.limits.eval_seconds,
    }


def _rung(spec: StudySpec, budget: Budget, num_recipes: int, is_first: bool) -> Mapping[str, Any]:
    """The rung of a budget, on the accelerator of the study's own rung of that budget, or of its last one."""
    known = next((rung for rung in spec.rungs if rung.to_budget() == budget), spec.rungs[-1])
    length = f"{budget.train_tokens}-tokens" if budget.train_tokens else f"{budget.train_seconds:g}-seconds"
    name = length.replace(".", "_") + (f"-{budget.world_size}-gpus" if budget.world_size > 1 else "")
    given = {
        "train_tokens": budget.train_tokens,
        "train_seconds": budget.train_seconds,
        "eval_tokens": budget.eval_tokens,
    }
    return {
        "name": name if budget.eval_tokens is None else f"{name}-eval-{budget.eval_tokens}",
        "budget": {key: value for key, value in given.items() if value is not None} | {"world_size": budget.world_size},
        "trials" if is_first else "promote": num_recipes,
        "seeds": spec.rungs[-1].seeds[:1],
        "accelerator": known.accelerator,
    }


def calibration_report(rungs: Mapping[str, Sequence[TrialRow]]) -> dict[str, Any]:
    """How each budget ranks against its cost, as JSON.

    Args:
        rungs: trials by rung, cheapest first, the one to be predicted last.

    Returns:
        candidates, each with its rank correlation (search.correlation) and cost, and the recommended one's name: the
        cheapest that is known to rank, None where none is.
    """
    *names, last = rungs
    candidates = [_candidate(name, rungs[name], rungs[last]) for name in names]
    ranking = [one for one in candidates if one["ranks"]]
    cheapest = min(ranking, key=lambda one: float(one["gpu_seconds"]), default=None)
    return {"last": last, "candidates": candidates, "recommended": cheapest and cheapest["rung"]}


def _candidate(name: str, rows: Sequence[TrialRow], last: Sequence[TrialRow]) -> dict[str, Any]:
    pair, cost, full_cost = rank_correlation(rows, last), _mean_cost(rows), _mean_cost(last)
    share = cost / full_cost if full_cost else None
    return {"rung": name, **pair, "gpu_seconds": cost, "share_of_cost": share, "ranks": ranks(pair)}


def _mean_cost(rows: Sequence[TrialRow]) -> float:
    """GPU-seconds that a measured run held, start-up and scoring included."""
    costs = [row.gpu_seconds for row in rows if row.val_bpb is not None and not row.is_copy]
    return sum(costs) / len(costs) if costs else 0.0


def calibration_table(report: Mapping[str, Any]) -> Table:
    """The report for people."""
    table = Table(title=f"how budgets rank recipes, compared with {report['last']}", title_justify="left")
    for column in ("budget", "GPU-seconds a run", "of the last", "Spearman", "interval", "Kendall", "recipes", "ranks"):
        table.add_column(column, justify="left" if column == "budget" else "right")
    for one in report["candidates"]:
        is_known = one["interval"] is not None
        table.add_row(
            one["rung"],
            f"{one['gpu_seconds']:,.1f}",
            "" if one["share_of_cost"] is None else f"{one['share_of_cost']:.0%}",
            f"{one['spearman']:.2f}" if is_known else "",
            "{:.2f} to {:.2f}".format(*one["interval"]) if is_known else "",
            f"{one['kendall']:.2f}" if is_known else "",
            str(one["recipes"]),
            {True: "yes", False: "not shown", None: "too few"}[one["ranks"]],
        )
    return table


def advice(report: Mapping[str, Any]) -> str:
    """What to do, in a line."""
    if report["recommended"] is not None:
        return f"Cheapest budget that ranks like {report['last']}: {report['recommended']}"
    return (
        f"No budget is shown to rank like {report['last']}. Run more recipes (--recipes), which narrows the intervals,"
        " or larger shares (--share)"
    )
