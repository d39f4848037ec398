"""Where a study stands, as plain data and in a few lines: what status and run print, and what status --json holds."""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from search.correlation import correlation_warning, describe_correlation, rank_correlation
from search.decision import ATTRIBUTE
from search.early_stop import describe_early_stop, early_stop_status
from search.expected import expected_better
from search.fallback import taking_part
from search.plan import counted
from search.promote import pareto_front
from search.run_record import RunRecord, RunState
from search.spec import StudySpec
from search.spending_report import describe_spending, spending_status
from search.trials import TrialRow
from search.winner import Terms, standings, terms_of

SURE = 0.99  # probability above which it needs no words


def study_status(
    spec: StudySpec, rungs: Mapping[str, Sequence[TrialRow]], runs: Sequence[RunRecord], now: float
) -> dict[str, Any]:
    """Where a study stands, ready for JSON.

    Args:
        rungs: its trials by rung.
        runs: of the study.
        now: epoch seconds.
    """
    first = spec.rungs[0]
    by_rung = [rung_status(name, rungs[name], terms) for name, terms in terms_by_rung(spec, rungs).items()]
    best = best_of(by_rung)
    expected = expected_better(spec, rungs, best and rungs[best[0]][best[1]["trial"]])
    first_left = max((first.trials or 0) - counted(rungs[first.name], first.seeds[0]), 0)
    return {
        "study": spec.name,
        "gpu_seconds": sum(run.gpu_seconds for run in runs),
        "spending": spending_status(spec, runs, first_left, now),
        "rungs": by_rung,
        "expected_better": None if expected is None else expected.facts(),
        "rank_correlations": [
            {"from": low, "to": high, **rank_correlation(rungs[low], rungs[high])}
            for low, high in itertools.pairwise(taking_part(rungs))
        ],
        "running": [
            {"rung": run.rung, "trial": run.trial_number, "host": run.host, "run_id": run.run_id, **run.progress}
            for run in runs
            if run.state is RunState.RUNNING
        ],
    }


def terms_by_rung(spec: StudySpec, rows_of: Mapping[str, Sequence[TrialRow]]) -> dict[str, Terms]:
    """What the recipes of each rung are compared by."""
    limit = spec.limits.artifact_bytes
    return {rung.name: terms_of(rung.name, rows_of, rung.seeds, limit) for rung in spec.rungs}


def rung_status(name: str, rows: Sequence[TrialRow], terms: Terms) -> dict[str, Any]:
    """One rung: trials by status, the recipe that is most likely the best, the Pareto front, every finished trial."""
    ranked = standings(rows, terms)
    return {
        "rung": name,
        "trials": dict(sorted(Counter(row.status.value for row in rows).items())),
        "gpu_seconds": sum(row.gpu_seconds for row in rows),
        "early_stop": early_stop_status(rows),
        "best": trial_facts(ranked[0].row) | {"winner": ranked[0].facts()} if ranked else None,
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
        "decision": row.attributes.get(ATTRIBUTE),
        "gpu_seconds": row.gpu_seconds,
        "reason": row.reason,
        "params": dict(row.params),
        "solved": row.attributes.get("solved"),
    }


def summary_lines(status: Mapping[str, Any]) -> list[str]:
    """The study in a few lines: counts by rung, rank correlations, GPU time, what runs now."""
    lines: list[str] = []
    for rung in status["rungs"]:
        counts = ", ".join(f"{count} {name}" for name, count in rung["trials"].items()) or "no trial yet"
        front = ", ".join(str(one["trial"]) for one in rung["pareto_front"])
        lines.append(f"{rung['rung']}: {counts}" + (f"; Pareto front: trials {front}" if front else ""))
        lines += [stops] if (stops := describe_early_stop(rung["early_stop"])) else []
    lines += winner_lines(status["rungs"])
    lines += [expected_line(status["study"], expected)] if (expected := status["expected_better"]) else []
    for pair in status["rank_correlations"]:
        lines.append(f"rank correlation {pair['from']} to {pair['to']}: {describe_correlation(pair)}")
        lines += [warning] if (warning := correlation_warning(pair)) else []
    lines += describe_spending(status["spending"])
    for run in status["running"]:
        lines.append(f"running: {run['rung']}/{run['trial']} on {run['host'] or 'no host yet'}, {run.get('phase', '')}")
    return lines


def expected_line(study: str, expected: Mapping[str, Any]) -> str:
    """The recipe that may become the winner, and how to find out."""
    named, score = f"{expected['from']}/{expected['trial']}", f"{expected['val_bpb']:.4f} ± {expected['sd']:.4f}"
    command = f"caddie promote {study} --rung {expected['from']} --trial {expected['trial']} runs it"
    how = "it is on its way" if expected["is_due"] else command
    return f"expected to be better: {named}, {score} in {expected['rung']}, where it has not been measured; {how}"


def best_of(rungs: Sequence[Mapping[str, Any]]) -> tuple[str, Mapping[str, Any]] | None:
    """The last rung that measured a feasible recipe, and its best one."""
    return next(((rung["rung"], rung["best"]) for rung in reversed(rungs) if rung["best"] is not None), None)


def winner_lines(rungs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The recipe to submit: of the last rung that measured one."""
    best = best_of(rungs)
    if best is None:
        return []
    rung, one = best
    winner = one["winner"]
    unsure = "" if winner["fits"] > SURE else f"; its other seeds keep the bytes with one of {winner['fits']:.0%}"
    seeds = "1 seed" if winner["seeds"] == 1 else f"{winner['seeds']} seeds"
    return [
        f"winner: {rung}/{one['trial']}, val_bpb {winner['val_bpb']:.4f} ± {winner['standard_error']:.4f} by {seeds},"
        f" the best with a probability of {winner['probability']:.0%}{unsure}"
    ]
