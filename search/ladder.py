"""Drives the rungs of a study side by side: the dearest first, each fed by the one before while that still runs."""

from collections.abc import Callable, Sequence

from search.errors import RunnerError
from search.promotion import Promotion
from search.rung_loop import RungLoop
from search.services import Brake, Services

POLL_SECONDS = 1.0


class Ladder:
    """Drives some rungs of a study until nothing of them is left, or the brake stops it.

    A free slot goes to the dearest rung that wants it. A rung that waits for its first slot keeps the rungs before it
    from starting anything: many small runs would otherwise never leave a whole machine free for a large one.

    Args:
        loops: the rungs, cheapest first.
        promotions: what feeds each rung from the one before; None for the first, and where nothing is to be promoted.
        keep: called about once a second; raises when this process no longer drives the study.
    """

    def __init__(
        self,
        loops: Sequence[RungLoop],
        promotions: Sequence[Promotion | None],
        services: Services,
        brake: Brake,
        keep: Callable[[], None],
    ) -> None:
        self._loops = loops
        self._promotions = promotions
        self._services = services
        self._brake = brake
        self._keep = keep
        self._begun: set[str] = set()  # names of rungs that the observer has heard of
        self._ended: set[str] = set()
        self._refused: dict[int, RunnerError] = {}  # why a rung fits no machine now, by its place

    def drive(self) -> None:
        """Run the rungs.

        Raises:
            RunnerError: no run can work: the data is missing or damaged, trial after trial fails for the machine, or
                what is left fits no machine.
        """
        for loop in self._loops:
            self._announce_start(loop)
            loop.take_over()
        while True:
            self._keep()
            self._advance()
            if not any(len(loop.in_flight) for loop in self._loops) and not self._may_go_on():
                break
            self._wait()
            for loop in self._loops:
                loop.in_flight.watch()
                loop.in_flight.cancel(self._brake)
        for loop in self._loops:
            loop.queue_due()
        self._raise_what_is_wrong()

    def is_finished(self, index: int) -> bool:
        """Whether a rung is settled, everything that feeds it is, and nothing more will be promoted into it."""
        promotion, loop = self._promotions[index], self._loops[index]
        if promotion is not None and (not self.is_finished(index - 1) or self._is_due(index)):
            return False
        return loop.is_settled

    def _is_over(self, index: int) -> bool:
        """Whether nothing more comes out of a rung: it is finished, or the rest of it cannot be afforded."""
        loop = self._loops[index]
        return self.is_finished(index) or (loop.refusal is not None and not len(loop.in_flight))

    def _is_due(self, index: int) -> bool:
        """Whether a trial of the rung before is to be promoted now."""
        promotion = self._promotions[index]
        return promotion is not None and bool(promotion.due(self._is_over))

    def _wants_runs(self, index: int) -> bool:
        loop = self._loops[index]
        return loop.may_start and (loop.has_more or self._is_due(index))

    def _may_go_on(self) -> bool:
        """Whether something may still start, now or once a slot is free."""
        indexes = range(len(self._loops))
        return not self._is_broken and any(self._wants_runs(index) and index not in self._refused for index in indexes)

    def _advance(self) -> None:
        """Queue what is due and start what there are slots for, dearest rung first."""
        self._refused.clear()
        if self._is_broken:
            return
        for loop in self._loops:  # all, before any counts as finished
            loop.queue_due()
        for index in reversed(range(len(self._loops))):
            if self._wants_runs(index) and self._start(index):
                break
        for index in range(len(self._loops)):
            self._announce_end(index)

    def _start(self, index: int) -> bool:
        """Start what there are slots for in one rung; True where it waits for its first slot."""
        loop, runner = self._loops[index], self._services.runner
        try:
            num_gpus = runner.prepare(loop.rung.name, loop.rung.to_budget().world_size, loop.rung.accelerator)
        except RunnerError as error:  # it may fit later, as nodes come and go; others go on meanwhile
            self._refused[index] = error
            return False
        loop.start_runs(num_gpus)
        while runner.free_slots > 0 and loop.may_start and self._is_due(index):
            self._promote(index)
            loop.start_runs(num_gpus)
        return self._wants_runs(index) and not len(loop.in_flight)

    def _promote(self, index: int) -> None:
        promotion = self._promotions[index]
        assert promotion is not None
        promotion.queue(promotion.due(self._is_over))
        self._announce_start(self._loops[index])

    def _wait(self) -> None:
        """Take in reports, or let a second pass where the runner has no run of its own to wait for."""
        if not any(loop.in_flight.has_own for loop in self._loops):
            self._services.sleep(POLL_SECONDS)
        for report in self._services.runner.wait(POLL_SECONDS):
            for loop in self._loops:
                loop.in_flight.take(report)

    def _announce_start(self, loop: RungLoop) -> None:
        rows = loop.study.rows()
        if rows and loop.rung.name not in self._begun:
            self._begun.add(loop.rung.name)
            self._services.observer.rung_started(loop.rung.name, rows)

    def _announce_end(self, index: int) -> None:
        name, rows = self._loops[index].rung.name, self._loops[index].study.rows()
        if rows and name not in self._ended and self.is_finished(index):
            self._ended.add(name)
            self._services.observer.rung_finished(name, rows)

    @property
    def _is_broken(self) -> bool:
        return any(loop.broken for loop in self._loops)

    def _raise_what_is_wrong(self) -> None:
        for loop in self._loops:
            if loop.broken:
                raise RunnerError(f"{loop.rung.name}: {loop.broken}")
        for error in self._refused.values() if self._brake.may_ask else ():
            raise error
