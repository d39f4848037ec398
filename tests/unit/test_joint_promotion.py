"""Promotion by the joint model: whom it prefers, and when it leaves the decision to calibrated proxies."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from made_joint import DEARS, LAYERS, PROXIES, RATE, row
from made_trials import made_step
from simulation import make_spec

from search import joint_promotion
from search.decision import Decision, Reason
from search.encoding import Encoder
from search.joint_promotion import joint_posterior
from search.promotion_rule import Step, model_decisions
from search.trials import TrialRow, TrialStatus

ENCODER = Encoder(make_spec().build_space())


def step(source: Sequence[TrialRow] = PROXIES, target: Sequence[TrialRow] = DEARS, **changes: Any) -> Step:
    own = {"is_source_finished": True, "source_size": 24, "slots": 24, "encoder": ENCODER}
    return made_step(source, target, **{**own, **changes})


def decided(given: Step) -> Decision:
    (one,) = model_decisions(given)
    return one


def outside(one: TrialRow) -> TrialRow:
    return replace(one, params={})


def test_what_is_like_good_dear_runs_goes_on_with_a_mediocre_proxy() -> None:
    chosen = decided(step())
    assert chosen.reason is Reason.LCB
    assert chosen.source.params == {LAYERS: 9, RATE: 0.05}
    assert sum(one.attributes["val_bpb"] < chosen.source.attributes["val_bpb"] for one in PROXIES) >= 8
    assert chosen.chosen.mean == pytest.approx(1.2, abs=0.02), "in bits per byte"
    assert chosen.chosen.sd is not None and 0 < chosen.chosen.sd < 0.05


def test_the_same_rows_give_the_same_answer() -> None:
    assert decided(step()).attribute() == decided(step()).attribute()
    assert decided(step(encoder=Encoder(make_spec().build_space()))).attribute() == decided(step()).attribute()


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (PROXIES, []),
        (PROXIES, [outside(one) for one in DEARS]),
        (PROXIES, [replace(one, status=TrialStatus.RUNNING) for one in DEARS]),
        ([*PROXIES[:-1], outside(PROXIES[-1])], DEARS),
    ],
    ids=["no dear run", "none in the space", "none measured", "a candidate outside the space"],
)
def test_calibrated_proxies_decide_where_the_model_cannot(source: list[TrialRow], target: list[TrialRow]) -> None:
    given = step(source, target)
    assert decided(given).attribute() == decided(replace(given, encoder=None)).attribute()


def test_calibrated_proxies_decide_beyond_the_most_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = decided(step(encoder=None)).attribute()
    assert decided(step()).attribute() != plain
    monkeypatch.setattr(joint_promotion, "MOST_RUNS", len(PROXIES) + len(DEARS) - 1)
    assert decided(step()).attribute() == plain


def test_copies_and_runs_outside_the_space_tell_nothing() -> None:
    copy = row("full", 9, 1, 0.05, 0.5, copied_from=0)
    stranger = outside(row("proxy", 30, 1, 0.03, 0.5))
    taken = row("full", 10, 1, 0.03, 1.5)  # so that the stranger is no candidate
    assert decided(step([*PROXIES, stranger], [*DEARS, copy, outside(taken)])).chosen == decided(step()).chosen


def test_a_posterior_needs_dear_runs_and_params() -> None:
    assert joint_posterior(ENCODER, PROXIES, [], PROXIES[:2]) is None
    assert joint_posterior(ENCODER, PROXIES, DEARS, [outside(PROXIES[0])]) is None
    found = joint_posterior(ENCODER, PROXIES, DEARS[:1], PROXIES)
    assert found is not None
    assert len(found.lower_bounds) == len(PROXIES) and all(map(math.isfinite, found.lower_bounds))
