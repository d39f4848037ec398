"""Small programs in the trainer's place, and what the launcher makes of them."""

import json
import os
from pathlib import Path

from queued_runs import wait_for
from simulation import measurement

from search.launch import Timing, execute
from search.ledger import Ledger
from search.run import Run
from search.run_record import RunState
from trainer.result import Failure, FailureKind, outcome_to_dict

QUICK = Timing(poll_seconds=0.1, lease_seconds=30.0, teardown_seconds=0.5)

MEASUREMENT = measurement(val_bpb=1.25, seed=1)

WRITE_RESULT = f"""
import json, os, pathlib
def finish():
    if os.environ.get("RANK", "0") == "0":
        pathlib.Path("result.tmp").write_text({json.dumps(json.dumps(outcome_to_dict(MEASUREMENT)))})
        os.rename("result.tmp", "result.json")
"""
# Ignores SIGTERM and has a child in a session of its own, as bad a tenant as a trainer can be.
HANG = """
import os, pathlib, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(["sleep", "600"], start_new_session=True)
name = os.environ.get("RANK", "0")
pathlib.Path(f"pids.{name}.tmp").write_text(f"{os.getpid()} {child.pid}")
os.rename(f"pids.{name}.tmp", f"pids.{name}")
print("hanging", flush=True)
time.sleep(600)
"""
HANG_ALONE = HANG.replace('child = subprocess.Popen(["sleep", "600"], start_new_session=True)\n', "").replace(
    " {child.pid}", ""
)


def failure_of(ledger: Ledger, run: Run, timing: Timing = QUICK) -> Failure:
    """The failure a run ends with, which the ledger has too."""
    finished = execute(run, os.environ, timing)
    record = ledger.get(run.run_id)
    assert isinstance(finished.outcome, Failure)
    assert record.outcome == finished.outcome
    assert record.state is (RunState.CANCELLED if finished.outcome.kind is FailureKind.CANCELLED else RunState.FAILED)
    return finished.outcome


def pids_in(folder: Path, ranks: int = 1) -> list[int]:
    wait_for(lambda: all((folder / f"pids.{rank}").exists() for rank in range(ranks)))
    return [int(pid) for rank in range(ranks) for pid in (folder / f"pids.{rank}").read_text().split()]
