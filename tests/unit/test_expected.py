"""Which recipe is told to be better than the winner, where it has not been measured."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from made_joint import DEARS, LAYERS, PROXIES, RATE, law, row
from simulation import make_spec

from search.expected import Expected, expected_better
from search.spec import StudySpec
from search.status import expected_line, terms_by_rung
from search.trials import TrialRow, TrialStatus
from search.winner import standings

SPEC = make_spec()
# Beside those at the lower rate: few layers and many, which say what the higher rate does.
MEASURED = [
    *DEARS,
    *(row("full", 20 + layers, layers, 0.05, law(layers, 0.05, best=9)) for layers in (2, 4, 6, 12)),
]


def expected(
    proxies: Sequence[TrialRow] = PROXIES, dears: Sequence[TrialRow] = MEASURED, spec: StudySpec = SPEC
) -> Expected | None:
    rungs = {"proxy": proxies, "full": dears}
    found = standings(dears, terms_by_rung(spec, rungs)["full"])
    return expected_better(spec, rungs, found[0].row if found else None)


def test_what_is_like_the_best_dear_runs_but_better_is_told_with_how_to_run_it() -> None:
    found = expected()
    assert found is not None and found.row.params == {LAYERS: 9, RATE: 0.05}
    assert found.mean == pytest.approx(1.2, abs=0.02) and found.mean + found.sd < min(map(score, MEASURED))
    line = expected_line("sim", found.facts())
    assert line.startswith(f"expected to be better: proxy/{found.row.number}, 1.2")
    assert line.endswith(f"; caddie promote sim --rung proxy --trial {found.row.number} runs it")


def test_one_that_is_under_way_is_told_as_that() -> None:
    running = replace(row("full", 9, 9, 0.05, 0.0), status=TrialStatus.RUNNING)
    found = expected(dears=[*MEASURED, running])
    assert found is not None and found.is_due and "it is on its way" in expected_line("sim", found.facts())


def test_what_was_measured_is_never_told() -> None:
    best = row("full", 9, 9, 0.05, law(9, 0.05, best=9))
    assert expected(dears=[*MEASURED, best]) is None, "it is the winner, and nothing is expected to beat it"
    assert expected(dears=[replace(one, rung="full") for one in PROXIES]) is None


@pytest.mark.parametrize("dears", [[], [replace(one, status=TrialStatus.RUNNING) for one in MEASURED]])
def test_nothing_is_told_before_a_rung_has_a_winner(dears: list[TrialRow]) -> None:
    assert expected(dears=dears) is None


def test_infeasible_proxies_and_copies_are_not_told() -> None:
    told = expected()
    assert told is not None
    over = [replace(one, status=TrialStatus.INFEASIBLE) if one == told.row else one for one in PROXIES]
    copied = [made_copy(one) if one == told.row else one for one in PROXIES]
    for proxies in (over, copied):
        other = expected(proxies)
        assert other is None or other.row.params != told.row.params


def test_studies_without_the_joint_model_tell_nothing() -> None:
    assert expected(spec=make_spec(sampler={"kind": "tpe"})) is None


def score(one: TrialRow) -> float:
    return one.attributes["val_bpb"]


def made_copy(one: TrialRow) -> TrialRow:
    return replace(one, attributes={**one.attributes, "copied_from": 0})
