"""Learns the surrogate's scales from the table of runs, and says what the runs and the surrogate are worth.

PYTHONPATH=.:tests python tests/bench/surrogate_report.py --learn
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from bench.surrogate import SCALES_FILE, Outcome, Surrogate
from bench.surrogate_groups import GroupScales, learn_all_scales, read_scales, write_scales
from bench.surrogate_noise import repeats_of
from bench.surrogate_regression import Array
from bench.surrogate_space import ARTIFACT_CAP, TRAIN_TOKENS, sobol_recipes
from bench.surrogate_table import Run, at_fidelity, read_runs
from scipy.stats import spearmanr

FOLDS = 10
SAMPLE = 2048
FIDELITIES = range(len(TRAIN_TOKENS))


def held_out(
    runs: Sequence[Run], scales: GroupScales, folds: Sequence[int] = range(FOLDS)
) -> Iterator[tuple[Run, Outcome]]:
    """The runs of the first seed in some folds, with what a surrogate says that has not seen their recipes."""
    for fold in folds:
        surrogate = Surrogate.of([run for run in runs if run.recipe % FOLDS != fold], scales)
        for run in runs:
            if run.recipe % FOLDS == fold and run.seed == 0 and run.measured:
                yield run, surrogate.truth(run.values, run.fidelity)


def report_runs(runs: Sequence[Run]) -> None:
    """Print what the table holds."""
    hours = sum(run.measured.get("train_seconds", 0) + run.measured.get("eval_seconds", 0) for run in runs) / 3600
    failed = sum(not run.measured for run in runs)
    say(f"{len(runs)} runs of {len({run.recipe for run in runs})} recipes, {failed} failed, {hours:.2f} hours")
    whole = [at_fidelity([run for run in runs if run.seed == 0], fidelity) for fidelity in FIDELITIES]
    say(f"Spearman of val_bpb between fidelities: {ranks([scores(part) for part in whole])}")
    sizes = np.array(
        [run.measured["weight_bytes"] + run.measured["code_bytes"] for run in whole[-1] if run.recipe < 1000]
    )
    say(f"within the cap of {ARTIFACT_CAP:,} bytes: {(sizes <= ARTIFACT_CAP).mean():.0%} of the even sample")


def report_noise(runs: Sequence[Run], surrogate: Surrogate) -> None:
    """Print what seeds change."""
    for fidelity, noise in enumerate(surrogate.noises):
        sd = noise.deviations
        by_recipe = np.array([scores(same).std(ddof=1) for same in repeats_of(at_fidelity(runs, fidelity))])
        say(
            f"{TRAIN_TOKENS[fidelity]:,} tokens, standard deviations over seeds of {noise.num_recipes} recipes: "
            f"val_bpb {rms(by_recipe):.4f}, of the middle recipe {np.median(by_recipe):.4f}; before rounding "
            f"{sd.pre_quant_val_bpb:.4f}, rounding's cost {sd.log_cost:.0%}, bytes {sd.log_bytes:.2%}, "
            f"seconds {sd.log_seconds:.1%}, last training loss {sd.curve[-1]:.4f}"
        )


def report_errors(runs: Sequence[Run], scales: GroupScales) -> None:
    """Print how far the surrogate is from recipes that it has not seen."""
    pairs = list(held_out(runs, scales))
    for fidelity in FIDELITIES:
        mine = [(run, outcome) for run, outcome in pairs if run.fidelity == fidelity]
        seen = scores([run for run, _ in mine])
        guessed = np.array([outcome.val_bpb for _, outcome in mine])
        sizes = np.array([run.measured["weight_bytes"] + run.measured["code_bytes"] for run, _ in mine])
        size_errors = np.array([outcome.artifact_bytes for _, outcome in mine]) / sizes - 1
        good = seen <= np.quantile(seen, 0.25)
        errors = guessed - seen
        say(
            f"{TRAIN_TOKENS[fidelity]:,} tokens, {FOLDS} folds: val_bpb error {rms(errors):.4f} of {seen.std():.4f}, "
            f"median {np.median(abs(errors)):.4f}, best quarter {rms(errors[good]):.4f}, "
            f"Spearman {ranks([seen, guessed])[0]:.3f}, bytes {rms(size_errors):.1%}"
        )


def report_truth(surrogate: Surrogate) -> None:
    """Print what the surrogate is like over the space."""
    sample = [values for values, _ in sobol_recipes(SAMPLE)]
    start = time.perf_counter()
    truths = [[surrogate.truth(values, fidelity) for values in sample] for fidelity in FIDELITIES]
    each = (time.perf_counter() - start) / SAMPLE / len(TRAIN_TOKENS)
    table = np.array([[outcome.val_bpb for outcome in part] for part in truths])
    sizes = np.array([outcome.artifact_bytes for outcome in truths[-1]])
    say(f"{SAMPLE} recipes of the space, {1000 * each:.2f} ms each: Spearman between fidelities {ranks(table)}")
    small = sizes <= ARTIFACT_CAP
    say(f"{small.mean():.0%} within the cap; best {table[-1].min():.4f}, within the cap {table[-1][small].min():.4f}")


def scores(runs: Sequence[Run]) -> Array:
    """Their val_bpb."""
    return np.array([run.measured["val_bpb"] for run in runs])


def ranks(rows: Sequence[Array] | Array) -> list[float]:
    """Rank correlations of all pairs of rows."""
    pairs = [(i, j) for i in range(len(rows)) for j in range(i + 1, len(rows))]
    results: list[Any] = [spearmanr(rows[i], rows[j]) for i, j in pairs]
    return [round(float(result.statistic), 3) for result in results]


def rms(errors: Array) -> float:
    """Root of the mean square."""
    return float(np.sqrt((errors**2).mean()))


def say(line: str) -> None:
    """Print."""
    print(line, flush=True)  # noqa: T201


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--learn", action="store_true", help="learn the scales anew, and keep them")
    runs = read_runs()
    if parser.parse_args().learn:
        write_scales(SCALES_FILE, learn_all_scales(runs))
    scales = read_scales(SCALES_FILE)
    surrogate = Surrogate.of(runs, scales)
    report_runs(runs)
    report_noise(runs, surrogate)
    report_errors(runs, scales)
    report_truth(surrogate)


if __name__ == "__main__":
    main()
