"""Runs on Ray: one task a run. The only module that imports Ray.

Set the variables of cluster.ray_variables before this module is imported; Ray reads them once, as it is imported.
Ray's word that a task has ended is taken, its silence is not: leases and deadlines are watched in the ledger.
"""

import logging
import math
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from search.cluster import (
    LOCAL_ADDRESS,
    SEATS,
    TURN_SHARE,
    Need,
    Resources,
    count_slots,
    describe,
)
from search.errors import RunnerError, StoreError
from search.flight import PATIENCE, Flight, Patience
from search.launch import execute_on_worker
from search.ledger import Ledger
from search.run import Finished, Progress, Run
from trainer.result import Failure, FailureKind, Measurement

OBJECT_STORE_BYTES = 100 * 2**20  # a task passes a Run and a Finished; Ray's default is 30 % of the memory
CONNECT_SECONDS = 10.0
MESSAGE_CHARACTERS = 400


class RayRunner:
    """The Runner on a Ray of this machine or on a cluster. One at a time in a process.

    Args:
        ledger: where the launchers of the submitted runs report; each run has its row there before it is submitted.
        address: local starts a Ray here; anything else is where one runs, such as 10.0.0.1:6379.
        machine: num_cpus, num_gpus and resources of a Ray started here, where they are not what Ray finds.

    Raises:
        RunnerError: Ray does not start here, or does not answer at the address.
    """

    def __init__(
        self,
        ledger: Ledger,
        address: str = LOCAL_ADDRESS,
        patience: Patience = PATIENCE,
        machine: Mapping[str, Any] | None = None,
    ) -> None:
        self._ledger = ledger
        self._patience = patience
        self._is_ours = address == LOCAL_ADDRESS
        self._flights: dict[str, Flight] = {}
        self._reports: list[Progress | Finished] = []
        self._need = Need(num_cpus=1, num_gpus=0, accelerator=None)
        self._looked_at = 0.0
        _connect(address, machine or {})
        # Only the loop repeats a run, and records it; Ray would silently repeat it three times.
        self._task: Any = ray.remote(max_retries=0)(execute_on_worker)

    def prepare(self, rung: str, world_size: int, accelerator: str | None) -> float:
        """Get ready for the runs of a rung; free_slots counts for them from now on.

        Returns:
            GPUs that each of them holds: a share of one for a run on one, else world_size; 0 where there is no GPU.

        Raises:
            RunnerError: no node can hold one such run; Ray would let it wait for ever without an error.
        """
        nodes = _nodes()
        has_gpus = accelerator is not None or any(node.get("GPU") for node in nodes)
        on_gpus = TURN_SHARE if world_size == 1 else world_size
        num_gpus, num_cpus = (on_gpus, 0) if has_gpus else (0, world_size)
        need = Need(num_cpus=num_cpus, num_gpus=num_gpus, accelerator=accelerator)
        if count_slots(nodes, [], need) == 0:
            raise RunnerError(f"rung {rung}: expected {need}, got a cluster with {describe(nodes)}")
        self._need = need
        return num_gpus

    @property
    def free_slots(self) -> int:
        """How many more runs of the prepared rung could start now; of one CPU each before any is prepared.

        Submitting no more than this keeps Ray's own queue empty, so that a run on a whole node is not overtaken by
        small ones for ever.
        """
        held = [Need.of(flight.run) for flight in self._flights.values()]
        slots = count_slots(_nodes(), held, self._need)
        if self._is_ours:
            return slots
        # Others may use the cluster too. Their share is known as a sum over nodes only.
        queued = [_asked_of_ray(flight) for flight in self._flights.values() if not flight.is_running]
        further = replace(self._need, num_gpus=SEATS[-1]) if self._need.is_shared else self._need
        return min(slots, count_slots([ray.available_resources()], queued, further))

    def submit(self, run: Run) -> None:
        """Start a queued run and return at once; never retries by itself."""
        run = replace(run, folder=run.folder.absolute())
        need = Need.of(run)
        num_gpus = self._free_seat(need) if need.is_shared else need.num_gpus
        task = self._task.options(
            name=run.run_id, num_cpus=need.num_cpus, num_gpus=num_gpus, accelerator_type=need.accelerator
        )
        self._flights[run.run_id] = Flight(run, task.remote(run, self._patience.launch), num_gpus)

    def _free_seat(self, need: Need) -> float:
        """The largest share that some GPU lacks, of those that runs of whole GPUs leave."""
        nodes, kinds = _nodes(), {None, need.accelerator}
        taken = [flight.num_gpus for flight in self._flights.values() if flight.run.accelerator in kinds]
        whole = [replace(need, num_gpus=math.ceil(share)) for share in taken if share >= 1]
        one = replace(need, num_gpus=1)
        free = (seat for seat in SEATS if count_slots(nodes, [*whole, *[one] * taken.count(seat)], one) > 0)
        return next(free, SEATS[-1])

    def wait(self, timeout_seconds: float) -> Sequence[Progress | Finished]:
        """Reports that came in, waiting at most timeout_seconds for the first; none at once when nothing runs.

        Raises:
            StoreError: the storage does not answer. No report is lost; the next call returns it.
        """
        end = time.monotonic() + timeout_seconds
        while True:
            self._take_returned()
            self._look()
            remaining = end - time.monotonic()
            if self._reports or not self._flights or remaining <= 0:
                reports, self._reports = self._reports, []
                return reports
            ray.wait(self._tasks(), timeout=min(remaining, self._patience.poll_seconds))

    def cancel(self, run_id: str) -> None:
        """Kill a run; its Finished follows with FailureKind.CANCELLED, or with what it ended with just before.

        Nothing happens to a run that has ended.
        """
        flight = self._flights.get(run_id)
        if flight is not None:
            self._record(flight, Failure(kind=FailureKind.CANCELLED, message="cancelled by the user"))
            ray.cancel(flight.task, force=True)

    def close(self) -> None:
        """Cancel what still runs and let go of Ray; one started here ends."""
        for run_id in list(self._flights):
            with suppress(StoreError):  # its lease will tell
                self.cancel(run_id)
        self._flights.clear()
        ray.shutdown()

    def describe(self) -> str:
        """Ray's version and what the cluster has, for people."""
        return f"Ray {ray.__version__}: {describe(_nodes())}"

    def _tasks(self) -> list[Any]:
        return [flight.task for flight in self._flights.values()]

    def _take_returned(self) -> None:
        """Report the runs whose task has ended, by itself or with its worker."""
        if not self._flights:
            return
        ready, _ = ray.wait(self._tasks(), num_returns=len(self._flights), timeout=0)
        for flight in [flight for flight in self._flights.values() if flight.task in ready]:
            try:
                finished: Finished = ray.get(flight.task)
            except RayError as error:
                self._finish(flight, Failure(kind=FailureKind.MACHINE, message=_message(error)))
            else:
                self._finish(flight, finished.outcome, finished.gpu_seconds)

    def _look(self) -> None:
        """Read progress and ends from the ledger, and give up the runs that nobody will hear of again."""
        now = time.monotonic()
        if now - self._looked_at < self._patience.poll_seconds or not self._flights:
            return
        nodes = _nodes()
        for flight in list(self._flights.values()):
            record = self._ledger.get(flight.run.run_id)
            if record.progress != flight.progress:
                flight.progress = record.progress
                self._reports.append(Progress(run_id=record.run_id, values=record.progress))
            is_placeable = count_slots(nodes, [], Need.of(flight.run)) > 0
            reason = flight.loss(record, is_placeable, now, self._patience)
            if reason is not None:
                ray.cancel(flight.task, force=True)
                self._finish(flight, Failure(kind=FailureKind.MACHINE, message=reason))
        self._looked_at = now

    def _finish(self, flight: Flight, outcome: Measurement | Failure, gpu_seconds: float | None = None) -> None:
        """Report a run's end, once."""
        finished = self._record(flight, outcome, gpu_seconds)
        del self._flights[flight.run.run_id]
        self._reports.append(finished)

    def _record(self, flight: Flight, outcome: Measurement | Failure, gpu_seconds: float | None = None) -> Finished:
        """Write an end into the ledger, and give the end that counts: the one it has already, where it has one.

        Args:
            gpu_seconds: None counts from the run's start until now.
        """
        run, now = flight.run, time.time()
        if gpu_seconds is None:
            gpu_seconds = self._ledger.held_seconds(run.run_id, now)
        if not self._ledger.finish(run.run_id, outcome, gpu_seconds, now):
            record = self._ledger.get(run.run_id)
            outcome, gpu_seconds = record.outcome or outcome, record.gpu_seconds
        return Finished(run_id=run.run_id, outcome=outcome, gpu_seconds=gpu_seconds)


def _connect(address: str, machine: Mapping[str, Any]) -> None:
    """Start or join a Ray. A bare ray.init() would attach to whatever cluster ran on this host last."""
    if address.startswith("ray://"):
        raise RunnerError(
            f"address: expected local or HOST:PORT, since Ray Client loses runs when it is cut off, got {address}"
        )
    if ":" in address:
        _reach(address)
    options: dict[str, Any] = {}
    if address == LOCAL_ADDRESS:
        options = {**machine, "include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except (RayError, RuntimeError, ValueError, OSError) as error:
        raise RunnerError(f"Ray at {address}: expected one that lets us in, got {_message(error)}") from error


def _asked_of_ray(flight: Flight) -> Need:
    """What Ray was asked to keep for a run."""
    return replace(Need.of(flight.run), num_gpus=flight.num_gpus)


def _nodes() -> list[Resources]:
    """What each living node has in all, held or not."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _reach(address: str) -> None:
    """Ray itself tries for two minutes to reach a host that is not there."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, ValueError, OverflowError) as error:
        raise RunnerError(f"Ray at {address}: expected one that answers, got {_message(error)}") from error


def _message(error: BaseException) -> str:
    """An error as one line; of an exception in a task, the exception."""
    cause = error.cause if isinstance(error, RayTaskError) else error
    return " ".join(f"{type(cause).__name__}: {cause}".split())[:MESSAGE_CHARACTERS]
