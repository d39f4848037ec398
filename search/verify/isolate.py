"""Runs an untrusted command: no network, nothing readable but what is named, limits of memory, time and processes.

search/verify/confine.py says how the kernel is made to hold to it. What it cannot count, such as the memory of many
processes together, is watched from here, and the command is killed with all it started when it goes over a limit.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path

from search import guard
from search.errors import SubmissionError
from search.run import CODE_FILE
from search.verify.confine import STARTING, Policy
from search.verify.finding import Finding, Severity
from search.verify.watch import Limits, end, watch

ROOT = Path(__file__).parents[2]
TASKS_PER_PROCESS = 4  # at least; the kernel counts threads, of which libraries start one for each core
PROBE_SECONDS = 120.0  # torch is slow to import from a cold disk
PROBE = "import torch; torch.cuda.init(); torch.zeros(1, device='cuda').sum().item()"
LIBRARY_FOLDERS = ("site-packages", "dist-packages")
MOUNT_POINT, HOME, TEMPORARY = "root", "home", "home/tmp"  # in a folder made for one command
# The Python installation comes on top. Of /etc only what has no secrets: root could read its own.
SYSTEM = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/sys/devices/system", "/sys/kernel/mm"),
    *("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime", "/etc/alternatives"),
    *("/etc/passwd", "/etc/group", "/etc/hosts", "/etc/host.conf", "/etc/nsswitch.conf", "/etc/ssl/openssl.cnf"),
)
COMPILERS = ("gcc", "g++", "cc", "clang")
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
GPU_SYSTEM = ("/sys/bus", "/sys/class", "/sys/devices", "/sys/module", "/opt/cuda")


class Way(StrEnum):
    """How a program is isolated, the stronger way first."""

    NAMESPACES = "namespaces and Landlock"
    LANDLOCK = "Landlock and seccomp"


class IsolationError(SubmissionError):
    """This host cannot isolate a command."""


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
        unsafe: why it was not; None where it was.
    """

    exit_code: int
    seconds: float
    killed: str | None
    way: Way | None
    unsafe: str | None = None

    @property
    def isolation(self) -> str:
        """How it was isolated, in words."""
        return "not isolated" if self.way is None else f"isolated by {self.way.value}"

    def findings(self) -> list[Finding]:
        """A remark where it was not isolated."""
        if self.unsafe is None:
            return []
        message = f"expected a run apart from this host's files and network, got one without: {self.unsafe}"
        return [Finding("isolation", Severity.REVIEW, CODE_FILE, None, message)]


def run_untrusted(job: Job, *, is_unsafe_allowed: bool) -> Ended:
    """Run a command isolated; where this host cannot do that, and it is allowed, as any program of this user.

    Raises:
        IsolationError: this host cannot isolate it, and it may not run otherwise.
    """
    try:
        if job.num_gpus:
            check_gpus_are_seen(job)
        return run_isolated(job)
    except IsolationError as error:
        if not is_unsafe_allowed:
            raise IsolationError(f"{error}. --unsafe runs it with your rights and network") from error
        return replace(run_openly(job), unsafe=str(error))


def check_gpus_are_seen(job: Job) -> None:
    """Have an isolated program use a GPU; a trainer that sees none would run on the CPU, for days.

    Raises:
        IsolationError: it could not.
    """
    with tempfile.TemporaryDirectory(prefix="caddie-probe-") as folder:
        output, limits = Path(folder, "output.txt"), replace(job.limits, seconds=PROBE_SECONDS)
        work = Path(folder, "work")
        work.mkdir()
        probe = replace(job, command=[sys.executable, "-c", PROBE], folder=work, output=output, limits=limits)
        ended = run_isolated(probe)
        said = output.read_text(errors="replace").strip().rpartition("\n")[2]
    if ended.exit_code != 0:
        got = ended.killed or said or f"exit code {ended.exit_code}"
        raise IsolationError(f"expected this host's GPUs to work in a program that is {ended.isolation}, got {got}")


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
            env=environment_of(job, base, way),
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
        killed = watch(process, job.limits, (job.folder, base / HOME, job.output)) if said == STARTING else None
    finally:
        # Whoever is in a namespace dies with its first process; elsewhere, orphans have to be collected.
        end(process, collects=way is Way.LANDLOCK)
    if said != STARTING:
        return said.removeprefix(STARTING) or f"exit code {process.returncode} before it started"
    seconds = time.monotonic() - started
    return Ended(exit_code=process.returncode, seconds=seconds, killed=killed, way=way)


def run_openly(job: Job) -> Ended:
    """Run a command with this user's rights and network, but with the same variables and the same watch."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="caddie-open-", ignore_cleanup_errors=True) as base:
        make_folders(Path(base))
        with job.output.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(guard.__file__), str(os.getpid()), *job.command],
                cwd=job.folder,
                env=environment_of(job, Path(base), None),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            killed = watch(process, job.limits, (job.folder, Path(base, HOME), job.output))
        finally:
            end(process, collects=False)
    return Ended(exit_code=process.returncode, seconds=time.monotonic() - started, killed=killed, way=None)


def make_folders(base: Path) -> None:
    """The folders that a command gets besides its own."""
    for name in (MOUNT_POINT, HOME, TEMPORARY):
        (base / name).mkdir()


def policy_of(job: Job, base: Path, way: Way) -> Policy:
    """What the command may do, as the isolated process is told."""
    make_folders(base)
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
        tasks=limits.processes * max(TASKS_PER_PROCESS, os.cpu_count() or 1),
        shared_bytes=limits.memory_bytes // 4,
    )


def readable_paths(job: Job) -> Iterator[Path]:
    """Python, the system's libraries and what the job names, each where it is named and where it really lies."""
    named = [Path(name) for name in SYSTEM + (GPU_SYSTEM if job.num_gpus else ())]
    named += [Path(sys.prefix), Path(sys.base_prefix), Path(sys.exec_prefix), Path(sysconfig.get_path("stdlib"))]
    named += [*libraries(), *compilers(job.environment), *job.readable]
    for path in job.readable:
        if path.is_dir():
            named += [inside for inside in path.iterdir() if inside.is_symlink()]
    for path in named:
        if path.exists():
            yield path.absolute()
            yield path.resolve()


def libraries() -> list[Path]:
    """Folders of libraries outside Python's own, which a user or PYTHONPATH adds.

    What pip installs with --target, as on a machine without network, is known by its .dist-info folders.
    """
    own = (Path(sys.prefix), Path(sys.base_prefix))
    entries = [Path(entry).absolute() for entry in sys.path if entry]
    found = [path for path in entries if path.name in LIBRARY_FOLDERS or any(path.glob("*.dist-info"))]
    return [path for path in found if not any(path.is_relative_to(prefix) for prefix in own)]


def compilers(environment: Mapping[str, str]) -> list[Path]:
    """Where the C compilers are installed that torch calls; not what lies in the user's home, or around it."""
    names = [name for name in (environment.get("CC"), environment.get("CXX"), *COMPILERS) if name]
    found = [path for name in names if (path := shutil.which(name, path=environment.get("PATH")))]
    prefixes = {Path(path).absolute().parents[1] for path in found}
    home = Path.home()
    return [path for path in prefixes if not (path.is_relative_to(home) or home.is_relative_to(path))]


def environment_of(job: Job, base: Path, way: Way | None) -> dict[str, str]:
    """The job's variables, and places that it may write for what would go to the user's home."""
    home = base / HOME
    caches = ("XDG_CACHE_HOME", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "CUDA_CACHE_PATH", "MPLCONFIGDIR")
    places = {name: str(home / name.lower()) for name in caches}
    places |= {"HOME": str(home), "TMPDIR": str(base / TEMPORARY), "USER": "caddie"}
    if added := libraries():
        places["PYTHONPATH"] = os.pathsep.join(map(str, added))
    if way is Way.LANDLOCK:
        # A pool of compilers needs semaphores in /dev/shm, which holds other programs' memory too.
        places["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
    return {**job.environment, **places}
