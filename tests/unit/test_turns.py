"""Runs that share a device: one turn at a time, last turns first."""

import threading
import time
from pathlib import Path

from trainer.turns import turn_on


def test_a_last_turn_goes_before_a_first_one_that_waits_longer(tmp_path: Path) -> None:
    for attempt in range(20):
        path, order = tmp_path / f"{attempt}.turn", list[str]()

        def take(name: str, goes_first: bool, path: Path = path, order: list[str] = order) -> None:
            with turn_on(path, goes_first=goes_first):
                order.append(name)

        waiting = [threading.Thread(target=take, args=(name, name == "last")) for name in ("one", "other", "last")]
        with turn_on(path, goes_first=False):
            for thread in waiting:
                thread.start()
                time.sleep(0.01)
            assert not order
        for thread in waiting:
            thread.join(10)
        assert order[0] == "last"
        assert sorted(order[1:]) == ["one", "other"]


def test_turns_do_not_overlap(tmp_path: Path) -> None:
    inside, most = [0], [0]

    def take(goes_first: bool) -> None:
        for _ in range(50):
            with turn_on(tmp_path / "gpu.turn", goes_first=goes_first):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0.0005)
                inside[0] -= 1

    threads = [threading.Thread(target=take, args=(index % 2 == 0,)) for index in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert most == [1]
