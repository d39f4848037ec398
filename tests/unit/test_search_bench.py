"""The benchmark of strategies keeps its accounts: time, budgets, what is reported when, the table and what it says."""

import math
from pathlib import Path

import numpy as np
import pytest
from bench.search_caddie import Plan, play, study_file
from bench.search_game import (
    DEAREST,
    Gpus,
    Meter,
    Report,
    nothing,
    score_at,
    score_curve,
    seconds_of,
    surrogate,
    true_score,
)
from bench.search_optuna import hyperband, random_search, tpe
from bench.search_report import page
from bench.search_results import Line, add_line, line_of, read_lines
from bench.search_statistics import bootstrap, difference, first_time, games, goal, median
from bench.search_strategies import CADDIE, OTHERS, PLAYERS, Player
from bench.strategies import main
from bench.surrogate_space import ARTIFACT_CAP, SPACE, sobol_recipes

BUDGET = 60.0
ABOUT = {
    "dear_runs": 6,
    "date": "2026-01-01",
    "commit": "abc",
    "machine": "one",
    "python": "3",
    "optuna": "5",
    "ray": "2",
}


def sampled(is_within: bool) -> dict[str, object]:
    """A recipe that keeps the cap, or does not."""
    truths = ((values, surrogate().truth(values, DEAREST)) for values, _ in sobol_recipes(32))
    return next(values for values, truth in truths if (truth.artifact_bytes <= ARTIFACT_CAP) is is_within)


def test_a_meter_counts_the_seconds_of_every_busy_gpu() -> None:
    meter = Meter()
    meter.pass_until(2.0, 3)
    meter.pass_until(5.0, 1)
    assert (meter.now, meter.held) == (5.0, 9.0)
    assert meter.time_of(11.0, 2) == 6.0
    assert meter.time_of(11.0, 0) == math.inf


def test_runs_end_in_order_of_time_and_none_after_the_budget() -> None:
    gpus = Gpus[str](2, budget=10.0)
    gpus.start("long", 4.0)
    gpus.start("short", 1.0)
    assert not gpus.has_room
    assert (gpus.next_end(), gpus.meter.held) == ("short", 2.0)
    gpus.start("late", 20.0)
    assert (gpus.next_end(), gpus.meter.held) == ("long", 8.0)
    assert gpus.next_end() is None
    assert (gpus.meter.now, gpus.meter.held) == (6.0, 10.0)  # the late one alone, for two seconds


def test_a_report_is_worth_its_score_without_noise_and_nothing_over_the_cap() -> None:
    fits, too_large = sampled(True), sampled(False)
    assert true_score(fits) == surrogate().truth(fits, DEAREST).val_bpb
    assert true_score(too_large) == true_score(None) == nothing()
    curve = score_curve([Report(1.0, None), Report(3.0, fits), Report(4.0, fits), Report(9.0, too_large)])
    assert curve == [(0.0, nothing()), (3.0, true_score(fits)), (9.0, nothing())]
    assert score_at(curve, 2.9) == nothing()
    assert score_at(curve, 3.0) == true_score(fits)


@pytest.mark.parametrize("player", [random_search, tpe, hyperband])
@pytest.mark.parametrize("in_flight", [1, 8])
def test_optunas_strategies_spend_the_budget_and_no_more(player: Player, in_flight: int) -> None:
    played = player(in_flight, BUDGET, 3)
    assert played.gpu_seconds == pytest.approx(BUDGET)
    assert all(report.gpu_seconds <= BUDGET for report in played.reports)
    assert len(played.reports) == sum(played.runs)
    assert player(in_flight, BUDGET, 3) == played


def test_single_fidelity_pays_for_each_run_what_the_surrogate_says() -> None:
    played = random_search(1, BUDGET, 0)
    first = next(report for report in played.reports if report.values is not None)
    assert first.gpu_seconds >= seconds_of(surrogate().outcome(first.values or {}, DEAREST, 0)) - 1e-9


def test_a_study_searches_the_surrogates_space() -> None:
    unsolved = study_file(Plan(solved=False), 400.0, 0)
    assert {param.path for param in unsolved.build_space().params} == {param.path for param in SPACE.params}
    for values, recipe in sobol_recipes(16):
        assert unsolved.build_space().fix(recipe, unsolved.base_recipe()).keys() == values.keys()
    solved = study_file(Plan(), 400.0, 0).solved_param()
    assert solved is not None


@pytest.mark.parametrize(("kind", "in_flight"), [("tpe", 1), ("joint", 8)])
def test_caddie_is_driven_within_its_budget(kind: str, in_flight: int) -> None:
    budget = 120.0
    played = play(Plan(changes={"sampler": {"kind": kind}}), in_flight, budget, 5)
    assert 0 < played.gpu_seconds <= budget
    assert all(report.gpu_seconds <= budget for report in played.reports)
    assert [report.gpu_seconds for report in played.reports] == sorted(report.gpu_seconds for report in played.reports)
    assert played.runs[0] == 0
    assert played.runs[1] > 0
    assert played.runs[DEAREST] > 0


def test_the_table_gives_back_what_was_added(tmp_path: Path) -> None:
    table = tmp_path / "games" / "games.csv"
    lines = [line_of(("tpe", 1, seed), BUDGET, tpe(1, BUDGET, seed)) for seed in range(2)]
    for line in lines:
        add_line(table, line)
    found = read_lines(table)
    assert [line.key for line in found] == [line.key for line in lines]
    assert [line.runs for line in found] == [line.runs for line in lines]
    assert np.allclose(found[0].curve, lines[0].curve, atol=0.051)


def line(strategy: str, seed: int, *curve: tuple[float, float]) -> Line:
    return Line(strategy, 1, seed, 100.0, 100.0, (0, 1, 1), 0, [(0.0, 3.3), *curve])


def test_the_goal_is_the_time_from_which_the_median_stays_at_the_best_rivals_score() -> None:
    lines = [line(CADDIE, seed, (20.0 + seed, 3.0), (50.0, 2.9)) for seed in range(3)]
    lines += [line("random", seed, (10.0, 3.1), (90.0, 2.8 + seed / 10)) for seed in range(3)]  # ends at 2.9 ± .1
    lines += [line("Hyperband", seed, (10.0, 3.1)) for seed in range(3)]
    found = goal(lines, CADDIE, OTHERS, 1)
    assert found is not None
    assert (found.rival, found.target) == ("random", pytest.approx(2.9))
    assert found.share.value == pytest.approx(0.5)
    assert (found.reached, found.worse, found.compared) == (0, [0], 3)
    assert goal(lines, "Hyperband", OTHERS, 1).share.value == math.inf  # type: ignore[union-attr]


def test_a_curve_that_rises_again_has_not_reached_the_target() -> None:
    assert first_time(np.array([3.0, 2.0, 3.0, 2.0]), 2.5) == 1.0
    assert first_time(np.array([3.0, 2.0, 2.0, 2.0]), 2.5) == 0.5
    assert first_time(np.array([2.0, 3.0]), 2.5) == math.inf


def test_differences_are_paired_by_seed() -> None:
    default = games([line(CADDIE, seed, (10.0, 3.0 + seed)) for seed in range(4)], CADDIE, 1)
    changed = games([line("x", seed, (10.0, 3.1 + seed)) for seed in range(1, 9)], "x", 1)
    found = difference(changed, default, 1.0)
    assert (found.value, found.low, found.high) == (pytest.approx(0.1), pytest.approx(0.1), pytest.approx(0.1))
    wide = bootstrap(np.arange(50.0), median)
    assert wide.low < wide.value < wide.high


def test_the_page_is_made_from_the_table_alone() -> None:
    lines = [line(name, seed, (30.0, 3.0 - seed / 100)) for name in PLAYERS for seed in range(3)]
    text = page(lines, ABOUT, "What was learned.")
    assert "What was learned." in text
    assert all(f"| {name} |" in text for name in PLAYERS)


def test_the_command_plays_what_its_table_lacks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--out", str(tmp_path / "search.md"), "--dear-runs", "6", "--only", "random", CADDIE, "--in-flight", "1"]
    main([*command, "--seeds", "1"])
    assert len(capsys.readouterr().out.splitlines()) == 2
    main([*command, "--seeds", "2"])
    assert [text.split(":")[0] for text in capsys.readouterr().out.splitlines()] == [
        "seed 1, 1 in flight, random",
        f"seed 1, 1 in flight, {CADDIE}",
    ]
    assert "## One run at a time" in (tmp_path / "search.md").read_text()
    with pytest.raises(ValueError, match="expected games of"):
        main([*command, "--dear-runs", "7"])
