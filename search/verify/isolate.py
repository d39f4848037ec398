"""Runs an untrusted command: no network, nothing readable but what is named, limits of memory, time and processes.

search/verify/confine.py says how the kernel is made to hold to it. What it cannot count, such as the memory of many
processes together, is watched from here, and the command is killed with all it started when it goes over a limit.
"""

import json
import os
import resource
import site
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path

import psutil

from search.errors import SubmissionError
from search.verify.confine import STARTING, Policy, descendants

ROOT = Path(__file__).parents[2]
WATCH_SECONDS = 0.1
DISK_SECONDS = 3.0  # between two looks at how much was written
END_SECONDS = 10.0
MAX_FILES = 200_000
TASKS_PER_PROCESS = 4  # the kernel counts threads, most of them in few processes; the watch counts processes
MOUNT_POINT, HOME, TEMPORARY = "root", "home", "home/tmp"  # in a folder made for one command
# The Python installation comes on top. Of /etc only what has no secrets: root could read its own.
SYSTEM = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/sys/devices/system", "/sys/kernel/mm"),
    *("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime", "/etc/alternatives"),
    *("/etc/passwd", "/etc/group", "/etc/hosts", "/etc/host.conf", "/etc/nsswitch.conf", "/etc/ssl/openssl.cnf"),
)
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
GPU_SYSTEM = ("/sys/bus", "/sys/class", "/sys/devices", "/sys/module", "/opt/cuda")


class Way(StrEnum):
    """How a program is isolated, the stronger way first."""

    NAMESPACES = "namespaces and Landlock"
    LANDLOCK = "Landlock and seccomp"


class IsolationError(SubmissionError):
    """This host cannot isolate a command."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What an isolated command may use; over one of them, it is killed.

    Attributes:
        memory_bytes: of all its processes; three quarters of this host's unless given.
        disk_bytes: in its folder, its caches and its output.
        processes: at a time; torch compiles with up to 32 of them a rank.
    """

    seconds: float
    memory_bytes: int = field(default_factory=lambda: psutil.virtual_memory().total * 3 // 4)
    disk_bytes: int = 32 * 2**30
    processes: int = 192


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """An untrusted command and what it gets.

    Attributes:
        folder: its working folder, which it may change; with output, the only thing that it leaves behind.
        output: what it prints goes here.
        readable: files and folders besides Python and the system's libraries; where a folder holds links, the files
            they lead to.
        environment: all its variables; places for caches are added.
        num_gpus: 0 shows it no device.
        needs_loopback: it talks to itself through sockets, as several ranks do.
    """

    command: Sequence[str]
    folder: Path
    output: Path
    limits: Limits
    environment: Mapping[str, str]
    readable: Sequence[Path] = ()
    num_gpus: int = 0
    needs_loopback: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """How a command ended.

    Attributes:
        killed: the limit it went over; None when it ended by itself.
        way: how it was isolated; None where it was not.
    """

    exit_code: int
    seconds: float
    killed: str | None
    way: Way | None


def run_isolated(job: Job, ways: Sequence[Way] = tuple(Way)) -> Ended:
    """Run a command to its end by the first way that this host allows; none of its processes lives on.

    Raises:
        IsolationError: this host cannot isolate it; nothing was run.
    """
    if sys.platform != "linux":
        raise IsolationError(f"this host cannot isolate a program: expected Linux, got {sys.platform}")
    reasons: list[str] = []
    for way in ways:
        if job.needs_loopback and way is Way.LANDLOCK:
            reasons.append(f"{way.value}: expected one process, got several, which need a network of their own")
            continue
        with tempfile.TemporaryDirectory(prefix="caddie-isolated-", ignore_cleanup_errors=True) as base:
            result = _attempt(job, Path(base), way)
        if isinstance(result, Ended):
            return result
        reasons.append(f"{way.value}: {result}")
    raise IsolationError(f"this host cannot isolate a program: {'; '.join(reasons)}")


def _attempt(job: Job, base: Path, way: Way) -> Ended | str:
    """How the command ended; text says why it was not started."""
    policy = policy_of(job, base, way)
    started = time.monotonic()
    reading, writing = os.pipe()
    with job.output.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-s", "-m", "search.verify.confine", str(writing)],
            cwd=ROOT,
            env=environment_of(job, base),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=[writing],
            start_new_session=True,
        )
    os.close(writing)
    try:
        assert process.stdin is not None
        with process.stdin as stdin, suppress(BrokenPipeError):
            stdin.write(json.dumps(asdict(policy)).encode())
        with os.fdopen(reading, "rb") as status:
            said = status.read().decode(errors="replace")
        killed = _watch(process, job, base / HOME) if said == STARTING else None
    finally:
        _end(process, way)
    if said != STARTING:
        return said.removeprefix(STARTING) or f"exit code {process.returncode} before it started"
    seconds = time.monotonic() - started
    return Ended(exit_code=process.returncode, seconds=seconds, killed=killed, way=way)


def policy_of(job: Job, base: Path, way: Way) -> Policy:
    """What the command may do, as the isolated process is told."""
    for name in (MOUNT_POINT, HOME, TEMPORARY):
        (base / name).mkdir()
    devices = [str(path) for path in Path("/dev").glob("nvidia*")] if job.num_gpus else []
    limits = job.limits
    return Policy(
        parent=os.getpid(),
        by_namespaces=way is Way.NAMESPACES,
        command=list(job.command),
        mount_point=str(base / MOUNT_POINT),
        folder=str(job.folder.absolute()),
        temporary=str(base / TEMPORARY),
        readable=sorted({str(path) for path in readable_paths(job)}),
        writable=[str(job.folder.absolute()), str(base / HOME), *DEVICES, *devices],
        data_bytes=None if job.num_gpus else limits.memory_bytes,
        file_bytes=limits.disk_bytes,
        tasks=TASKS_PER_PROCESS * limits.processes,
        shared_bytes=limits.memory_bytes // 4,
    )


def readable_paths(job: Job) -> Iterator[Path]:
    """Python, the system's libraries and what the job names, each where it is named and where it really lies."""
    named = [Path(name) for name in SYSTEM + (GPU_SYSTEM if job.num_gpus else ())]
    named += [Path(sys.prefix), Path(sys.base_prefix), Path(sys.exec_prefix), Path(sysconfig.get_path("stdlib"))]
    named += [Path(folder) for folder in site.getsitepackages()]
    named += job.readable
    for path in job.readable:
        if path.is_dir():
            named += [inside for inside in path.iterdir() if inside.is_symlink()]
    for path in named:
        if path.exists():
            yield path.absolute()
            yield path.resolve()


def environment_of(job: Job, base: Path) -> dict[str, str]:
    """The job's variables, and places that it may write for what would go to the user's home."""
    home = base / HOME
    caches = ("XDG_CACHE_HOME", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "CUDA_CACHE_PATH", "MPLCONFIGDIR")
    places = {name: str(home / name.lower()) for name in caches}
    return {**job.environment, **places, "HOME": str(home), "TMPDIR": str(base / TEMPORARY), "USER": "caddie"}


def _watch(process: subprocess.Popen[bytes], job: Job, home: Path) -> str | None:
    """Wait for the end; text names the limit that is passed."""
    started = time.monotonic()
    next_disk = started + DISK_SECONDS
    while True:
        with suppress(subprocess.TimeoutExpired):
            process.wait(WATCH_SECONDS)
            return None
        now = time.monotonic()
        if now - started > job.limits.seconds:
            return f"no end within {job.limits.seconds:g} s"
        if reason := _over_memory(process.pid, job.limits):
            return reason
        if now > next_disk:
            if reason := _over_disk((job.folder, home, job.output), job.limits):
                return reason
            next_disk = time.monotonic() + DISK_SECONDS


def _over_memory(pid: int, limits: Limits) -> str | None:
    """Whether the processes below one are too many, or hold too much memory together."""
    family = descendants(pid)
    if len(family) > limits.processes:
        return f"more than {limits.processes} processes"
    if sum(map(_resident_bytes, family)) <= limits.memory_bytes:
        return None
    # What processes share counts once for each above; the exact number takes longer.
    if sum(map(_own_bytes, family)) > limits.memory_bytes:
        return f"more than {limits.memory_bytes:,} bytes of memory"
    return None


def _resident_bytes(pid: int) -> int:
    with suppress(OSError):  # it ended
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
    return 0


def _own_bytes(pid: int) -> int:
    """Resident bytes, those shared by n processes counted as an n-th."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def _over_disk(paths: Sequence[Path], limits: Limits) -> str | None:
    """Whether too much lies in files and folders that are being written."""
    total = count = 0
    for path in paths:
        for parent, _, names in os.walk(path) if path.is_dir() else [(path.parent, [], [path.name])]:
            count += len(names)
            for name in names:
                with suppress(OSError):
                    total += (Path(parent) / name).lstat().st_size
            if total > limits.disk_bytes:
                return f"more than {limits.disk_bytes:,} bytes on disk"
            if count > MAX_FILES:
                return f"more than {MAX_FILES:,} files"
    return None


def _end(process: subprocess.Popen[bytes], way: Way) -> None:
    """End the isolated process and all below it."""
    left: list[psutil.Process] = []
    for pid in descendants(process.pid):
        with suppress(psutil.NoSuchProcess):
            left.append(psutil.Process(pid))
    if way is Way.LANDLOCK:
        process.terminate()  # it collects and kills all below it; whoever is in a namespace dies with its first process
        with suppress(subprocess.TimeoutExpired):
            process.wait(END_SECONDS)
    process.kill()
    process.wait()
    for one in psutil.wait_procs(left, timeout=END_SECONDS)[1]:
        with suppress(psutil.NoSuchProcess):
            one.kill()
