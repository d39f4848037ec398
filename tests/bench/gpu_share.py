"""How much of a study's time its GPUs trained: python tests/bench/gpu_share.py RUNS [--gpus N].

RUNS is a folder of run folders such as runs/gpu_share after `caddie run tests/bench/gpu_share.yaml`, on the machine
that ran them. The share counts timed training steps, from the first program's writing to the last run's end, so
starting, compiling, compressing and scoring lower it unless another run trains meanwhile.
"""

import argparse
import json
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Times:
    """Of one run: when it was written, started and ended, seconds until its first timed step, and of timed steps."""

    name: str
    written: float
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
        # Before Ray's worker and Python have started. Of a copied folder it says nothing.
        written=min(start, (path.parent / "train_gpt.py").stat().st_mtime),
        start=start,
        end=events[-1]["time"],
        start_up_seconds=begin - start - waited,
        waited_seconds=waited,
        train_seconds=stopped[0]["train_seconds"],
    )


def share_of(folder: Path, num_gpus: int) -> dict[str, Any]:
    """The share of a folder's runs, and what it is made from.

    Raises:
        FileNotFoundError: no run in it has finished training.
    """
    found = [times_of(path) for path in sorted(folder.rglob("events.jsonl"))]
    runs = sorted((times for times in found if times is not None), key=lambda times: times.start)
    if not runs:
        raise FileNotFoundError(f"{folder}: expected runs that have finished training, got none")
    begin = min(times.written for times in runs)
    seconds = max(times.end for times in runs) - begin
    trained = sum(times.train_seconds for times in runs)
    return {
        "share": trained / seconds / num_gpus,
        "gpus": num_gpus,
        "seconds": seconds,
        "train_seconds": trained,
        "unfinished": len(found) - len(runs),
        "begin": begin,
        "runs": [asdict(times) for times in runs],
    }


def main() -> None:
    """Print a line a run, and the share."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--gpus", type=int, default=1)
    parser.add_argument("--out", type=Path, help="the JSON file to write")
    arguments = parser.parse_args()
    result = share_of(arguments.runs, arguments.gpus)
    for run in result["runs"]:
        print(  # noqa: T201
            f"{run['name']}: {run['start'] - result['begin']:6.1f} to {run['end'] - result['begin']:6.1f} s,"
            f" start-up {run['start_up_seconds']:5.1f} s, waited {run['waited_seconds']:5.1f} s,"
            f" trained {run['train_seconds']:6.1f} s"
        )
    print(  # noqa: T201
        f"{len(result['runs'])} runs, {result['train_seconds']:.1f} s of training in {result['seconds']:.1f} s"
        f" on {arguments.gpus} GPU(s): {result['share']:.3f}"
    )
    if arguments.out:
        arguments.out.write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()
