"""Proposals by what runs of all rungs say of the dearest one: search.joint_model over the params of a study.

Each proposal is, of some random recipes and some near the best, the one that is expected to improve the most on the
best in the dearest rung. It runs in the first rung all the same; what dear runs then say of it moves the next proposal,
where a sampler that sees proxies alone goes on to what is best for short runs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from search.encoding import Encoder, place_of, value_at
from search.joint_model import MOST_RUNS, Array, JointModel, Runs, expected_improvement, fit_joint, model_of
from search.sampler_trials import Recorder, UniformTrial
from search.spec import StudySpec
from spaces.prior import NearTrial, usual_values
from spaces.space import Choice, Domain, Integer, Space, Trial
from trainer.config import Recipe
from trainer.errors import ConfigError
from trainer.result import FailureKind

STARTUP, LEAST_STARTUP = 10, 4  # measured proxies before the model proposes; fewer have no spread to speak of
NUM_RANDOM, NUM_NEAR = 400, 200  # candidates: at random, and of each round near the best
NUM_BEST, ROUNDS = 8, 3
MOVES, WIDTHS = (1, 2, 3), (0.03, 0.1, 0.3)  # params that move, by shares of their ranges
NUM_TRIES = 20  # random recipes, for one that fits
REFIT_AFTER = 3  # runs
OVER_LIMIT = 10.0  # bits per byte for each whole limit over it: 1 % of bytes is worse than most recipes differ

# Not as bad as the worst: a stopped run has no score, and the best recipes are next to those that are too large.
UNKNOWN = (FailureKind.STOPPED, FailureKind.OVERSIZE)

LaterTrials = Callable[[], Sequence[Sequence[FrozenTrial]]]  # of each later rung
Fits = Callable[[Recipe], bool]  # whether a recipe is predicted to keep its bytes
SizeCheck = Callable[[], Fits]  # by the trials that there are when it is made


def with_joint_model(
    sampler: BaseSampler, spec: StudySpec, later: LaterTrials, check: SizeCheck, finished: int
) -> BaseSampler:
    """A first rung's sampler with the model over it, where that is the study's kind.

    Args:
        later: trials of the later rungs.
        check: makes, for each proposal, what says whether a recipe is worth one.
        finished: trials that exist already; a restart must not repeat the first start's random draws.
    """
    if spec.sampler_kind != "joint":
        return sampler
    seed = None if spec.sampler.seed is None else spec.sampler.seed + 1_000_003 * finished
    startup = min(STARTUP, (spec.rungs[0].trials or 0) // 4)  # so that the model acts in a small study at all
    return JointSampler(
        sampler,
        spec.build_space(),
        spec.base_recipe(),
        later,
        check,
        startup=startup if spec.sampler.startup_trials is None else spec.sampler.startup_trials,
        is_size_solved=spec.solved_param() is not None,
        seed=seed,
    )


class JointSampler(BaseSampler):
    """A sampler that proposes by the joint model, and as another where the model cannot.

    Args:
        inner: the other sampler.
        later: trials of the later rungs.
        check: makes, for each proposal, what says whether a recipe is worth one.
        startup: measured proxies before the model proposes; until then, random recipes that fit.
        is_size_solved: a run over the limit of bytes is then bad luck, else it counts as bad.
        seed: None draws one.
    """

    def __init__(
        self,
        inner: BaseSampler,
        space: Space,
        base: Recipe,
        later: LaterTrials,
        check: SizeCheck,
        *,
        startup: int = STARTUP,
        is_size_solved: bool,
        seed: int | None,
    ) -> None:
        self.inner = inner
        self._startup = max(startup, LEAST_STARTUP)
        self._space, self._base = space, base
        self._later, self._check = later, check
        self._is_size_solved = is_size_solved
        self._random = Random(seed)
        self._encoder = Encoder(space)
        self._usual = usual_values(space, base)
        self._drawn: list[Mapping[str, Any]] = []
        self._theta: tuple[int, Array] | None = None
        self._proposals: dict[int, Mapping[str, Any]] = {}

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """The other sampler hears of all trials: genetic ones count them."""
        self.inner.before_trial(study, trial)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The params that are drawn together, the first thing asked for each trial; none of what the model proposes."""
        self._proposals.clear()
        proposal = None if is_given(trial) else self._propose(study)
        if proposal is None:
            return self.inner.infer_relative_search_space(study, trial)
        self._proposals[trial.number] = proposal
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Values of those params."""
        return {} if trial.number in self._proposals else self.inner.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The value of a param that is drawn by itself."""
        proposal = self._proposals.get(trial.number, {})
        if param_name in proposal:
            return proposal[param_name]
        return self.inner.sample_independent(study, trial, param_name, param_distribution)

    def reseed_rng(self) -> None:
        """Draw another seed."""
        self._random.seed()
        self.inner.reseed_rng()

    def _propose(self, study: optuna.Study) -> Mapping[str, Any] | None:
        """The candidate of most expected improvement; None where the model cannot say."""
        rungs = [study.get_trials(deepcopy=False), *self._later()]
        known = [(level, trial) for level, trials in enumerate(rungs) for trial in scored(trials)]
        if len(known) > MOST_RUNS:
            return None
        fits = self._check()
        if sum(level == 0 for level, _ in known) < self._startup:
            return self._random_one(fits)
        target = len(rungs) - 1
        points = self._encoder.points([one.trial.params for _, one in known])
        model = self._model(points, known, len(rungs))
        means = model.predict(points, target)[0]
        best = [known[place][1].trial.params for place in np.argsort(means)[:NUM_BEST]]
        for level, trials in enumerate(rungs):
            flying = [one.params for one in trials if one.state is TrialState.RUNNING and one.params]
            model = model.believing(self._encoder.points(flying), level)

        def gains(candidates: Sequence[Mapping[str, Any]]) -> Array:
            means_M, deviations_M = model.outlook(self._encoder.points(candidates), 0, target)
            return expected_improvement(means_M, deviations_M, float(np.min(means)))

        taken = [one.params for one in rungs[0]]  # the corner of a range is where any climb may end
        return self._best_candidate([*self._random_ones(fits), *best], gains, taken, fits)

    def _best_candidate(
        self,
        first: Sequence[Mapping[str, Any]],
        gains: Callable[[Sequence[Mapping[str, Any]]], Array],
        taken: Sequence[Mapping[str, Any]],
        fits: Fits,
    ) -> Mapping[str, Any] | None:
        """Climb from the best of some points, by small and large steps; the end of the way that is a new recipe."""
        found = list(first)
        for _ in range(ROUNDS):
            order = np.argsort(-gains(found))
            best = [found[place] for place in order[:NUM_BEST]]
            found = [*best, *(moved(self._space, best[one % len(best)], self._random) for one in range(NUM_NEAR))]
        found = [*found, *self._random_ones(fits)]
        order = np.argsort(-gains(found))
        ends = (self._whole(found[place], fits) for place in order)
        return next((one for one in ends if one is not None and one not in taken), None)

    def _whole(self, values: Mapping[str, Any], fits: Fits) -> Mapping[str, Any] | None:
        """What a trial with these values suggests, usual ones where it needs more; None where that is not to be run."""
        found = self._recorded([NearTrial({**self._usual, **values}, frozenset(), self._random)])
        return next((one for one, recipe in found if fits(recipe)), None)

    def _model(self, points: Array, known: Sequence[tuple[int, "Scored"]], num_rungs: int) -> JointModel:
        scores = np.array([one.score(self._is_size_solved) for _, one in known])
        worst = np.nanmax(scores, initial=0.0)
        runs = Runs(
            points_ND=points,
            rungs_N=np.array([level for level, _ in known]),
            scores_N=np.where(np.isnan(scores), worst, scores),
        )
        if self._theta is not None and len(known) < self._theta[0] + REFIT_AFTER:
            return model_of(runs, self._theta[1])
        model = fit_joint(runs, num_rungs, None if self._theta is None else self._theta[1])
        self._theta = len(known), model.theta
        return model

    def _random_one(self, fits: Fits) -> Mapping[str, Any] | None:
        """A random recipe that fits."""
        tries = self._recorded([UniformTrial(self._random)] * NUM_TRIES)
        return next((values for values, recipe in tries if fits(recipe)), None)

    def _random_ones(self, fits: Fits) -> Sequence[Mapping[str, Any]]:
        """Random points of the space, drawn once."""
        if not self._drawn:
            drawn = self._recorded([UniformTrial(self._random)] * NUM_RANDOM)
            self._drawn = [values for values, recipe in drawn if fits(recipe)]
        return self._drawn

    def _recorded(self, trials: Sequence[Trial]) -> list[tuple[Mapping[str, Any], Recipe]]:
        """What trials suggest, and the recipes that they are, of those that are any."""
        found: list[tuple[Mapping[str, Any], Recipe]] = []
        for trial in trials:
            recorder = Recorder(trial)
            try:
                found.append((recorder.values, self._space.suggest(recorder, self._base)))
            except ConfigError:
                continue
        return found


@dataclass(frozen=True, slots=True)
class Scored:
    """A trial that says something about its params."""

    trial: FrozenTrial

    def score(self, is_size_solved: bool) -> float:
        """Its score; nan where it has none and is as bad as the worst."""
        attributes = self.trial.user_attrs
        if "val_bpb" in attributes:
            over = 0.0 if is_size_solved else max(self.trial.constraints.get("artifact_bytes", 0.0), 0.0)
            return float(attributes["val_bpb"]) + OVER_LIMIT * over
        return float(attributes.get("early_stop", {}).get("expected_val_bpb", np.nan))


def scored(trials: Sequence[FrozenTrial]) -> list[Scored]:
    """Trials that were measured, stopped with a score that was expected, or failed by their own doing, each once."""
    told = {TrialState.COMPLETE, TrialState.PRUNED}
    return [
        Scored(one)
        for one in trials
        if one.state in told and one.params and "copied_from" not in one.user_attrs
        if one.user_attrs.get("failure") not in UNKNOWN or "early_stop" in one.user_attrs
    ]


def moved(space: Space, values: Mapping[str, Any], random: Random) -> dict[str, Any]:
    """Values with a few of them moved. Conditions are not looked at."""
    domains = {param.path: param.domain for param in space.params if param.path in values}
    names = random.sample(list(domains), min(random.choice(MOVES), len(domains)))
    width = random.choice(WIDTHS)
    return {**values, **{name: moved_value(domains[name], values[name], width, random) for name in names}}


def moved_value(domain: Domain, value: Any, width: float, random: Random) -> Any:
    """A value of a domain near another one; any other label."""
    if isinstance(domain, Choice):
        return random.choice([label for label in domain.options if label != value] or [value])
    if domain.low == domain.high:
        return value
    place = min(max(place_of(domain, value) + random.gauss(0.0, width), 0.0), 1.0)
    at = value_at(domain, place)
    if isinstance(domain, Integer) and at == value:
        at = domain.nearest(value + random.choice((-domain.step, domain.step)))
    return at


def is_given(trial: FrozenTrial) -> bool:
    """Whether a trial was queued with its params."""
    return "fixed_params" in trial.system_attrs
