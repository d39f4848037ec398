"""Where a study stands, as plain data and as tables: what status and run print, and what status --json holds."""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from search.ledger import Ledger, RunState
from search.promote import best_feasible, pareto_front, top_recipes
from search.store import Storage, load_rungs
from search.study import read_rows
from search.trials import TrialRow, TrialStatus

FEWEST_RANKED = 3  # recipes below which a rank correlation says nothing


def study_status(storage: Storage, ledger: Ledger, study: str) -> dict[str, Any]:
    """Where a study stands, ready for JSON.

    Raises:
        StoreError: there is no such study, or the storage does not answer.
    """
    rungs = {name: read_rows(optuna, name) for name, optuna in load_rungs(storage, study).items()}
    runs = ledger.runs(study)
    names = list(rungs)
    return {
        "study": study,
        "gpu_seconds": sum(run.gpu_seconds for run in runs),
        "rungs": [rung_status(name, rungs[name]) for name in names],
        "rank_correlations": [
            {"from": low, "to": high, **rank_correlation(rungs[low], rungs[high])}
            for low, high in itertools.pairwise(names)
        ],
        "running": [
            {"rung": run.rung, "trial": run.trial_number, "host": run.host, "run_id": run.run_id, **run.progress}
            for run in runs
            if run.state is RunState.RUNNING
        ],
    }


def rung_status(name: str, rows: Sequence[TrialRow]) -> dict[str, Any]:
    """One rung: trials by status, the best feasible one, the Pareto front, every finished trial."""
    best = best_feasible(rows)
    return {
        "rung": name,
        "trials": dict(sorted(Counter(row.status.value for row in rows).items())),
        "gpu_seconds": sum(row.gpu_seconds for row in rows),
        "best": None if best is None else trial_facts(best),
        "pareto_front": [trial_facts(row) for row in pareto_front(rows)],
        "finished": [trial_facts(row) for row in rows if not row.is_open],
    }


def trial_facts(row: TrialRow) -> dict[str, Any]:
    """What a table says of one trial."""
    return {
        "trial": row.number,
        "status": row.status.value,
        "val_bpb": row.val_bpb,
        "artifact_bytes": row.artifact_bytes,
        "seed": row.attributes.get("seed"),
        "promoted_from": row.attributes.get("promoted_from"),
        "gpu_seconds": row.gpu_seconds,
        "reason": row.reason,
        "params": dict(row.params),
    }


def rank_correlation(low: Sequence[TrialRow], high: Sequence[TrialRow]) -> dict[str, Any]:
    """Spearman's correlation of mean val_bpb over the recipes measured in both rungs; None for fewer than three.

    A proxy that does not rank like the rung it feeds is not worth its GPU time.
    """
    low_scores, high_scores = mean_scores(low), mean_scores(high)
    shared = sorted(low_scores.keys() & high_scores.keys())
    if len(shared) < FEWEST_RANKED:
        return {"recipes": len(shared), "spearman": None}
    import scipy.stats  # takes a second, and few calls come this far

    result: Any = scipy.stats.spearmanr([low_scores[key] for key in shared], [high_scores[key] for key in shared])
    return {"recipes": len(shared), "spearman": float(result.statistic)}


def mean_scores(rows: Sequence[TrialRow]) -> dict[str, float]:
    """Mean measured val_bpb by recipe over its own runs, infeasible ones included: their score ranks as well as any."""
    scores: dict[str, list[float]] = {}
    for row in rows:
        is_measured = row.status in {TrialStatus.FEASIBLE, TrialStatus.INFEASIBLE} and not row.is_copy
        if row.val_bpb is not None and is_measured:
            scores.setdefault(row.attributes["recipe_hash"], []).append(row.val_bpb)
    return {key: sum(values) / len(values) for key, values in scores.items()}


def rung_table(name: str, rows: Sequence[TrialRow], most: int = 5) -> Table:
    """The best recipes of a rung, what they were promoted from and the params they were found by."""
    table = Table(title=f"{name}: best of {sum(not row.is_open for row in rows)} trials", title_justify="left")
    for column in ("trial", "val_bpb", "bytes", "seed", "from", "params"):
        table.add_column(column, justify="right" if column in {"trial", "val_bpb", "bytes", "seed"} else "left")
    for row in top_recipes(rows, most):
        table.add_row(
            str(row.number),
            f"{row.val_bpb:.4f}",
            f"{row.artifact_bytes:,}",
            str(row.attributes.get("seed", "")),
            str(row.attributes.get("promoted_from", "")),
            describe_params(row.params),
        )
    return table


def describe_params(params: Mapping[str, Any]) -> str:
    """Searched fields by their last name, numbers short."""
    return " ".join(
        f"{path.rpartition('.')[2]}={value:.3g}" if isinstance(value, float) else f"{path.rpartition('.')[2]}={value}"
        for path, value in params.items()
    )


def summary_lines(status: Mapping[str, Any]) -> list[str]:
    """The study in a few lines: counts by rung, rank correlations, GPU time, what runs now."""
    lines: list[str] = []
    for rung in status["rungs"]:
        counts = ", ".join(f"{count} {name}" for name, count in rung["trials"].items()) or "no trial yet"
        front = ", ".join(str(one["trial"]) for one in rung["pareto_front"])
        lines.append(f"{rung['rung']}: {counts}" + (f"; Pareto front: trials {front}" if front else ""))
    for pair in status["rank_correlations"]:
        value = "needs 3 shared recipes" if pair["spearman"] is None else f"{pair['spearman']:.2f}"
        lines.append(f"rank correlation {pair['from']} to {pair['to']}: {value} ({pair['recipes']} recipes in both)")
    lines.append(f"GPU-seconds spent (process-seconds on CPU): {status['gpu_seconds']:,.0f}")
    for run in status["running"]:
        lines.append(f"running: {run['rung']}/{run['trial']} on {run['host'] or 'no host yet'}, {run.get('phase', '')}")
    return lines
