"""When a submitted run counts as lost, with a clock of the test's own."""

from pathlib import Path

import pytest
from made_records import made_record

from search.flight import Flight, Patience
from search.launch import Timing
from search.run import Run
from search.run_record import RunRecord, RunState

PATIENCE = Patience(
    deadline_grace_seconds=10.0, settle_seconds=5.0, unplaceable_seconds=60.0, launch=Timing(lease_seconds=30.0)
)


@pytest.fixture
def flight() -> Flight:
    run = Run(
        run_id="r",
        folder=Path("r"),
        world_size=1,
        num_gpus=0,
        accelerator=None,
        environment={},
        deadline_seconds=100.0,
        storage_url="sqlite:///x.db",
    )
    return Flight(run, None)


def record(state: RunState, lease_expires_at: float = 0.0) -> RunRecord:
    return made_record("r", state=state, host="node7", lease_expires_at=lease_expires_at)


def test_a_run_that_beats_is_alive_until_long_after_its_deadline(flight: Flight) -> None:
    for now in range(111):
        assert flight.loss(record(RunState.RUNNING, now), True, now, PATIENCE) is None
    reason = flight.loss(record(RunState.RUNNING, 111.0), True, 111.0, PATIENCE)
    assert reason == "still running on node7 long after its deadline of 100 s"


def test_a_host_whose_clock_is_wrong_is_alive_as_long_as_it_beats(flight: Flight) -> None:
    for now in range(100):
        assert flight.loss(record(RunState.RUNNING, now - 1e6), True, now, PATIENCE) is None


def test_silence_longer_than_the_lease_is_a_loss_and_a_beat_ends_it(flight: Flight) -> None:
    assert flight.loss(record(RunState.RUNNING, 30.0), True, 0.0, PATIENCE) is None
    assert flight.loss(record(RunState.RUNNING, 30.0), True, 1.0, PATIENCE) is None
    assert flight.loss(record(RunState.RUNNING, 30.0), True, 31.0, PATIENCE) is None
    assert flight.loss(record(RunState.RUNNING, 61.0), True, 31.5, PATIENCE) is None
    assert flight.loss(record(RunState.RUNNING, 61.0), True, 32.0, PATIENCE) is None
    reason = flight.loss(record(RunState.RUNNING, 61.0), True, 63.0, PATIENCE)
    assert reason == "no heartbeat from node7 for 31 s"


def test_a_queued_run_waits_without_end_while_a_node_could_hold_it(flight: Flight) -> None:
    assert flight.loss(record(RunState.QUEUED), True, 0.0, PATIENCE) is None
    assert flight.loss(record(RunState.QUEUED), True, 1e6, PATIENCE) is None
    assert not flight.is_running


def test_a_queued_run_is_lost_when_no_node_that_could_hold_it_comes_back(flight: Flight) -> None:
    assert flight.loss(record(RunState.QUEUED), False, 0.0, PATIENCE) is None
    assert flight.loss(record(RunState.QUEUED), True, 50.0, PATIENCE) is None
    assert flight.loss(record(RunState.QUEUED), False, 60.0, PATIENCE) is None
    assert flight.loss(record(RunState.QUEUED), False, 120.0, PATIENCE) is None
    assert flight.loss(record(RunState.QUEUED), False, 121.0, PATIENCE) == "no node is left that could hold it"


def test_an_end_in_the_ledger_is_taken_when_the_worker_does_not_return(flight: Flight) -> None:
    assert flight.loss(record(RunState.RUNNING, 1.0), True, 0.0, PATIENCE) is None
    assert flight.is_running
    assert flight.loss(record(RunState.FINISHED, 1.0), True, 1.0, PATIENCE) is None
    assert flight.loss(record(RunState.FINISHED, 1.0), True, 6.5, PATIENCE) == "its worker did not return"
