"""A driver on a Ray of its own: its runs outlive Ctrl-C, and end with it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from queued_runs import is_gone, queue, wait_for
from ray_bench import HANG, WAIT, started

from search.ledger import Ledger
from search.run_record import RunState

DRIVER = """
import os, signal, sys
from pathlib import Path
from search.cluster import ray_variables
os.environ.update(ray_variables("local", os.environ))
from search.ledger import Ledger
from search.run import Finished, Run
from search.runner import RayRunner
folder, url = Path(sys.argv[1]), sys.argv[2]
signal.signal(signal.SIGINT, lambda *_: (folder / "interrupted").touch())
runner = RayRunner(Ledger.open(url), "local", machine={"num_cpus": 2})
for name in ("short", "long"):
    runner.submit(Run(run_id=name, folder=folder / name, world_size=1, num_gpus=0, accelerator=None, environment={},
                      deadline_seconds=300.0, storage_url=url))
while True:
    for report in runner.wait(1.0):
        if isinstance(report, Finished):
            (folder / f"finished-{report.run_id}-{type(report.outcome).__name__}").touch()
"""


def test_runs_outlive_ctrl_c_and_do_not_outlive_the_driver(tmp_path: Path) -> None:
    ledger = Ledger.open(f"sqlite:///{tmp_path / 'caddie.db'}")
    short = queue(ledger, tmp_path / "short", WAIT)
    long = queue(ledger, tmp_path / "long", HANG)
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(tmp_path), ledger.url], start_new_session=True)
    wait_for((tmp_path / "long" / "pid").exists, 60.0)
    wait_for(lambda: ledger.get("short").state is RunState.RUNNING, 60.0)
    os.killpg(driver.pid, signal.SIGINT)  # as a terminal does: to every process of the job
    wait_for((tmp_path / "interrupted").exists)
    (short.folder / "go").touch()
    wait_for((tmp_path / "finished-short-Measurement").exists)
    pid, worker = started(long), ledger.get("long").pid
    driver.kill()
    driver.wait()
    wait_for(lambda: is_gone(pid) and is_gone(worker), 30.0)
    assert ledger.get("long").state is RunState.RUNNING  # until its lease ends
