"""The Runner of a drive, which starts or joins Ray only once a rung is to run: that takes some ten seconds."""

from collections.abc import Callable, Sequence

from search.cluster import LOCAL_ADDRESS
from search.ledger import Ledger
from search.preflight import check_machine
from search.run import Finished, Progress, Run, Runner


class LateRunner:
    """A Runner that is made when it is first prepared.

    Args:
        address: local, or where a Ray runs.
        announce: told that Ray is being started or joined.
    """

    def __init__(self, ledger: Ledger, address: str, announce: Callable[[str], None]) -> None:
        self._ledger = ledger
        self._address = address
        self._announce = announce
        self._made: Runner | None = None

    def prepare(self, rung: str, world_size: int, accelerator: str | None) -> float:
        """Get ready for the runs of a rung; free_slots counts for them from now on.

        Returns:
            GPUs that each of them holds: world_size, or 0 on machines without GPUs.

        Raises:
            RunnerError: no such run could ever start, or Ray does not.
        """
        if self._made is None:
            self._made = self._make(rung, world_size, accelerator)
        return self._made.prepare(rung, world_size, accelerator)

    def _make(self, rung: str, world_size: int, accelerator: str | None) -> Runner:
        if self._address == LOCAL_ADDRESS:
            check_machine(rung, world_size, accelerator)
            self._announce("Starting Ray on this machine.")
        else:
            self._announce(f"Joining Ray at {self._address}.")
        from search.runner import RayRunner  # imports Ray, which takes a second and is not needed by other commands

        return RayRunner(self._ledger, self._address)

    @property
    def _runner(self) -> Runner:
        assert self._made is not None, "prepare comes first"
        return self._made

    @property
    def free_slots(self) -> int:
        """How many more runs of the prepared rung could start now."""
        return self._runner.free_slots

    def submit(self, run: Run) -> None:
        """Start a run and return at once; never retries by itself."""
        self._runner.submit(run)

    def wait(self, timeout_seconds: float) -> Sequence[Progress | Finished]:
        """Reports that came in, waiting at most timeout_seconds for the first; none at once when nothing runs."""
        return self._runner.wait(timeout_seconds)

    def cancel(self, run_id: str) -> None:
        """Kill a run; its Finished follows with FailureKind.CANCELLED."""
        self._runner.cancel(run_id)

    def close(self) -> None:
        """Release what was started, if anything was."""
        if self._made is not None:
            self._made.close()
