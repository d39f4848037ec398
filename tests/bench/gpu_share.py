"""How much of a study's time its GPUs trained: python tests/bench/gpu_share.py RUNS [--gpus N], after `caddie run`.

RUNS is a folder of run folders such as runs/mine. The share counts timed training steps, from the first run's start to
the last one's end, so starting, compiling, compressing and scoring lower it unless another run trains meanwhile.
"""

import argparse
import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Times:
    """Of one run: when it started and ended, seconds until its first timed step, and of timed steps."""

    name: str
    start: float
    end: float
    start_up_seconds: float
    waited_seconds: float
    train_seconds: float


def times_of(path: Path) -> Times | None:
    """The times of a run that finished training; None of any other."""
    events: list[dict[str, Any]] = [json.loads(line) for line in path.read_text().splitlines()]
    phases = [event for event in events if event["event"] == "PhaseEntered"]
    stopped = [event for event in events if event["event"] == "TrainStopped"]
    if not stopped:
        return None
    begin = next(event["time"] for event in phases if event["phase"] == "train")
    waited = sum(
        after["time"] - event["time"]
        for event, after in pairwise(phases)
        if event["phase"] == "wait" and event["time"] < begin
    )
    start = events[0]["time"]
    return Times(
        name=path.parent.name,
        start=start,
        end=events[-1]["time"],
        start_up_seconds=begin - start - waited,
        waited_seconds=waited,
        train_seconds=stopped[0]["train_seconds"],
    )


def main() -> None:
    """Print a line a run, and the share."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--gpus", type=int, default=1)
    arguments = parser.parse_args()
    found = [times_of(path) for path in sorted(arguments.runs.rglob("events.jsonl"))]
    runs = sorted((times for times in found if times is not None), key=lambda times: times.start)
    begin = runs[0].start
    for times in runs:
        print(  # noqa: T201
            f"{times.name}: {times.start - begin:6.1f} to {times.end - begin:6.1f} s,"
            f" start-up {times.start_up_seconds:5.1f} s, waited {times.waited_seconds:5.1f} s,"
            f" trained {times.train_seconds:6.1f} s"
        )
    seconds = max(times.end for times in runs) - begin
    trained = sum(times.train_seconds for times in runs)
    share = trained / seconds / arguments.gpus
    print(f"{len(runs)} runs, {trained:.1f} s of training in {seconds:.1f} s on {arguments.gpus} GPU(s): {share:.3f}")  # noqa: T201


if __name__ == "__main__":
    main()
