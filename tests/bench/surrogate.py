"""What a run of any recipe of the tiny space would measure, learned from real runs, in a fraction of a millisecond.

    surrogate = Surrogate.load()
    surrogate.outcome(trial.params, fidelity=0, seed=7)   # as a run would report it, with the noise that seeds make
    surrogate.truth(trial.params, fidelity=2)             # what a search is judged by

surrogate_report.py says how far it is from runs that it has not seen.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp
from pathlib import Path
from typing import Any

import numpy as np
from bench.surrogate_features import features_of
from bench.surrogate_groups import GROUPS, GroupScales, read_scales
from bench.surrogate_noise import NO_CHANGE, Change, Noise, measure_noise
from bench.surrogate_regression import Regression
from bench.surrogate_space import SPACE, TRAIN_TOKENS
from bench.surrogate_table import RUNS_FILE, Run, at_fidelity, read_runs, val_bpb_of

from spaces.space import Space

SCALES_FILE = Path(__file__).with_name("surrogate_scales.json")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run measures.

    Attributes:
        val_bpb: the score: weights read back, sliding window.
        pre_quant_val_bpb: weights before rounding.
        curve: mean training loss (nats) over each eighth of the run.
        train_seconds, eval_seconds: of the processor that made the runs.
    """

    val_bpb: float
    pre_quant_val_bpb: float
    artifact_bytes: int
    train_seconds: float
    eval_seconds: float
    curve: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Surrogate:
    """Functions through the runs, the noise around them, and the bytes of the code."""

    models: Sequence[Mapping[str, Regression]]  # by fidelity, then by group
    noises: Sequence[Noise]
    code_bytes: int

    @classmethod
    def load(cls, runs_file: Path = RUNS_FILE, scales_file: Path = SCALES_FILE) -> "Surrogate":
        """The surrogate of a table of runs, with scales learned from it before (surrogate_report.py)."""
        return cls.of(read_runs(runs_file), read_scales(scales_file))

    @classmethod
    def of(cls, runs: Sequence[Run], scales: GroupScales) -> "Surrogate":
        """The surrogate of some runs."""
        parts = [at_fidelity(runs, fidelity) for fidelity in range(len(TRAIN_TOKENS))]
        models = [
            {name: group.regress(part, scales[name][fidelity]) for name, group in GROUPS.items()}
            for fidelity, part in enumerate(parts)
        ]
        code_bytes = round(float(np.median([run.measured["code_bytes"] for part in parts for run in part])))
        return cls(models, [measure_noise(part) for part in parts], code_bytes)

    def space(self) -> Space:
        """The space that recipes come from."""
        return SPACE

    def truth(self, values: Mapping[str, Any], fidelity: int) -> Outcome:
        """The outcome without noise: the middle of seeds.

        Args:
            values: what a trial suggests, as trial.params and Space.fix have it.
        """
        return self._outcome(values, fidelity, NO_CHANGE)

    def outcome(self, values: Mapping[str, Any], fidelity: int, seed: int) -> Outcome:
        """What one run measures: truth and the noise that belongs to recipe, fidelity and seed."""
        return self._outcome(values, fidelity, self.noises[fidelity].draw(noise_seed(values, fidelity, seed)))

    def _outcome(self, values: Mapping[str, Any], fidelity: int, change: Change) -> Outcome:
        features, models = features_of(values), self.models[fidelity]
        score, cost, size, seconds, curve = (models[name](GROUPS[name].inputs(features)) for name in GROUPS)
        pre_quant_val_bpb = float(score[0]) + change.pre_quant_val_bpb
        return Outcome(
            val_bpb=val_bpb_of(pre_quant_val_bpb, float(cost[0]) + change.log_cost),
            pre_quant_val_bpb=pre_quant_val_bpb,
            artifact_bytes=self.code_bytes + round(exp(features.log_bytes + float(size[0]) + change.log_bytes)),
            train_seconds=exp(float(seconds[0]) + change.log_seconds),
            eval_seconds=exp(float(seconds[1])),
            curve=tuple(float(loss) + more for loss, more in zip(curve, change.curve, strict=True)),
        )


def noise_seed(values: Mapping[str, Any], fidelity: int, seed: int) -> int:
    """A number that a run has to itself, in every process the same."""
    text = json.dumps([sorted((path, str(value)) for path, value in values.items()), fidelity, seed])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
