"""How isolated programs end, and what they find on the host that runs them: ranks, packages, GPUs, compilers."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from isolated_jobs import LIMITS, job_of, run_or_skip

from search.verify.isolate import IsolationError, Way, compilers, run_isolated, run_untrusted

each_way = pytest.mark.parametrize("way", list(Way), ids=["namespaces", "landlock"])


def living(marker: str) -> list[int]:
    """Processes of this host with a word in their command line."""
    found: list[int] = []
    for process in psutil.process_iter(["cmdline", "status"]):
        if process.info["status"] != psutil.STATUS_ZOMBIE and marker in (process.info["cmdline"] or []):
            found.append(process.pid)
    return found


ORPHANS = """
import os, sys, time
for _ in range(2):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            while True:
                time.sleep(0.01)
        os._exit(0)
time.sleep(0.3)
"""


@each_way
def test_an_endless_program_is_killed_with_all_that_it_started(tmp_path: Path, way: Way) -> None:
    limits = replace(LIMITS, seconds=1.5)
    marker = f"endless-{way.name}-{os.getpid()}"
    ended = run_or_skip(job_of(tmp_path, f"{ORPHANS}\nwhile True: pass", marker, limits=limits), way)
    assert ended.killed == "no end within 1.5 s"
    assert living(marker) == []


@each_way
def test_nothing_outlives_a_program_that_ends(tmp_path: Path, way: Way) -> None:
    marker = f"ended-{way.name}-{os.getpid()}"
    ended = run_or_skip(job_of(tmp_path, f"{ORPHANS}\nsys.exit(7)", marker), way)
    assert (ended.exit_code, ended.killed) == (7, None)
    assert living(marker) == []


@each_way
def test_a_fork_bomb_is_stopped(tmp_path: Path, way: Way) -> None:
    marker = f"bomb-{way.name}-{os.getpid()}"
    code = "import os, time\nfor _ in range(11): os.fork()\ntime.sleep(60)"
    ended = run_or_skip(job_of(tmp_path, code, marker), way)
    assert ended.killed == "more than 40 processes"
    assert living(marker) == []


@each_way
def test_memory_of_many_processes_counts_together(tmp_path: Path, way: Way) -> None:
    code = (
        "import os, time\nfor _ in range(3): os.fork()\nheld = bytearray(os.urandom(1)) * (60 * 2**20)\ntime.sleep(60)"
    )
    ended = run_or_skip(job_of(tmp_path, code, limits=replace(LIMITS, memory_bytes=200 * 2**20)), way)
    assert ended.killed == f"more than {200 * 2**20:,} bytes of memory"


@each_way
def test_a_full_disk_is_foreseen(tmp_path: Path, way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.verify.watch.DISK_SECONDS", 0.1)
    code = "import time\nfor i in range(20): open(f'{i}', 'wb').write(bytes(2**20))\ntime.sleep(60)"
    ended = run_or_skip(job_of(tmp_path, code, limits=replace(LIMITS, disk_bytes=10 * 2**20)), way)
    assert ended.killed == f"more than {10 * 2**20:,} bytes on disk"


@each_way
def test_it_ends_with_whoever_started_it(tmp_path: Path, way: Way) -> None:
    run_or_skip(job_of(tmp_path, "pass"), way)
    marker = f"left-{way.name}-{os.getpid()}"
    starter = f"""
import sys
from pathlib import Path
from search.child import harmless
from search.verify.isolate import Job, Way, run_isolated
from search.verify.watch import Limits
command = [sys.executable, "-c", {ORPHANS + "time.sleep(60)"!r}, {marker!r}]
folder = Path({str(tmp_path / "work")!r})
limits = Limits(seconds=60.0)
job = Job(command=command, folder=folder, output=folder / "o", limits=limits, environment={{}})
run_isolated(job, [Way.{way.name}])
"""
    driver = subprocess.Popen([sys.executable, "-c", starter], env={**os.environ, "TMPDIR": str(tmp_path)})
    wait_until(lambda: len(living(marker)) >= 3)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    wait_until(lambda: living(marker) == [])


def wait_until(is_so: Any) -> None:
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_several_ranks_need_a_network_of_their_own(tmp_path: Path) -> None:
    job = replace(job_of(tmp_path, "print('ran')"), needs_loopback=True)
    with pytest.raises(IsolationError, match="expected one process, got several"):
        run_isolated(job, [Way.LANDLOCK])
    assert not job.output.exists()


def test_ranks_reach_each_other(tmp_path: Path) -> None:
    code = (
        "import socket; s = socket.create_server(('127.0.0.1', 0)); c = socket.create_connection(s.getsockname());"
        " c.send(b'x'); print(s.accept()[0].recv(1))"
    )
    job = replace(job_of(tmp_path, code), needs_loopback=True)
    assert run_or_skip(job, Way.NAMESPACES).exit_code == 0
    assert job.output.read_text() == "b'x'\n"


@each_way
def test_what_pip_installed_with_target_is_seen(tmp_path: Path, way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as outside:  # an isolated program may have a /tmp of its own
        target, code = Path(outside, "target"), Path(outside, "code")
        (target / "added-1.0.dist-info").mkdir(parents=True)
        (target / "added.py").write_text("print('seen')\n")
        code.mkdir()
        (code / "own.py").write_text("print('code of whoever verifies')\n")
        monkeypatch.setattr(sys, "path", [*sys.path, str(target), str(code)])
        job = job_of(tmp_path, "import added\ntry: import own\nexcept ImportError: print('alone')")
        ended = run_or_skip(replace(job, command=[one for one in job.command if one != "-I"]), way)
    assert (ended.exit_code, job.output.read_text().split()) == (0, ["seen", "alone"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a host without GPUs")
def test_a_program_that_would_not_see_its_gpus_is_not_run(tmp_path: Path) -> None:
    """Its trainer would run on the CPU instead, for days."""
    job = replace(job_of(tmp_path, "open('ran', 'w')"), num_gpus=1)
    with pytest.raises(IsolationError, match=r"GPUs to work in a program that is isolated .* got .*CUDA"):
        run_untrusted(job, is_unsafe_allowed=False)
    assert not (job.folder / "ran").exists()
    assert run_untrusted(job, is_unsafe_allowed=True).unsafe
    assert (job.folder / "ran").exists()


def test_a_command_that_is_not_there_is_no_host_that_cannot(tmp_path: Path) -> None:
    job = replace(job_of(tmp_path, ""), command=["/usr/bin/nothing-here"])
    with pytest.raises(IsolationError, match="No such file"):
        run_isolated(job)


@each_way
def test_a_compiler_that_lies_elsewhere_can_be_run(tmp_path: Path, way: Way) -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as outside:
        compiler = Path(outside, "gcc-99/bin/gcc")
        compiler.parent.mkdir(parents=True)
        compiler.write_text("#!/bin/sh\necho compiled\n")
        compiler.chmod(0o755)
        job = job_of(tmp_path, "import os, subprocess; subprocess.run([os.environ['CC']], check=True)")
        ended = run_or_skip(replace(job, environment={**job.environment, "CC": str(compiler)}), way)
        assert (ended.exit_code, job.output.read_text()) == (0, "compiled\n")


def test_a_compiler_at_home_shows_nothing_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("bin/gcc", ".local/bin/cc"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch(mode=0o755)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert compilers({"PATH": f"{tmp_path}/bin:{tmp_path}/.local/bin", "CC": "gcc"}) == []
