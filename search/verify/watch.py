"""Watches a program that may not be trusted: what the kernel does not count for a whole family of processes."""

import os
import resource
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from search.verify.confine import descendants

WATCH_SECONDS = 0.1
DISK_SECONDS = 3.0  # between two looks at how much was written
END_SECONDS = 10.0
MAX_FILES = 200_000


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


def watch(process: subprocess.Popen[bytes], limits: Limits, written: Sequence[Path]) -> str | None:
    """Wait for a process's end; text names the limit that it or those below it pass.

    Args:
        written: files and folders that they may write.
    """
    started = time.monotonic()
    next_disk = started + DISK_SECONDS
    while True:
        with suppress(subprocess.TimeoutExpired):
            process.wait(WATCH_SECONDS)
            return None
        now = time.monotonic()
        if now - started > limits.seconds:
            return f"no end within {limits.seconds:g} s"
        if reason := _over_memory(process.pid, limits):
            return reason
        if now > next_disk:
            if reason := _over_disk(written, limits):
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


def end(process: subprocess.Popen[bytes], *, collects: bool) -> None:
    """End a process and all below it.

    Args:
        collects: on SIGTERM it ends those below it, orphans included, and then itself.
    """
    left: list[psutil.Process] = []
    for pid in descendants(process.pid):
        with suppress(psutil.NoSuchProcess):
            left.append(psutil.Process(pid))
    if collects:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(END_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for one in psutil.wait_procs(left, timeout=END_SECONDS)[1]:
        with suppress(psutil.NoSuchProcess):
            one.kill()
