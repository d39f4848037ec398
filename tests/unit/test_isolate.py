"""What an isolated program can and cannot do, each tried by a real one, by each way that this host allows."""

import json
import os
import socket
import tempfile
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from isolated_jobs import job_of, run_or_skip

from search.verify.isolate import Way

# Every attempt is a function; the result is what it returned or the name of its error.
ATTEMPTS = textwrap.dedent(
    """
    import ctypes, json, os, signal, socket, subprocess, sys, threading, time
    from pathlib import Path

    libc = ctypes.CDLL(None, use_errno=True)
    facts = json.loads(sys.argv[1])
    host, data = Path(facts["host"]), Path(facts["data"])

    def connect(family, address, kind=socket.SOCK_STREAM):
        with socket.socket(family, kind) as client:
            client.settimeout(2)
            client.connect(address)
            client.send(b"hello")
            if kind == socket.SOCK_DGRAM:
                client.recv(1)  # where nobody listens, the answer is a refusal

    def pair_to(address):
        left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        left.sendto(b"hello", address)

    def call(number, *arguments):
        if libc.syscall(ctypes.c_long(number), *arguments) == -1:
            raise OSError(ctypes.get_errno(), "refused")

    def stream_pair():
        left, right = socket.socketpair()
        left.send(b"x")
        return right.recv(1).decode()

    def child():
        return subprocess.run([sys.executable, "-c", "print(6 * 7)"], capture_output=True, text=True).stdout.strip()

    def name_thread(name):
        thread = threading.Thread(target=time.sleep, args=(1,), daemon=True)
        thread.start()
        comm = Path(f"/proc/self/task/{thread.native_id}/comm")
        comm.write_text(name)  # as pthread_setname_np does
        return comm.read_text().strip()

    def settings():
        # what of the host can be opened for writing; nothing is written
        found = []
        for name in ("sysrq-trigger", "irq", "bus", "fs", "driver", "sys/kernel", "sys/vm"):
            top = Path("/proc", name)
            for path in [top, *top.rglob("*")]:
                try:
                    if path.is_file():
                        os.close(os.open(path, os.O_WRONLY))
                        found.append(str(path))
                except OSError:
                    pass
        return found

    attempts = {
        "name_thread": lambda: name_thread("worker"),
        "settings": settings,
        "tcp": lambda: connect(socket.AF_INET, ("127.0.0.1", facts["tcp"])),
        "udp": lambda: connect(socket.AF_INET, ("127.0.0.1", facts["udp"]), socket.SOCK_DGRAM),
        "outside": lambda: connect(socket.AF_INET, ("192.0.2.1", 9), socket.SOCK_DGRAM),
        "dns": lambda: socket.getaddrinfo("example.org", 80),
        "vsock": lambda: connect(40, (2, 1)),
        "raw": lambda: socket.socket(17, socket.SOCK_RAW),
        "unix": lambda: connect(socket.AF_UNIX, facts["unix"]),
        "abstract": lambda: connect(socket.AF_UNIX, "\\0" + facts["abstract"]),
        "unix_datagram": lambda: pair_to(facts["datagram"]),
        "io_uring": lambda: call(425, 1, ctypes.create_string_buffer(120)),
        "keyring": lambda: call({"x86_64": 250, "aarch64": 219}[os.uname().machine], 0, -3, 1),
        "read_secret": lambda: (host / "secret.txt").read_text(),
        "read_shadow": lambda: len(Path("/etc/shadow").read_bytes()),
        "write_outside": lambda: (host / "new.txt").write_text("x"),
        "change_secret": lambda: (host / "secret.txt").write_text("x"),
        "chmod_secret": lambda: (host / "secret.txt").chmod(0o777),
        "read_data": lambda: (data / "shard.bin").read_text(),
        "read_linked_data": lambda: (data / "linked.bin").read_text(),
        "list_data": lambda: sorted(os.listdir(data)),
        "write_data": lambda: (data / "shard.bin").write_text("x"),
        "truncate_data": lambda: os.truncate(data / "shard.bin", 0),
        "chmod_data": lambda: (data / "shard.bin").chmod(0o777),
        "touch_data": lambda: os.utime(data / "shard.bin", (0, 0)),
        "delete_data": lambda: (data / "shard.bin").unlink(),
        "add_data": lambda: (data / "new.bin").write_text("x"),
        "write_python": lambda: Path(sys.prefix, "new.txt").write_text("x"),
        "write_folder": lambda: Path("made.txt").write_text("x"),
        "write_temporary": lambda: Path(os.environ["TMPDIR"], "made.txt").write_text("x"),
        "write_home": lambda: Path.home().joinpath("made.txt").write_text("x"),
        "random": lambda: len(os.urandom(4)),
        "environment": lambda: sorted(os.environ),
        "stdin": lambda: sys.stdin.read(),
        "open_files": lambda: len(os.listdir("/proc/self/fd")) - 1,
        "pair": stream_pair,
        "child": child,
        "signal": lambda: os.kill(facts["pid"], 0),
        "signal_group": lambda: os.kill(-1, signal.SIGURG),
        "parent_environment": lambda: Path(f"/proc/{facts['pid']}/environ").read_bytes().decode(),
        "parent_command": lambda: Path(f"/proc/{facts['pid']}/cmdline").read_bytes().decode(),
        "capabilities": lambda: [line.split()[1] for line in open("/proc/self/status") if line.startswith("CapEff")],
        "become_root": lambda: call({"x86_64": 272, "aarch64": 97}[os.uname().machine], 0x10000000)
        or socket.sethostname("x"),
        "device": lambda: os.mknod("disk", 0o60600, os.makedev(254, 0)),
        "kernel_setting": lambda: Path("/proc/sys/kernel/core_pattern").write_text("x"),
        "much_memory": lambda: len(bytearray(2 * 2**30)),
        "large_file": lambda: os.truncate("made.txt", 2**50),
    }
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    results = {}
    for name, attempt in attempts.items():
        try:
            results[name] = attempt()
        except Exception as error:
            results[name] = f"{type(error).__name__}"
    print(json.dumps(results))
    """
)
SOCKETS = ("tcp", "udp", "outside", "dns", "vsock", "raw", "unix", "abstract", "unix_datagram", "io_uring", "keyring")
FILES = ("read_secret", "read_shadow", "write_outside", "change_secret", "chmod_secret", "write_python", "device")
DATA = ("write_data", "truncate_data", "chmod_data", "touch_data", "delete_data", "add_data")
OTHERS = ("signal", "parent_environment", "kernel_setting", "become_root")
ERRORS = {"PermissionError", "FileNotFoundError", "OSError", "ProcessLookupError", "gaierror", "ConnectionRefusedError"}


@dataclass(frozen=True, slots=True)
class Host:
    """Things of the host that an isolated program goes for, and what reached them."""

    folder: Path
    data: Path
    listeners: tuple[socket.socket, ...]

    def was_reached(self) -> bool:
        """Whether anything came in."""
        for listener in self.listeners:
            listener.setblocking(False)
            try:
                listener.recv(9) if listener.type is socket.SOCK_DGRAM else listener.accept()
            except BlockingIOError:
                continue
            return True
        return False


def make_host(folder: Path) -> Iterator[tuple[Host, dict[str, Any]]]:
    (folder / "host").mkdir()
    (folder / "host" / "secret.txt").write_text("the secret")
    (folder / "host" / "blob").write_text("linked")
    (folder / "data").mkdir()
    (folder / "data" / "shard.bin").write_text("tokens")
    (folder / "data" / "linked.bin").symlink_to("../host/blob")
    tcp, udp = socket.socket(), socket.socket(type=socket.SOCK_DGRAM)
    unix, abstract = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    datagram = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    tcp.bind(("127.0.0.1", 0))
    udp.bind(("127.0.0.1", 0))
    short = f"/tmp/caddie-test-{os.getpid()}"  # a socket's path has at most 108 characters
    unix.bind(f"{short}.stream")
    datagram.bind(f"{short}.datagram")
    abstract.bind(f"\0{short}")
    for listener in (tcp, unix, abstract):
        listener.listen()
    facts = {
        "host": str(folder / "host"),
        "data": str(folder / "data"),
        "tcp": tcp.getsockname()[1],
        "udp": udp.getsockname()[1],
        "unix": f"{short}.stream",
        "abstract": short,
        "datagram": f"{short}.datagram",
        "pid": os.getpid(),
    }
    try:
        yield Host(folder / "host", folder / "data", (tcp, udp, unix, abstract, datagram)), facts
    finally:
        for listener in (tcp, udp, unix, abstract, datagram):
            listener.close()
        for name in ("stream", "datagram"):
            Path(f"{short}.{name}").unlink()


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of the attempts."""

    results: dict[str, Any]
    host: Host
    was_reached: bool
    work: Path


@pytest.fixture(scope="module", params=list(Way), ids=["namespaces", "landlock"])
def tried(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tried]:
    """All attempts of one program, isolated one way."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as outside:  # an isolated program may have a /tmp of its own
        for host, facts in make_host(Path(outside)):
            job = job_of(tmp_path_factory.mktemp("isolated"), ATTEMPTS, json.dumps(facts), readable=(host.data,))
            ended = run_or_skip(job, request.param)
            text = job.output.read_text()
            assert ended.exit_code == 0, text
            yield Tried(json.loads(text.splitlines()[-1]), host, host.was_reached(), job.folder)


@pytest.mark.parametrize("name", (*SOCKETS, *FILES, *DATA, *OTHERS))
def test_it_is_refused(tried: Tried, name: str) -> None:
    assert tried.results[name] in ERRORS


def test_nothing_came_out_of_it_and_nothing_changed(tried: Tried) -> None:
    assert not tried.was_reached
    assert (tried.host.data / "shard.bin").read_text() == "tokens"
    assert sorted(path.name for path in tried.host.data.iterdir()) == ["linked.bin", "shard.bin"]
    assert sorted(path.name for path in tried.host.folder.iterdir()) == ["blob", "secret.txt"]
    assert (tried.host.folder / "secret.txt").stat().st_mode & 0o777 != 0o777


def test_it_sees_its_data_and_writes_its_folder(tried: Tried) -> None:
    assert tried.results["read_data"] == "tokens"
    assert tried.results["read_linked_data"] == "linked"
    assert tried.results["list_data"] == ["linked.bin", "shard.bin"]
    assert tried.results["write_folder"] == tried.results["write_temporary"] == tried.results["write_home"] == 1
    assert [path.name for path in tried.work.iterdir()] == ["made.txt"]


def test_it_works_as_a_program_does(tried: Tried) -> None:
    assert (tried.results["random"], tried.results["pair"], tried.results["child"]) == (4, "x", "42")


def test_it_knows_nothing_of_whoever_started_it(tried: Tried) -> None:
    assert "SECRET_TOKEN" not in tried.results["environment"]
    assert {"HOME", "TMPDIR", "PATH"} <= set(tried.results["environment"])
    assert tried.results["stdin"] == ""
    assert tried.results["open_files"] == 3
    assert "pytest" not in tried.results["parent_command"]


def test_it_has_no_rights_of_root(tried: Tried) -> None:
    assert tried.results["capabilities"] == ["0" * 16]


def test_it_names_its_threads_which_cuda_needs(tried: Tried) -> None:
    assert tried.results["name_thread"] == "worker"


def test_nothing_that_holds_for_the_host_can_be_set(tried: Tried) -> None:
    assert tried.results["settings"] == []


def test_memory_and_files_end_somewhere(tried: Tried) -> None:
    assert tried.results["much_memory"] == "MemoryError"
    assert tried.results["large_file"] == "OSError"
