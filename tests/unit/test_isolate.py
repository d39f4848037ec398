"""What an isolated program can and cannot do, each tried by a real one, by each way that this host allows."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from search.child import harmless
from search.verify.isolate import Ended, IsolationError, Job, Way, compilers, run_isolated, run_untrusted
from search.verify.watch import Limits

LIMITS = Limits(seconds=30.0, memory_bytes=2**30, processes=40)
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


def job_of(folder: Path, code: str, *arguments: str, limits: Limits = LIMITS, readable: tuple[Path, ...] = ()) -> Job:
    """A Python program in a folder of its own; what it prints goes beside that."""
    work = folder / "work"
    work.mkdir()
    return Job(
        command=[sys.executable, "-I", "-c", code, *arguments],
        folder=work,
        output=folder / "output.txt",
        limits=limits,
        environment=harmless({**os.environ, "SECRET_TOKEN": "hunter2", "LANG": "C.UTF-8"}),
        readable=readable,
    )


def run_or_skip(job: Job, way: Way) -> Ended:
    try:
        return run_isolated(job, [way])
    except IsolationError as error:
        pytest.skip(str(error))


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
