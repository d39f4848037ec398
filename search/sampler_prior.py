"""Proposals near what is known to work: the study's base, the recipes it starts from, the best trials so far.

In a space of a hundred params a random point has something wrong with nearly every technique, and a model needs
hundreds of trials to say which. A known recipe with a few params moved has not. PriorBand (arXiv 2306.12370) mixes such
proposals with a search's own and shows that a bad prior costs little.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from search.spec import StudySpec
from spaces.prior import NearTrial, usual_values
from spaces.space import Space
from trainer.config import Recipe

NUM_CENTRES = 4  # best trials that a proposal may be near
NUM_MOVES = 3.0  # params that move, on average
# Where a study does not say. Small spaces have none (search.spec.FEW_PARAMS), where it neither helped nor harmed: 12
# params of the surrogate of tests/bench, 80 trials, 30 seeds, within 0.01 BPB of TPE alone, whose quartiles are 0.08
# apart. In golf, on made-up sums of effects whose best point is scattered around a record, after 70 trials of which 5
# are named recipes, the median of 14 seeds is above the best by 0.068 without, 0.063, 0.072, 0.056 and 0.056 with
# shares .25, .5, .75 and 1.
SHARE = 0.75


def with_prior(sampler: BaseSampler, spec: StudySpec, finished: int) -> BaseSampler:
    """A study's sampler with the share of proposals near known recipes that its file asks for.

    Args:
        finished: trials that exist already; a restart must not repeat the first start's random draws.
    """
    space, base, seed = spec.build_space(), spec.base_recipe(), spec.sampler.seed
    share = spec.sampler.prior
    if share is None:
        is_control = spec.sampler_kind in {"random", "qmc"}
        share = 0.0 if is_control or spec.is_small else SHARE
    if share == 0.0:
        return sampler
    return PriorSampler(sampler, Centre.of(space, base), share, None if seed is None else seed + 1_000_003 * finished)


@dataclass(frozen=True, slots=True)
class Centre:
    """What proposals are near.

    Attributes:
        usual: value of every param, searched there or not.
        searched: names of those that a trial at the centre suggests.
    """

    usual: Mapping[str, Any]
    searched: Sequence[str]

    @classmethod
    def of(cls, space: Space, base: Recipe) -> "Centre":
        """The base of a study."""
        return cls(usual_values(space, base), [p.path for p in space.params if space.is_active(p, base)])

    def at(self, params: Mapping[str, Any]) -> "Centre":
        """A trial with these params; what it does not suggest is as at the base."""
        return Centre({**self.usual, **params}, list(params))

    def trial(self, random: Random) -> NearTrial:
        """A trial near the centre, with about NUM_MOVES params moved, and one at least."""
        chance = NUM_MOVES / max(1, len(self.searched))
        moving = {name for name in self.searched if random.random() < chance}
        moving = moving or {random.choice(self.searched or list(self.usual))}  # a base may search nothing
        return NearTrial(self.usual, moving, random)


class PriorSampler(BaseSampler):
    """A sampler that draws a share of its proposals near known recipes, and the others as another sampler would.

    Args:
        inner: the other sampler.
        base: the study's base.
        share: of proposals that are drawn near.
        seed: None draws one.
    """

    def __init__(self, inner: BaseSampler, base: Centre, share: float, seed: int | None) -> None:
        self.inner = inner
        self._base = base
        self._share = share
        self._random = Random(seed)
        self._near: dict[int, NearTrial] = {}  # by number of the trial that is being proposed

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Decide how a trial is proposed. The other sampler hears of all trials: genetic ones count them."""
        self.inner.before_trial(study, trial)
        self._near.clear()
        if self._random.random() < self._share:
            self._near[trial.number] = self._centre(study).trial(self._random)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The params that are drawn together: none of a trial that is near something."""
        return {} if trial.number in self._near else self.inner.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Values of those params."""
        return {} if trial.number in self._near else self.inner.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The value of a param that is drawn by itself."""
        near = self._near.get(trial.number)
        if near is None:
            return self.inner.sample_independent(study, trial, param_name, param_distribution)
        match param_distribution:
            case FloatDistribution(low=low, high=high, log=log):
                return near.suggest_float(param_name, low, high, log=log)
            case IntDistribution(low=low, high=high, step=step, log=log):
                return near.suggest_int(param_name, low, high, step=step, log=log)
            case CategoricalDistribution(choices=choices):
                return near.suggest_categorical(param_name, [str(choice) for choice in choices])
            case _:
                raise AssertionError(param_distribution)

    def reseed_rng(self) -> None:
        """Draw another seed."""
        self._random.seed()
        self.inner.reseed_rng()

    def _centre(self, study: optuna.Study) -> Centre:
        """One of the best feasible trials, or the base as often as each of those."""
        trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))  # the infeasible ones are PRUNED
        best = sorted((t for t in trials if t.params), key=lambda trial: trial.values[0])[:NUM_CENTRES]
        return self._random.choice([self._base, *(self._base.at(trial.params) for trial in best)])
