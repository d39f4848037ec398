"""What the surrogate models, each group of values by the features that have an effect on it.

Each fidelity is modelled by itself: with every recipe run at all of them, a joint model of fidelities would predict
the same (it gains where designs differ), and since their errors are alike, the ranks between them stay as they are.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from bench.surrogate_features import Features
from bench.surrogate_regression import Array, Regression, Scales, learn_scales, regress
from bench.surrogate_space import TRAIN_TOKENS
from bench.surrogate_table import CURVE, Run, at_fidelity, log_cost

GroupScales = Mapping[str, Sequence[Scales]]  # by group, then by fidelity


@dataclass(frozen=True, slots=True)
class Group:
    """Values that share features and scales."""

    inputs: Callable[[Features], Array]
    targets: Callable[[Run], Sequence[float]]

    def points(self, runs: Sequence[Run]) -> tuple[Array, Array]:
        """Features (N, F) and targets (N, K) of runs."""
        return np.array([self.inputs(run.features) for run in runs]), np.array([self.targets(run) for run in runs])

    def regress(self, runs: Sequence[Run], scales: Scales) -> Regression:
        """The function through the runs of one fidelity."""
        return regress(*self.points(runs), scales)

    def learn(self, runs: Sequence[Run]) -> Scales:
        """The most likely scales."""
        return learn_scales(*self.points(runs))


def logarithms(run: Run, *names: str) -> list[float]:
    """Of measured values."""
    return [float(np.log(run.measured[name])) for name in names]


GROUPS: Mapping[str, Group] = {
    "score": Group(lambda features: features.training, lambda run: [run.measured["pre_quant_val_bpb"]]),
    "cost": Group(lambda features: features.storage, lambda run: [log_cost(run)]),
    "size": Group(
        lambda features: features.storage, lambda run: [logarithms(run, "weight_bytes")[0] - run.features.log_bytes]
    ),
    "seconds": Group(lambda features: features.shape, lambda run: logarithms(run, "train_seconds", "eval_seconds")),
    "curve": Group(lambda features: features.training, lambda run: [run.measured[name] for name in CURVE]),
}


def learn_all_scales(runs: Sequence[Run]) -> GroupScales:
    """The scales of every group at every fidelity."""
    parts = [at_fidelity(runs, fidelity) for fidelity in range(len(TRAIN_TOKENS))]
    return {name: [group.learn(part) for part in parts] for name, group in GROUPS.items()}


def read_scales(path: Path) -> GroupScales:
    """The scales that write_scales wrote."""
    groups = json.loads(path.read_text())
    return {name: [Scales(tuple(one["features"]), one["noise"]) for one in parts] for name, parts in groups.items()}


def write_scales(path: Path, scales: GroupScales) -> None:
    """Keep scales, a line each."""
    lines = {
        name: [json.dumps({"features": list(one.features), "noise": one.noise}) for one in parts]
        for name, parts in scales.items()
    }
    groups = [f' "{name}": [\n  ' + ",\n  ".join(parts) + "\n ]" for name, parts in lines.items()]
    path.write_text("{\n" + ",\n".join(groups) + "\n}\n")
