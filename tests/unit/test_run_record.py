"""The GPU-seconds of a run: its own GPUs, or its part of one that runs divide."""

import os
import socket
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from launched_runs import QUICK, WRITE_RESULT
from made_records import made_record
from queued_runs import queue

from search.launch import execute
from search.ledger import Ledger
from search.run_record import RunRecord, RunState


@pytest.mark.parametrize(("num_gpus", "held"), [(0.0, 80.0), (0.25, 2.5), (8.0, 80.0)])
def test_a_run_holds_its_gpus_or_without_any_its_processes(num_gpus: float, held: float) -> None:
    running = made_record(world_size=8, num_gpus=num_gpus, started_at=100.0)
    assert running.held_seconds(110.0) == held
    assert running.held_seconds(90.0) == 0.0
    assert replace(running, started_at=None).held_seconds(110.0) == 0.0


def shared(run_id: str, start: float, end: float | None, **changes: object) -> RunRecord:
    """A run with a third of GPU 0; one under way where it has no end."""
    where = {"host": "one", "gpus": "0", "num_gpus": 1 / 3, "lease_expires_at": 1e9, **changes}
    return made_record(run_id, started_at=start, finished_at=end, **where)


def test_runs_on_one_gpu_divide_its_time() -> None:
    runs = [shared("a", 0.0, 100.0), shared("b", 40.0, None), shared("c", 80.0, 200.0)]
    assert runs[0].held_seconds(100.0, runs) == pytest.approx(40 + 40 / 2 + 20 / 3)
    assert runs[1].held_seconds(120.0, runs) == pytest.approx(40 / 2 + 20 / 3 + 20 / 2)
    assert runs[2].held_seconds(200.0, runs) == pytest.approx(20 / 3 + 100 / 2)


@pytest.mark.parametrize(
    "beside",
    [
        shared("b", 0.0, 100.0, host="another"),
        shared("b", 0.0, 100.0, gpus="1"),
        shared("b", 100.0, 200.0),
        shared("b", 0.0, None, lease_expires_at=0.0),
        made_record("b"),
    ],
    ids=["host", "gpu", "later", "lost", "queued"],
)
def test_a_run_alone_on_a_gpu_holds_all_of_it(beside: RunRecord) -> None:
    assert shared("a", 0.0, 100.0).held_seconds(100.0, [beside]) == 100.0


TIMES = st.floats(0.0, 100.0)


@given(st.lists(st.tuples(TIMES, TIMES), max_size=6))
def test_all_runs_on_a_gpu_hold_what_any_of_them_takes(pairs: list[tuple[float, float]]) -> None:
    runs = [shared(f"run-{i}", 1 + min(pair), 1 + max(pair)) for i, pair in enumerate(pairs)]
    edges = sorted({time for one in runs for time in (one.started_at or 0.0, one.end_at(0.0))})
    covered = sum(
        after - before
        for before, after in pairwise(edges)
        if any((one.started_at or 0.0) <= before and after <= one.end_at(0.0) for one in runs)
    )
    assert sum(one.held_seconds(one.end_at(0.0), runs) for one in runs) == pytest.approx(covered)


def test_a_launched_run_is_charged_beside_those_on_its_gpu(ledger: Ledger, tmp_path: Path) -> None:
    ledger.insert(shared("other", 1.0, None, host="", gpus="", num_gpus=0.25, state=RunState.QUEUED))
    assert ledger.start("other", socket.gethostname(), 1, "gpu", 1.0, 1e10, gpus="GPU-2f")
    run = queue(ledger, tmp_path / "run", WRITE_RESULT + "finish()", num_gpus=0.25)
    finished = execute(run, {**os.environ, "CUDA_VISIBLE_DEVICES": "GPU-2f"}, QUICK)
    record = ledger.get("run")
    assert record.gpus == "GPU-2f"
    assert record.started_at is not None
    assert record.finished_at is not None
    assert finished.gpu_seconds == record.gpu_seconds
    assert 0.4 < record.gpu_seconds / (record.finished_at - record.started_at) <= 0.5
