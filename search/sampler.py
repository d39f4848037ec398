"""The samplers a study may choose, made from its file: Optuna's, each drawing from our view of the study's trials."""

import importlib.util
import time
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, QMCSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from search.errors import SpecError
from search.sampler_view import ViewSampler
from search.spec_parts import SamplerSpec

STARTUP_TRIALS = 20
MOST_GP_TRIALS = 300  # an ask takes 2 to 10 s there, and 20 to 45 s at 1000: it grows with their cube
MOST_GP_SECONDS = 60.0  # of one ask
POPULATION = 50  # of a generation, at most
FALLBACK = "sampler_note"  # user attribute of a trial that another sampler than the study's had to propose
MODELLED = (TrialState.COMPLETE,)


def make_sampler(spec: SamplerSpec, *, trials: int, slots: int, finished: int) -> ViewSampler:
    """The sampler of a rung.

    Args:
        trials: how many the rung is to have; few trials mean a short random start, so that a model acts at all.
        slots: runs in flight.
        finished: trials that exist already; a restart must not repeat the first start's random draws.

    Raises:
        SpecError: the sampler needs a library that is not there.
    """
    seed = None if spec.seed is None else (spec.seed + 1_000_003 * finished) % 2**32
    startup = spec.startup_trials
    if startup is None:
        startup = min(max(STARTUP_TRIALS, 2 * slots), max(4, trials // 4))
    names = ("val_bpb",) if spec.goal == "val_bpb" else ("val_bpb", "artifact_bytes")
    with _quiet():
        return ViewSampler(_inner(spec, startup, trials, seed), names)


def _inner(spec: SamplerSpec, startup: int, trials: int, seed: int | None) -> BaseSampler:
    match spec.kind:
        case "tpe" | "joint" | None:  # search.sampler_joint is over it, where the study's kind is joint
            return _tpe(startup, seed)
        case "gp":
            return GpOrTpe(startup, seed)
        case "nsga2":
            return NSGAIISampler(population_size=max(4, min(POPULATION, trials // 8)), seed=seed)
        case "random":
            return RandomSampler(seed=seed)
        case "qmc":
            # One sequence however often the study is started: its seed stays, and Optuna stores how far it has come.
            return QMCSampler(seed=spec.seed or 0, scramble=True, warn_independent_sampling=False)


def _tpe(startup: int, seed: int | None) -> TPESampler:
    """A tree-structured estimator that draws jointly, within each group of params that occur together."""
    with _quiet():
        return TPESampler(multivariate=True, group=True, constant_liar=True, n_startup_trials=startup, seed=seed)


class GpOrTpe(BaseSampler):
    """A Gaussian process with noise as it infers it; TPE for conditional params, and where the process cannot go on.

    That is beyond so many trials, after an ask that took very long, and for a trial whose ask failed. The trial's user
    attribute says why.

    Args:
        clock: seconds of a clock that only goes forward.
    """

    def __init__(self, startup: int, seed: int | None, clock: Callable[[], float] = time.monotonic) -> None:
        if importlib.util.find_spec("torch") is None:
            raise SpecError("sampler.kind: gp needs torch (pip install 'caddie[trainer]'), got none; take tpe")
        self._tpe = _tpe(startup, seed)
        self._gp = GPSampler(
            seed=seed, n_startup_trials=startup, independent_sampler=self._tpe, warn_independent_sampling=False
        )
        self._clock = clock
        self._slowest = 0.0
        self._uses_tpe = False

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The params that the model draws together."""
        reason = self._reason(study)
        self._uses_tpe = reason is not None
        if reason is not None:
            _note(study, trial, reason)
            return self._tpe.infer_relative_search_space(study, trial)
        return self._gp.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Values of those params."""
        if self._uses_tpe:
            return self._tpe.sample_relative(study, trial, search_space)
        started_at = self._clock()
        try:
            return self._gp.sample_relative(study, trial, search_space)
        except (ValueError, ArithmeticError, RuntimeError) as error:  # a matrix that is not positive, most often
            _note(study, trial, f"tpe, since gp failed: {' '.join(str(error).split())[:200]}")
            self._uses_tpe = True
            return {}  # each param is drawn by itself, by TPE
        finally:
            self._slowest = max(self._slowest, self._clock() - started_at)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The value of a param that is drawn by itself."""
        return self._tpe.sample_independent(study, trial, param_name, param_distribution)

    def reseed_rng(self) -> None:
        """Draw another seed."""
        self._gp.reseed_rng()

    def _reason(self, study: optuna.Study) -> str | None:
        count = len(study.get_trials(deepcopy=False, states=MODELLED))
        if count > MOST_GP_TRIALS:
            return f"tpe, since {count} trials are more than the {MOST_GP_TRIALS} that gp is for"
        if self._slowest > MOST_GP_SECONDS:
            return f"tpe, since gp took {self._slowest:.0f} s for one proposal"
        return None


def _note(study: optuna.Study, trial: FrozenTrial, text: str) -> None:
    """Keep with a trial who proposed it. Samplers have no other way to a trial than its storage."""
    study._storage.set_trial_user_attr(trial._trial_id, FALLBACK, text)  # pyright: ignore[reportPrivateUsage]


@contextmanager
def _quiet() -> Generator[None]:
    """Multivariate and group are called experimental since 2.2 and 2.8, QMC since 3.0."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield
