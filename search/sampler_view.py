"""What a sampler sees of a rung: trials by what they say about the score, whatever was told to the dashboard.

A study tells two values, so that the dashboard can draw their Pareto front. A sampler that minimised both would drift
to small models, so proposals are drawn from a view of the study in which only the score is to be minimised, and bytes
are a constraint (measured by tests/bench/objectives_toy.py).
"""

import copy
from collections.abc import Container, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseGASampler, BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState


class View(optuna.Study):
    """A study whose trials read differently; what a sampler stores in it is stored in the study itself.

    Optuna's own Hyperband shows its samplers a part of a study by overriding the same method.
    """

    def __init__(self, study: optuna.Study, names: Sequence[str]) -> None:
        super().__init__(study.study_name, study._storage)  # pyright: ignore[reportPrivateUsage]
        self._directions = [StudyDirection.MINIMIZE] * len(names)
        self._names = names
        self._seen: list[FrozenTrial] = []

    def refresh(self, study: optuna.Study) -> None:
        """Look at the study's trials as they are now."""
        self._seen = seen_by_sampler(study.get_trials(deepcopy=False), self._names)

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        trials = [trial for trial in self._seen if states is None or trial.state in states]
        return copy.deepcopy(trials) if deepcopy else trials


class ViewSampler(BaseSampler):
    """A sampler that draws as another would from a view of the study.

    Args:
        names: user attributes to minimise: val_bpb alone, or with artifact_bytes.
    """

    def __init__(self, inner: BaseSampler, names: Sequence[str]) -> None:
        self.inner = inner
        self._names = names
        self._view: View | None = None

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """A trial was asked for. Genetic samplers put it into a generation, also where all its params are given."""
        if isinstance(self.inner, BaseGASampler):
            self.inner.get_trial_generation(self._refreshed(study), trial)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The params that are drawn together; the first thing that is asked for each trial."""
        return self.inner.infer_relative_search_space(self._refreshed(study), trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Values of those params."""
        return self.inner.sample_relative(self._last(study), trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The value of a param that is drawn by itself."""
        return self.inner.sample_independent(self._last(study), trial, param_name, param_distribution)

    def reseed_rng(self) -> None:
        """Draw another seed."""
        self.inner.reseed_rng()

    def _refreshed(self, study: optuna.Study) -> View:
        view = self._last(study)
        view.refresh(study)
        return view

    def _last(self, study: optuna.Study) -> View:
        """The view as it was when the trial's first param was asked for: other trials do not change in between."""
        if self._view is None:
            self._view = View(study, self._names)
        return self._view


def seen_by_sampler(trials: Sequence[FrozenTrial], names: Sequence[str]) -> list[FrozenTrial]:
    """Trials, of the same numbers, as a sampler is to see them.

    Measured trials are COMPLETE, infeasible ones too, with the values of names: genetic samplers and Gaussian processes
    ignore PRUNED ones. Failures of a recipe are as bad as the worst measured, over every limit. Repeats of a recipe
    with other seeds, and copies, are one trial of their mean, so that no lucky seed leads. What lies outside the space
    is left out: it would be among the best without saying anything about the params. Constraints that every trial keeps
    are left out too, since a Gaussian process models each.
    """
    groups: dict[str, list[FrozenTrial]] = {}
    for trial in trials:
        if trial.params and trial.state in {TrialState.COMPLETE, TrialState.PRUNED}:
            groups.setdefault(trial.user_attrs.get("recipe_hash", f"trial {trial.number}"), []).append(trial)
    leaders = {group[0].number: group for group in groups.values()}
    measured = {number: _means(group, names) for number, group in leaders.items()}
    known = [values for values in measured.values() if values]
    worst = [max(column) for column in zip(*known, strict=True)]
    broken = {name for group in groups.values() for trial in group for name, by in trial.constraints.items() if by > 0}
    seen: list[FrozenTrial] = []
    for trial in trials:
        if trial.number in leaders:
            seen.append(_complete(trial, measured[trial.number] or worst, broken))
        else:
            seen.append(_left_out(trial) if trial.state.is_finished() else trial)
    return seen


def _means(group: Sequence[FrozenTrial], names: Sequence[str]) -> list[float]:
    """The mean of each value over trials that have it; [] where none was measured."""
    rows = [[trial.user_attrs[name] for name in names] for trial in group if names[0] in trial.user_attrs]
    return [sum(column) / len(rows) for column in zip(*rows, strict=True)]


def _complete(trial: FrozenTrial, values: Sequence[float], broken: Container[str]) -> FrozenTrial:
    """A measured trial; PRUNED where there is no value yet to give it."""
    changed = copy.copy(trial)
    kept = {f"constraints:{name}": by for name, by in trial.constraints.items() if name in broken}
    others = {name: value for name, value in trial.system_attrs.items() if not name.startswith("constraints:")}
    changed._system_attrs = others | kept  # pyright: ignore[reportPrivateUsage]
    changed.state = TrialState.COMPLETE if values else TrialState.PRUNED
    changed.values = list(values) or None
    return changed


def _left_out(trial: FrozenTrial) -> FrozenTrial:
    changed = copy.copy(trial)
    changed.state, changed.values = TrialState.FAIL, None
    return changed
