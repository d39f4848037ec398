"""Runs as `python -m search.verify.confine STATUS < policy`: gives up its rights, then becomes the untrusted command.

A process of its own, so that nothing of this program's memory, threads or open files is there to be reached. What goes
wrong before the command starts is written to the file descriptor STATUS, which holds STARTING alone when all went well.

By namespaces (user, network, processes, mounts, IPC): the command sees a root made of the allowed paths only, has a
network of its own with nothing but loopback in it, sees no process but its own, and dies with them as one.
By landlock, for containers and systems that allow no namespaces: no sockets at all, and nothing else can be opened.
Both: no capabilities, no way to get any, Landlock's file rules, a seccomp filter, resource limits.
"""

import fcntl
import json
import os
import resource
import signal
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from search.verify import kernel

FAILED = 125  # exit code where the status says why
STARTING = "+"
# Families that a network namespace or a root of one's own contains. Not so AF_VSOCK, which reaches the host of a VM.
CONTAINED_FAMILIES = (1, 2, 10, 16)  # linux/socket.h: AF_UNIX, AF_INET, AF_INET6, AF_NETLINK
# io_uring makes sockets past a filter; keyrings, BPF and performance counters know what other processes do.
DENIED = (
    *("io_uring_setup", "io_uring_enter", "io_uring_register"),
    *("add_key", "request_key", "keyctl", "bpf", "perf_event_open"),
)
# Landlock does not restrict these, which would reach files that cannot be opened, and memory of other programs.
DENIED_OUTSIDE_NAMESPACES = (
    *("chmod", "fchmod", "fchmodat", "fchmodat2", "chown", "fchown", "lchown", "fchownat"),
    *("utime", "utimes", "futimesat", "utimensat", "file_setattr", "setxattr", "lsetxattr", "fsetxattr"),
    *("removexattr", "lremovexattr", "fremovexattr", "setxattrat", "removexattrat"),
    *("shmget", "semget", "msgget", "mq_open"),
)
LEAST_PIDS = 400  # the kernel takes no fewer than 301
ROOT_LINKS = ("bin", "sbin", "lib", "lib32", "lib64")
DEVICE_LINKS = {"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}
# Of a /proc shared with other programs: what libraries ask about the machine, nothing about others' processes.
SHARED_PROC = (
    *("self", "cpuinfo", "meminfo", "stat", "version", "filesystems", "devices", "driver", "loadavg", "uptime"),
    *("sys/kernel", "sys/vm"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """What the command may do.

    Attributes:
        parent: process to die with.
        by_namespaces: else by Landlock and seccomp alone.
        mount_point: an empty folder for the command's root.
        folder: working folder.
        temporary: what the command sees as /tmp.
        data_bytes: of memory that a process may write, mapped or not; None for GPUs, whose driver maps all there is.
        file_bytes: a file may grow to.
        tasks: processes and threads at a time.
        shared_bytes: of /dev/shm.
    """

    parent: int
    by_namespaces: bool
    command: list[str]
    mount_point: str
    folder: str
    temporary: str
    readable: list[str]
    writable: list[str]
    data_bytes: int | None
    file_bytes: int
    tasks: int
    shared_bytes: int


def main() -> NoReturn:
    """Read the policy and become the command."""
    status = int(sys.argv[1])
    os.set_inheritable(status, False)
    policy = Policy(**json.load(sys.stdin.buffer))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    guarded(status, lambda: start(policy, status))


def guarded(status: int, act: Callable[[], NoReturn]) -> NoReturn:
    """Act; where the kernel refuses, say so and end."""
    try:
        act()
    except (OSError, ValueError) as error:
        os.write(status, (getattr(error, "strerror", None) or str(error)).encode())
        os._exit(FAILED)


def start(policy: Policy, status: int) -> NoReturn:
    """Leave the host, and start what becomes the command; ends as that ends."""
    if kernel.landlock_abi() < 3:
        raise OSError(f"expected Landlock of version 3 (Linux 6.2), got {kernel.landlock_abi() or 'none'}")
    if policy.by_namespaces:
        leave_namespaces()
    else:
        if kernel.landlock_abi() < kernel.SCOPE_ABI:
            raise OSError(
                f"expected namespaces, or Landlock of version 6 (Linux 6.12) for signals, got {kernel.landlock_abi()}"
            )
        # Whoever is orphaned below becomes this process's child, which it ends.
        kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1, "subreaper")
    signal.signal(signal.SIGTERM, lambda *_: end_all(FAILED))
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGTERM, "end with the parent")
    if os.getppid() != policy.parent:
        os._exit(FAILED)
    fork(status, lambda: become_init(policy, status))


def fork(status: int, act: Callable[[], NoReturn]) -> NoReturn:
    """Act in a child that dies with this process; end as it ends, and leave nobody behind."""
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        guarded(status, act)
    os.close(status)
    while True:
        ended, how = os.wait()  # in a namespace of processes, orphans come here too
        if ended == child:
            code = os.waitstatus_to_exitcode(how)
            end_all(code if code >= 0 else 128 - code)


def end_all(code: int) -> NoReturn:
    """Kill every process below this one, those that are started or orphaned meanwhile included, and end."""
    while True:
        for descendant in descendants(os.getpid()):
            with suppress(ProcessLookupError):
                os.kill(descendant, signal.SIGKILL)
        try:
            os.wait()
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            os._exit(code)


def descendants(ancestor: int) -> list[int]:
    """Processes below one, children before theirs."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended meanwhile
            # PID (NAME) STATE PARENT ...; a name may hold anything
            parent = int((folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(folder.name))
    found = [ancestor]
    for process in found:
        found += children.get(process, [])
    return found[1:]


def become_init(policy: Policy, status: int) -> NoReturn:
    """The first process of its namespace: when it ends, the kernel ends all others there."""
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL, "die with the parent")
    if not policy.by_namespaces:
        become_command(policy, status)
    enter_private_root(policy)
    fork(status, lambda: become_command(policy, status))


def leave_namespaces() -> None:
    """New namespaces, where this process has its rights and its user's name, and nobody else is."""
    user, group = os.geteuid(), os.getegid()
    kernel.unshare(kernel.CLONE_NEWUSER | kernel.CLONE_NEWNET | kernel.CLONE_NEWPID | kernel.CLONE_NEWIPC)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        # linux/sockios.h SIOCSIFFLAGS with struct ifreq: name and IFF_UP
        fcntl.ioctl(control, 0x8914, struct.pack("16sH14x", b"lo", 1))


def enter_private_root(policy: Policy) -> None:
    """A root that holds the allowed paths where they were, a /proc of these processes, and nothing else."""
    root = Path(policy.mount_point)
    kernel.unshare(kernel.CLONE_NEWNS)
    kernel.mount("none", Path("/"), None, kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("caddie", root, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=755,size=1m")
    for name in ROOT_LINKS:
        if (link := Path("/", name)).is_symlink():
            (root / name).symlink_to(str(link.readlink()).lstrip("/"))
    for name in ("proc", "dev", "dev/shm", "tmp"):
        (root / name).mkdir()
    for name, target in DEVICE_LINKS.items():
        (root / "dev" / name).symlink_to(target)
    kernel.mount("proc", root / "proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV)
    flags = kernel.MS_NOSUID | kernel.MS_NODEV
    kernel.mount("caddie", root / "dev/shm", "tmpfs", flags, f"mode=1777,size={policy.shared_bytes}")
    kernel.mount(policy.temporary, root / "tmp", None, kernel.MS_BIND)
    paths = [(path, True) for path in policy.readable] + [(path, False) for path in policy.writable]
    for path, is_read_only in sorted(paths, key=lambda one: len(Path(one[0]).parts)):
        show(Path(path), root, is_read_only=is_read_only)
    kernel.enter_root(root)
    with suppress(OSError):  # a namespace's own number since Linux 6.14; root knows no other limit of processes
        Path("/proc/sys/kernel/pid_max").write_text(str(max(policy.tasks, LEAST_PIDS)))
    keep_settings()


def keep_settings() -> None:
    """Make all of /proc read-only but the processes' own folders: root could set what holds for the whole host."""
    for path in Path("/proc").iterdir():
        if not path.is_symlink() and not path.name.isdecimal():
            kernel.mount(str(path), path, None, kernel.MS_BIND | kernel.MS_REC)
            kernel.make_read_only(path)


def show(path: Path, root: Path, *, is_read_only: bool) -> None:
    """Bind a path of the host into the root, at the same place; one that does not exist is left out."""
    target = root / path.relative_to("/")
    if not path.exists() or target.is_symlink():
        return
    if path.is_dir():
        target.mkdir(parents=True, exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            target.touch()
    kernel.mount(str(path), target, None, kernel.MS_BIND | kernel.MS_REC)
    if is_read_only:
        kernel.make_read_only(target)


def become_command(policy: Policy, status: int) -> NoReturn:
    """Give up what is left, and become the command."""
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL, "die with the parent")
    os.chdir(policy.folder)
    limit(policy)
    Path("/proc/self/oom_score_adj").write_text("1000")  # of all processes, this one goes first
    # Of /proc, threads have to be written: CUDA does not start where it cannot name one.
    readable, writable = [Path(path) for path in policy.readable], [Path(path) for path in policy.writable]
    if policy.by_namespaces:
        writable += [Path("/proc"), Path("/tmp"), Path("/dev/shm")]
        families, denied = CONTAINED_FAMILIES, DENIED
    else:
        readable += [Path("/proc", name) for name in SHARED_PROC]
        writable.append(Path("/proc/self/task"))
        families, denied = (), (*DENIED, *DENIED_OUTSIDE_NAMESPACES)
    kernel.drop_capabilities()
    kernel.restrict_files(readable, writable, denies_tcp=not policy.by_namespaces)
    kernel.restrict_calls(families, denied)
    os.write(status, STARTING.encode())
    os.execv(policy.command[0], policy.command)


def limit(policy: Policy) -> None:
    """Resource limits; where the host's own are lower, those stay."""
    wanted = {resource.RLIMIT_CORE: 0, resource.RLIMIT_FSIZE: policy.file_bytes}
    if policy.by_namespaces:  # elsewhere it counts whatever else this user runs
        wanted[resource.RLIMIT_NPROC] = policy.tasks
    if policy.data_bytes is not None:
        wanted[resource.RLIMIT_DATA] = policy.data_bytes
    for name, value in wanted.items():
        hard = resource.getrlimit(name)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(name, (value, value))


if __name__ == "__main__":
    main()
