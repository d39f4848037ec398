"""Does minimising bytes beside the score cost score? Kinds of samplers on a toy of four params, in a minute a strategy.

    python tests/bench/objectives_toy.py                          # the objectives: both, one with constraints, the view
    python tests/bench/objectives_toy.py --strategies view solved gp --seeds 6 --slots 8

Bytes are those the project predicts for a recipe, times an error of its own and of the seed; the score is a law of
numbers, bits, shape and learning rate that larger models always win. Prints, over seeds, the score without noise of the
best feasible trial, how many of the last half were infeasible, and the area that the feasible trials' Pareto front
covers (below 1.6 BPB, as a share of the limit): what a second objective is good for.
"""

import argparse
import math
import random
import statistics
import time
from collections.abc import Mapping, Sequence
from multiprocessing import Pool
from pathlib import Path
from typing import Any, cast

import optuna
from simulation import make_spec, measurement

from search.proposals import Proposal, Proposals, Unrun
from search.sampler import make_sampler
from search.services import Services
from search.shapes import shapes_of
from search.size_correction import predicted_in_study
from search.spec import StudySpec
from search.spec_parts import Limits
from search.store import quiet_optuna
from search.study import RungStudy
from search.trials import TrialRow, TrialStatus
from spaces.fields import recipe_hash
from trainer.config import Recipe
from trainer.result import Measurement

CODE_BYTES = 40_000
SEED_STD = 0.0007  # of the score: what seeds of full runs do (search.md, 6.1)
BYTES_ERROR = (-0.02, 0.006)  # of a prediction, as a logarithm: mean and deviation over recipes
BYTES_SEED_STD = 0.002
STEPS = 1000
WORST_SCORE = 1.6  # that counts for the area

PARAMS: Mapping[str, Any] = {
    "model.num_layers": {"low": 4, "high": 14},
    "model.model_dim": {"low": 256, "high": 768, "step": 64},
    "quant.matrix_bits": {"low": 4, "high": 8},
    "optim.matrix_lr": {"low": 0.005, "high": 0.2, "log": True},
}
SOLVE: Mapping[str, Any] = {"param": "model.mlp_mult", "low": 0.5, "high": 12.0}
# What each strategy changes in the study file.
STRATEGIES: Mapping[str, Mapping[str, Any]] = {
    "both": {"sampler": {"goal": "objectives"}},
    "score": {"objectives": ["val_bpb"]},
    "view": {},
    "gp": {"sampler": {"kind": "gp"}},
    "nsga2": {"sampler": {"kind": "nsga2"}},
    "random": {"sampler": {"kind": "random"}},
    "qmc": {"sampler": {"kind": "qmc"}},
    "mlp": {"space": {"params": {**PARAMS, SOLVE["param"]: {"low": SOLVE["low"], "high": SOLVE["high"]}}}},
    "solved": {"space": {"params": dict(PARAMS), "solve": dict(SOLVE)}},
}


def study_file(strategy: str, trials: int, seed: int) -> StudySpec:
    """The study of a strategy."""
    rungs = [{"name": "proxy", "budget": {"train_seconds": 600, "world_size": 8}, "trials": trials}]
    base = {"quant.clip": "sigma", "quant.clip_sigmas": 12.0, "quant.scale_is_floored": False}
    values: dict[str, Any] = {"space": {"params": dict(PARAMS)}, "set": base, **STRATEGIES[strategy], "rungs": rungs}
    return make_spec(**values | {"sampler": {"seed": seed, **values.get("sampler", {})}})


def score(recipe: Recipe) -> float:
    """The toy's law, without noise: a power of the size, what rounding loses, the best shape and learning rate."""
    model = recipe.model
    numbers = sum(math.prod(tensor.shape) for tensor in shapes_of(recipe))
    rounding = 0.05 * 4.0 ** (4 - recipe.quant.matrix_bits)
    shape = math.log2(model.model_dim / model.num_layers / 50)
    rate = math.log2(recipe.optim.matrix_lr / 0.03 * math.sqrt(model.model_dim / 512))
    mlp = math.log2(model.mlp_mult / 3)
    return 1.12 + 0.25 * (numbers / 17e6) ** -0.3 + rounding + 0.006 * shape**2 + 0.006 * rate**2 + 0.004 * mlp**2


def run(recipe: Recipe, seed: str) -> Measurement:
    """What a run of the toy measures."""
    own, noise = random.Random(recipe_hash(recipe)), random.Random(f"{recipe_hash(recipe)} {seed}")
    error = own.gauss(*BYTES_ERROR) + noise.gauss(0.0, BYTES_SEED_STD)
    weights = round(predicted(recipe, 0, ()) * math.exp(error))
    return measurement(
        val_bpb=score(recipe) + noise.gauss(0.0, SEED_STD),
        artifact_bytes=CODE_BYTES + weights,
        weight_bytes=weights,
        code_bytes=CODE_BYTES,
        steps=STEPS,
    )


def predicted(recipe: Recipe, code_bytes: int, rows: Sequence[TrialRow]) -> int:
    """Artifact bytes as the service predicts them."""
    return predicted_in_study(recipe, code_bytes, BUDGET, rows)


BUDGET = study_file("view", 1, 0).rungs[0].to_budget()


Outcome = tuple[float, float, float, float]  # score, infeasible share, area, seconds


def search(strategy: str, trials: int, slots: int, seed: int) -> Outcome:
    """One study of a strategy."""
    started_at = time.monotonic()
    quiet_optuna()
    spec = study_file(strategy, trials, seed)
    study = optuna.create_study(directions=[optuna.study.StudyDirection.MINIMIZE] * len(spec.objectives))
    study.sampler = make_sampler(spec.sampler, trials=trials, slots=slots, finished=0)
    rung = RungStudy(study, rung="proxy", objectives=spec.objectives, limits=spec.limits)
    rung.queue(spec.base_recipe(), spec.rungs[0].seeds[0], {})
    proposals = Proposals(rung, spec, spec.rungs[0], services())
    flying: list[Proposal] = []
    asked = 0
    while asked < trials or flying:
        if asked < trials and len(flying) < slots:
            proposal = proposals.next()
            asked += isinstance(proposal, Proposal) or proposal is Unrun.TOLD
            if isinstance(proposal, Proposal):
                flying.append(proposal)
                size = predicted(proposal.recipe, CODE_BYTES, rung.rows())
                rung.describe(proposal.number, predicted_bytes=size)
            if proposal is not Unrun.EXHAUSTED:
                continue
        done = flying.pop(0)
        rung.tell(done.number, run(done.recipe, f"{seed}"))
    return *result(rung.rows()), time.monotonic() - started_at


def result(rows: Sequence[TrialRow]) -> tuple[float, float, float]:
    """Score without noise of the trial that measured best, share of infeasible trials in the last half, and area."""
    ended = [row for row in rows if row.status is not TrialStatus.DUPLICATE]
    feasible = [row for row in ended if row.status is TrialStatus.FEASIBLE]
    best = min(feasible, key=lambda row: row.val_bpb or math.inf)
    late = ended[len(ended) // 2 :]
    assert best.recipe is not None
    infeasible = sum(row.status is not TrialStatus.FEASIBLE for row in late) / len(late)
    return score(best.recipe), infeasible, area(feasible)


def area(feasible: Sequence[TrialRow]) -> float:
    """What the Pareto front of bytes and scores covers of the rectangle up to the limit and WORST_SCORE."""
    points = sorted(
        (row.artifact_bytes / Limits().artifact_bytes, score(row.recipe))
        for row in feasible
        if row.artifact_bytes and row.recipe
    )
    covered, lowest = 0.0, WORST_SCORE
    for size, value in points:
        covered += (1 - size) * max(lowest - value, 0.0)
        lowest = min(lowest, value)
    return covered


def services() -> Services:
    """What proposals need: bytes of code, and predictions."""
    nothing = cast("Any", None)
    return Services(
        ledger=nothing,
        artifacts=nothing,
        bundle=lambda recipe, budget: b"x" * CODE_BYTES,
        predict_bytes=predicted,
        runner=nothing,
        clock=time.time,
        sleep=time.sleep,
        runs_folder=Path(),
        observer=nothing,
    )


def report(strategy: str, outcomes: Sequence[Outcome]) -> str:
    """One line: mean and standard error of the score, and the means of the rest."""
    scores, infeasible, areas, seconds = zip(*outcomes, strict=True)
    error = statistics.stdev(scores) / math.sqrt(len(scores)) if len(scores) > 1 else 0.0
    line = f"{strategy:8} {statistics.fmean(scores):.4f} +- {error:.4f} BPB"
    line += f", {statistics.fmean(infeasible):4.0%} of the last half infeasible, area {statistics.fmean(areas):.4f}"
    return f"{line}, {statistics.fmean(seconds):.0f} s"


def main() -> None:
    """Print a line a strategy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strategies", nargs="+", default=["both", "score", "view"], choices=list(STRATEGIES))
    parser.add_argument("--trials", type=int, default=80)
    parser.add_argument("--slots", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    with Pool(given.processes) as pool:
        for strategy in given.strategies:
            jobs = [(strategy, given.trials, given.slots, seed) for seed in range(given.seeds)]
            print(report(strategy, pool.starmap(search, jobs)), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
