"""A runner on a real Ray of this machine, with small programs in the trainer's place."""

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from queued_runs import queue, wait_for
from simulation import measurement

from search.cluster import ray_variables
from search.flight import Patience
from search.launch import Timing
from search.ledger import Ledger
from search.run import Finished, Progress, Run
from trainer.result import Failure, outcome_to_dict

os.environ.update(ray_variables("local", os.environ))  # before Ray is imported

from search.runner import RayRunner

LEASE_SECONDS = 4.0
PATIENCE = Patience(
    poll_seconds=0.2,
    deadline_grace_seconds=3.0,
    settle_seconds=5.0,
    unplaceable_seconds=1.0,
    launch=Timing(poll_seconds=0.2, lease_seconds=LEASE_SECONDS),
)
# Two GPUs that are not there: Ray counts what it is told.
MACHINE = {"num_cpus": 2, "num_gpus": 2, "resources": {"accelerator_type:H100": 1}}

MEASUREMENT = measurement(val_bpb=1.25, seed=1)
FINISH = f"""
import json, os, pathlib
pathlib.Path("environment.json").write_text(json.dumps(dict(os.environ)))
step = {{"event": "TrainStep", "time": 1.0, "step": 4, "progress": 0.5, "train_loss": 3.0, "tokens_per_second": 9.0}}
pathlib.Path("events.jsonl").write_text(json.dumps(step) + "\\n")
pathlib.Path("result.tmp").write_text({json.dumps(json.dumps(outcome_to_dict(MEASUREMENT)))})
os.rename("result.tmp", "result.json")
"""
HANG = """
import os, pathlib, time
pathlib.Path("pid.tmp").write_text(str(os.getpid()))
os.rename("pid.tmp", "pid")
time.sleep(600)
"""
WAIT = "import pathlib, time\nwhile not pathlib.Path('go').exists(): time.sleep(0.05)\n" + FINISH


@dataclass
class Bench:
    """A runner, its ledger and a folder for runs."""

    runner: RayRunner
    ledger: Ledger
    folder: Path

    def submit(self, name: str, program: str, **changes: Any) -> Run:
        run = queue(self.ledger, self.folder / name, program, **changes)
        self.runner.submit(run)
        return run

    def finish(self, *runs: Run, seconds: float = 120.0) -> list[Finished]:
        """The ends of these runs, in their order; no run ends twice."""
        finished = [report for report in self.reports(len(runs), seconds) if isinstance(report, Finished)]
        by_id = {report.run_id: report for report in finished}
        assert len(by_id) == len(finished)
        return [by_id[run.run_id] for run in runs]

    def reports(self, ends: int, seconds: float = 120.0) -> list[Progress | Finished]:
        reports: list[Progress | Finished] = []
        deadline = time.monotonic() + seconds
        while sum(isinstance(report, Finished) for report in reports) < ends:
            assert time.monotonic() < deadline, reports
            reports += self.runner.wait(0.5)
        return reports

    def failure(self, run: Run, seconds: float = 120.0) -> Failure:
        """The failure a run ends with; the ledger has the same."""
        [finished] = self.finish(run, seconds=seconds)
        assert isinstance(finished.outcome, Failure)
        assert self.ledger.get(run.run_id).outcome == finished.outcome
        return finished.outcome


def started(run: Run) -> int:
    """The process id of a hanging trainer, once it runs."""
    wait_for((run.folder / "pid").exists)
    return int((run.folder / "pid").read_text())
