"""The kinds of samplers: determinism, restarts, and who steps in for a Gaussian process."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from pydantic import ValidationError
from simulation import make_spec, measurement

from search import sampler as sampler_module
from search.errors import SpecError
from search.sampler import FALLBACK, GpOrTpe, make_sampler
from search.sampler_view import ViewSampler
from search.spec_parts import Limits, SamplerSpec
from search.store import open_rung, open_storage
from search.study import RungStudy
from search.trials import TrialRow
from spaces.fields import set_values
from trainer.config import Recipe

KINDS = ("tpe", "gp", "nsga2", "random", "qmc")
BOTH = ("val_bpb", "artifact_bytes")


def rung_at(url: str | None, **spec: Any) -> RungStudy:
    """A rung with a sampler of its own, as a driver opens it; in memory without a URL."""
    storage = open_storage(url) if url else optuna.storages.InMemoryStorage()
    study = open_rung(storage, "study/proxy", BOTH)  # pyright: ignore[reportArgumentType]
    finished = len(study.get_trials(deepcopy=False))
    study.sampler = make_sampler(SamplerSpec.model_validate({"seed": 3, **spec}), trials=40, slots=1, finished=finished)
    return RungStudy(study, rung="proxy", objectives=BOTH, limits=Limits())


def step(rung: RungStudy) -> tuple[Any, ...]:
    """One trial of a space with a condition; wider is better, and over the limit beyond three quarters."""
    trial = rung.ask()
    width, kind = trial.suggest_float("width", 0.0, 1.0), trial.suggest_categorical("kind", ["a", "b"])
    depth = trial.suggest_int("depth", 1, 30) if kind == "b" else 0
    point = (width, kind, depth)
    rung.describe_recipe(trial.number, set_values(Recipe(), {"optim.matrix_lr": 0.001 + width + depth}), 1337)
    result = measurement(val_bpb=2.0 - width + abs(depth - 9) / 100, artifact_bytes=round(width * 21_333_333) + 1)
    rung.tell(trial.number, result)
    return point


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    torch: Any = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_decides_all_proposals(kind: str) -> None:
    first, second = rung_at(None, kind=kind), rung_at(None, kind=kind)
    assert [step(first) for _ in range(14)] == [step(second) for _ in range(14)]
    other = rung_at(None, kind=kind, seed=4)
    assert [step(other) for _ in range(3)] != [step(rung_at(None, kind=kind)) for _ in range(3)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_restart_repeats_no_proposal(kind: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'caddie.db'}"
    before = [step(rung_at(url, kind=kind)) for _ in range(8)]  # a driver a trial
    assert len(set(before)) == 8


def test_a_sequence_goes_on_where_it_stopped(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'caddie.db'}"
    whole = rung_at(None, kind="qmc", seed=5)
    points = [step(whole)[0] for _ in range(9)]
    first = rung_at(url, kind="qmc", seed=5)
    parts = [step(first)[0] for _ in range(4)]
    second = rung_at(url, kind="qmc", seed=5)
    parts += [step(second)[0] for _ in range(5)]
    assert parts == points


def test_a_queued_recipe_breeds(tmp_path: Path) -> None:
    rung = rung_at(f"sqlite:///{tmp_path / 'caddie.db'}", kind="nsga2")
    rung.queue(Recipe(), 1337, {"width": 0.5, "kind": "a"})
    for _ in range(12):
        step(rung)
    generations = [
        next((value for name, value in trial.system_attrs.items() if name.endswith(":generation")), None)
        for trial in rung.optuna.trials
    ]
    assert generations[0] == 0 and 1 in generations and None not in generations


def gp_of(rung: RungStudy) -> GpOrTpe:
    view = rung.optuna.sampler
    assert isinstance(view, ViewSampler) and isinstance(view.inner, GpOrTpe)
    return view.inner


def notes(rows: list[TrialRow]) -> list[str]:
    return [row.attributes.get(FALLBACK, "") for row in rows]


def test_beyond_many_trials_tpe_steps_in_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler_module, "MOST_GP_TRIALS", 6)
    rung = rung_at(None, kind="gp", startup_trials=3)
    for _ in range(9):
        step(rung)
    assert notes(rung.rows()) == [""] * 7 + [
        f"tpe, since {count} trials are more than the 6 that gp is for" for count in (7, 8)
    ]


def test_after_a_slow_proposal_tpe_steps_in(monkeypatch: pytest.MonkeyPatch) -> None:
    rung = rung_at(None, kind="gp", startup_trials=3)
    ticks = iter(range(0, 10_000, 61))
    monkeypatch.setattr(gp_of(rung), "_clock", lambda: float(next(ticks)))
    for _ in range(4):
        step(rung)
    assert notes(rung.rows())[-1] == "tpe, since gp took 61 s for one proposal"


def test_where_the_process_fails_tpe_proposes_that_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    rung = rung_at(None, kind="gp", startup_trials=3)
    for _ in range(5):
        step(rung)

    def fail(*_: Any) -> Any:
        raise RuntimeError("the matrix is\nnot positive")

    monkeypatch.setattr(gp_of(rung)._gp, "_sample_relative_impl", fail)  # pyright: ignore[reportPrivateUsage]
    step(rung)
    monkeypatch.undo()
    step(rung)
    assert notes(rung.rows()) == [""] * 5 + ["tpe, since gp failed: the matrix is not positive", ""]


def test_gp_without_torch_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SpecError, match=r"sampler\.kind: gp needs torch .*, got none; take tpe"):
        make_sampler(SamplerSpec(kind="gp"), trials=4, slots=1, finished=0)


@pytest.mark.parametrize(
    ("sampler", "message"),
    [
        ({"kind": "cmaes"}, "'tpe', 'gp', 'nsga2', 'random' or 'qmc'"),
        ({"kind": "random", "goal": "val_bpb"}, "must be left out with random, which looks at no result, got val_bpb"),
        (
            {"kind": "joint", "goal": "objectives"},
            "must be val_bpb with joint, which models nothing else, got objectives",
        ),
        ({"kind": "nsga2", "startup_trials": 5}, "must be left out with nsga2, got 5"),
    ],
)
def test_a_setting_without_effect_is_an_error(sampler: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        make_spec(sampler=sampler)
