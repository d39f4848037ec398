"""The Linux calls that isolation is made of and Python has no name for: namespaces, Landlock, seccomp, capabilities.

Numbers and layouts are the kernel's ABI, which never changes; the header that defines each is named beside it.
A call that fails raises OSError. Standard library only: the isolated process imports this.
"""

import ctypes
import os
import platform
import struct
import sys
from collections.abc import Sequence
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)

# linux/sched.h, linux/mount.h, linux/prctl.h
CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = (
    0x00020000,
    0x08000000,
    0x10000000,
    0x20000000,
    0x40000000,
)
MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE = 0x2, 0x4, 0x1000, 0x4000, 0x40000
MNT_DETACH = 2
MOUNT_ATTR_RDONLY, AT_RECURSIVE, AT_FDCWD = 0x1, 0x8000, -100
PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 22, 24, 36, 38
SECCOMP_MODE_FILTER = 2

# System calls since Linux 5 have one number everywhere; older ones have asm-generic's (arm64) or x86's own.
MOUNT_SETATTR, LANDLOCK_CREATE_RULESET, LANDLOCK_ADD_RULE, LANDLOCK_RESTRICT_SELF = 442, 444, 445, 446
NEWER = {
    **{"io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427},
    **{"fchmodat2": 452, "setxattrat": 463, "removexattrat": 466, "file_setattr": 469},
}
X86_64 = {
    **{"socket": 41, "socketpair": 53, "pivot_root": 155, "add_key": 248, "request_key": 249, "keyctl": 250},
    **{"bpf": 321, "perf_event_open": 298, "shmget": 29, "semget": 64, "msgget": 68, "mq_open": 240},
    **{"chmod": 90, "fchmod": 91, "chown": 92, "fchown": 93, "lchown": 94, "fchmodat": 268, "fchownat": 260},
    **{"utime": 132, "utimes": 235, "futimesat": 261, "utimensat": 280, "setxattr": 188, "lsetxattr": 189},
    **{"fsetxattr": 190, "removexattr": 197, "lremovexattr": 198, "fremovexattr": 199},
}
ARM64 = {
    **{"socket": 198, "socketpair": 199, "pivot_root": 41, "add_key": 217, "request_key": 218, "keyctl": 219},
    **{"bpf": 280, "perf_event_open": 241, "shmget": 194, "semget": 190, "msgget": 186, "mq_open": 180},
    **{"fchmod": 52, "fchmodat": 53, "fchownat": 54, "fchown": 55, "utimensat": 88, "setxattr": 5, "lsetxattr": 6},
    **{"fsetxattr": 7, "removexattr": 14, "lremovexattr": 15, "fremovexattr": 16},
}
# linux/audit.h: AUDIT_ARCH_*; a program may call the kernel by another ABI than its own, with other numbers.
MACHINES = {"x86_64": (0xC000003E, X86_64 | NEWER), "aarch64": (0xC00000B7, ARM64 | NEWER)}
X32_CALLS = 0x40000000  # x86: from here on, the calls of a third ABI

# linux/landlock.h: rights by the ABI version that brought them. A right that is not handled is not restricted.
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
MAKE_DEVICES, TRUNCATE, IOCTL_DEV = (1 << 6) | (1 << 11), 1 << 14, 1 << 15
RIGHTS_SINCE = ((1, (1 << 13) - 1), (2, 1 << 13), (3, TRUNCATE), (5, IOCTL_DEV), (9, 1 << 16))
FILE_RIGHTS = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
READ = EXECUTE | READ_FILE | READ_DIR
TCP_BIND_AND_CONNECT, TCP_ABI = 0b11, 4
ABSTRACT_SOCKETS_AND_SIGNALS, SCOPE_ABI = 0b11, 6
RULE_PATH_BENEATH = 1


def checked(result: int, what: str) -> int:
    """The result of a call.

    Raises:
        OSError: it is -1, with what was tried.
    """
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def syscall(name: str, number: int, *arguments: object) -> int:
    """A system call that the C library has no function for."""
    return checked(LIBC.syscall(ctypes.c_long(number), *arguments), name)


def prctl(option: int, argument: int, name: str) -> None:
    """Set an attribute of this process."""
    checked(LIBC.prctl(option, ctypes.c_ulong(argument), *(ctypes.c_ulong(0) for _ in range(3))), name)


def numbers() -> tuple[int, dict[str, int]]:
    """This machine's AUDIT_ARCH and numbers of system calls.

    Raises:
        OSError: it is no machine whose numbers are known here.
    """
    if sys.platform != "linux" or platform.machine() not in MACHINES:
        raise OSError(f"expected Linux on x86_64 or aarch64, got {sys.platform} on {platform.machine()}")
    return MACHINES[platform.machine()]


def unshare(flags: int) -> None:
    """Leave namespaces for new ones."""
    checked(LIBC.unshare(flags), "unshare")


def mount(source: str, target: Path, kind: str | None, flags: int, options: str = "") -> None:
    """Show a file system, or a part of one, at a place."""
    encoded = (None if kind is None else kind.encode(), ctypes.c_ulong(flags), options.encode())
    checked(LIBC.mount(source.encode(), os.fsencode(target), *encoded), f"mount {target}")


def make_read_only(target: Path) -> None:
    """Make a mount, and all below it, read-only, which also keeps modes, times and owners as they are."""
    attributes = struct.pack("=QQQQ", MOUNT_ATTR_RDONLY, 0, 0, 0)
    path = os.fsencode(target)
    syscall("mount_setattr", MOUNT_SETATTR, AT_FDCWD, path, AT_RECURSIVE, attributes, ctypes.c_size_t(len(attributes)))


def enter_root(root: Path) -> None:
    """Make a mount the root of the file system, and let go of the old one."""
    os.chdir(root)
    syscall("pivot_root", numbers()[1]["pivot_root"], b".", b".")
    checked(LIBC.umount2(b".", MNT_DETACH), "umount2")
    os.chdir("/")


def drop_capabilities() -> None:
    """Give up every privilege of root, and that of getting one back."""
    for capability in range(64):
        if LIBC.prctl(PR_CAPBSET_DROP, ctypes.c_ulong(capability), *(ctypes.c_ulong(0) for _ in range(3))) == -1:
            break  # the first number this kernel does not know, or no right to drop: then there is none to lose
    header = struct.pack("=Ii", 0x20080522, 0)  # linux/capability.h: version 3, this process
    checked(LIBC.capset(header, bytes(24)), "capset")
    prctl(PR_SET_NO_NEW_PRIVS, 1, "no_new_privs")


def landlock_abi() -> int:
    """The version of Landlock that the kernel speaks; 0 without one."""
    found: int = LIBC.syscall(ctypes.c_long(LANDLOCK_CREATE_RULESET), None, ctypes.c_size_t(0), 1)
    return max(found, 0)


def restrict_files(readable: Sequence[Path], writable: Sequence[Path], *, denies_tcp: bool) -> None:
    """Let this process, and those it starts, open nothing but what lies below these paths; missing ones are left out.

    Where the kernel can, it also keeps them from signalling others and from reaching their abstract sockets.
    """
    abi = landlock_abi()
    handled = sum(rights for since, rights in RIGHTS_SINCE if abi >= since)
    tcp = TCP_BIND_AND_CONNECT if denies_tcp and abi >= TCP_ABI else 0
    ruleset = struct.pack("=QQQ", handled, tcp, ABSTRACT_SOCKETS_AND_SIGNALS if abi >= SCOPE_ABI else 0)
    rules = syscall("landlock_create_ruleset", LANDLOCK_CREATE_RULESET, ruleset, ctypes.c_size_t(len(ruleset)), 0)
    for path in readable:
        _allow(rules, path, handled & READ)
    for path in writable:
        _allow(rules, path, handled & ~MAKE_DEVICES)
    syscall("landlock_restrict_self", LANDLOCK_RESTRICT_SELF, rules, 0)
    os.close(rules)


def _allow(rules: int, path: Path, rights: int) -> None:
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        allowed = rights if path.is_dir() else rights & FILE_RIGHTS
        rule = struct.pack("=Qi", allowed, handle)
        syscall("landlock_add_rule", LANDLOCK_ADD_RULE, rules, RULE_PATH_BENEATH, rule, 0)
    finally:
        os.close(handle)


def restrict_calls(families: Sequence[int], denied: Sequence[str]) -> None:
    """Let this process, and those it starts, make sockets of these families only, and no denied call. Needs no right.

    Without a family, connected pairs of stream sockets remain, which can reach nobody else.
    """
    program = filter_program(families, denied)
    buffer = ctypes.create_string_buffer(program)
    # linux/filter.h: struct sock_fprog, its pointer aligned
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))
    checked(LIBC.prctl(PR_SET_SECCOMP, ctypes.c_ulong(SECCOMP_MODE_FILTER), header, 0, 0), "seccomp")


def filter_program(families: Sequence[int], denied: Sequence[str]) -> bytes:
    """A seccomp filter in classic BPF (linux/filter.h, linux/seccomp.h); it sees numbers and registers, no memory."""
    load, equal, at_least, mask, answer = 0x20, 0x15, 0x35, 0x54, 0x06
    allow, refuse, kill = 0x7FFF0000, 0x00050000 | 1, 0x80000000  # refuse: EPERM
    number, arch, first, second = 0, 4, 16, 24  # offsets in struct seccomp_data; low words, little-endian

    def one(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
        return struct.pack("=HBBI", code, if_true, if_false, value)

    audit_arch, calls = numbers()
    program = one(load, arch) + one(equal, audit_arch, 1) + one(answer, kill)
    program += one(load, number) + one(at_least, X32_CALLS, 0, 1) + one(answer, kill)
    for name in denied:
        if name in calls:  # arm64 never had the oldest ones
            program += one(equal, calls[name], 0, 1) + one(answer, refuse)
    tail = one(load, first)
    for family in families:
        tail += one(equal, family, 0, 1) + one(answer, allow)
    tail += one(answer, refuse)
    program += one(equal, calls["socket"], 0, len(tail) // 8) + tail
    if not families:  # a datagram pair could still be sent elsewhere
        tail = one(load, second) + one(mask, 0xF) + one(equal, 1, 0, 1) + one(answer, allow) + one(answer, refuse)
        program += one(equal, calls["socketpair"], 0, len(tail) // 8) + tail
    return program + one(answer, allow)
