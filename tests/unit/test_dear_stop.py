"""Dear runs that are stopped, and those that are not, in the simulated loop."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from simulation import FakeRunner, Machine, World, make_spec, measured_by_recipe, measurement

from search.run import Finished, Progress, Run
from search.trials import TrialRow, TrialStatus
from trainer.result import Failure, Measurement

RUNGS = [
    {"name": "proxy", "budget": {"train_tokens": 1000}, "trials": 8},
    {"name": "full", "budget": {"train_tokens": 9000}, "promote": 4},
]


def machine(folder: Path, behind: float, **promotion: Any) -> Machine:
    """Dear runs but the first are behind it by so many nats."""

    def curve(run: Run, values: Mapping[str, Any]) -> Sequence[tuple[float, float]]:
        is_later = "-full-" in run.run_id and "-full-0000-" not in run.run_id
        return [(part / 24, 3.0 + behind * is_later) for part in range(1, 25)]

    world = World(slots=1, run_seconds=200.0, curve=curve, behaviour=measured)
    return Machine(
        folder,
        make_spec(rungs=RUNGS, early_stop=None, promotion={"anchors": 0, "stop_behind": 0.01, **promotion}),
        world,
    )


def measured(run: Run, values: Mapping[str, Any]) -> Measurement | Failure:
    one = measured_by_recipe(run, values)
    assert isinstance(one, Measurement)
    return measurement(val_bpb=one.val_bpb, val_loss=2 * one.val_bpb, artifact_bytes=one.artifact_bytes)


def statuses(rows: Sequence[TrialRow]) -> list[str]:
    return [row.status.value for row in rows]


def test_far_behind_the_best_a_run_is_stopped_at_half_of_its_time(tmp_path: Path) -> None:
    sim = machine(tmp_path, behind=0.05)
    assert sim.run().settled == ("proxy", "full")
    full = sim.rows("full")
    assert statuses(full) == ["feasible", "stopped", "stopped", "feasible"], "the last one is a random pick"
    assert "at 50%: must be at most 0.01 bits per byte behind trial full/0, got 0.0250" in full[1].reason
    assert 90 < full[1].gpu_seconds < 130
    assert len([run for run in sim.world.submitted if "-full-" in run.run_id]) == 4, "and never repeated"


@pytest.mark.parametrize("behind", [0.015, -0.1])
def test_a_little_behind_it_may_go_on(tmp_path: Path, behind: float) -> None:
    sim = machine(tmp_path, behind=behind)
    sim.run()
    assert statuses(sim.rows("full")) == ["feasible"] * 4


def test_a_study_file_may_let_them_run(tmp_path: Path) -> None:
    sim = machine(tmp_path, behind=0.05, stop_behind=None)
    sim.run()
    assert statuses(sim.rows("full")) == ["feasible"] * 4


class Speedometer(FakeRunner):
    """Dear runs report a speed."""

    speed = 0.0

    def wait(self, timeout_seconds: float) -> Sequence[Progress | Finished]:
        return [self.with_speed(report) for report in super().wait(timeout_seconds)]

    def with_speed(self, report: Progress | Finished) -> Progress | Finished:
        if isinstance(report, Finished) or "-full-" not in report.run_id:
            return report
        return Progress(run_id=report.run_id, values={**report.values, "tokens_per_second": self.speed})


def run_at(folder: Path, speed: float) -> Machine:
    """Proxies trained 81,920 tokens in 10 steps of 2 s: 4,096 tokens a second."""
    sim = machine(folder, behind=0.0)
    runner = Speedometer(sim.world, sim.ledger)
    runner.speed = speed
    sim.run(runner=runner)
    return sim


def test_a_run_that_will_be_over_the_time_limit_is_stopped_at_once(tmp_path: Path) -> None:
    full = run_at(tmp_path, 9000 / 700).rows("full")
    assert statuses(full) == ["stopped"] * 4
    assert full[0].reason == "train_seconds: must be at most 600, will come to 700"
    assert all(row.gpu_seconds < 60 for row in full)


def test_a_machine_gone_slow_counts_as_the_machines_failure(tmp_path: Path) -> None:
    sim = machine(tmp_path, behind=0.0)
    runner = Speedometer(sim.world, sim.ledger)
    runner.speed = 1000.0
    plain_submit = runner.submit

    def submit(run: Run) -> None:
        plain_submit(run)
        if len([one for one in sim.world.submitted if "-full-" in one.run_id]) == 2:
            runner.speed = 4000.0  # the repeat found another machine

    runner.submit = submit
    sim.run(runner=runner)
    full = sim.rows("full")
    assert full[0].status is TrialStatus.LOST and "must be about 4,096, as in its proxy, got 1,000" in full[0].reason
    assert full[1].retry_of == 0 and full[1].status is TrialStatus.FEASIBLE
    assert full[1].attributes["decision"] == full[0].attributes["decision"]
