"""Rules on what a script uses: network, other programs, code that cannot be read, files beside it."""

from collections.abc import Iterator
from pathlib import Path

from search.verify.finding import Severity
from search.verify.review.marks import Flag
from search.verify.review.trace import Event, Kind, Trace
from search.verify.verdict import Verdict

REFUSE, REVIEW = Severity.REFUSE, Severity.REVIEW
NETWORK = frozenset(
    {
        "socket",
        "socketserver",
        "ssl",
        "http",
        "urllib",
        "urllib3",
        "ftplib",
        "smtplib",
        "telnetlib",
        "poplib",
        "imaplib",
    }
    | {"xmlrpc", "requests", "httpx", "aiohttp", "websocket", "websockets", "paramiko", "huggingface_hub", "datasets"}
    | {"wandb", "boto3", "botocore", "gdown", "torch.hub", "torch.utils.model_zoo", "torch.distributed.rpc", "pycurl"}
    | {"fsspec", "s3fs", "gcsfs", "kagglehub", "comet_ml", "mlflow", "neptune", "grpc", "zmq", "redis", "webbrowser"}
    | {"nntplib", "asyncio.open_connection", "asyncio.start_server", "google.cloud", "modelscope", "smbclient"}
    | {
        "_socket",
        "_ssl",
        "urllib.request",
        "kernels",
        "clearml",
        "openai",
        "anthropic",
        "swanlab",
        "aim",
        "tensorflow_datasets",
    }
)
# A name that is looked up, or a text that is taken apart, fetches nothing.
HARMLESS_NETWORK = (
    "socket.gethostname",
    "socket.getfqdn",
    "urllib.parse",
    "socket.AF_",
    "socket.SOCK_",
    "http.HTTPStatus",
)
PROCESSES = frozenset(
    {
        "subprocess",
        "pty",
        "pexpect",
        "os.system",
        "os.popen",
        "os.fork",
        "os.forkpty",
        "os.posix_spawn",
        "os.posix_spawnp",
    }
    | {f"os.{start}{end}" for start in ("exec", "spawn") for end in ("l", "le", "lp", "lpe", "v", "ve", "vp", "vpe")}
    | {"commands", "popen2", "sh", "plumbum", "invoke", "fabric", "_posixsubprocess", "asyncio.create_subprocess_exec"}
    | {
        "asyncio.create_subprocess_shell",
        "asyncio.subprocess",
        "pip",
        "platform.popen",
        "webbrowser.open",
        "os.startfile",
    }
    | {"posix.system", "posix.popen", "posix.execv", "posix.fork", "nt.system"}
)
# Records log what these say of the machine.
SHOWS_MACHINE = frozenset(
    {"nvidia-smi", "nvcc", "lscpu", "uname", "hostname", "free", "rocm-smi", "lsb_release", "numactl"}
)
# No library packs lrzip's format, and a record uses it (PR 1855): a reviewer asks. For the others there are libraries.
COMPRESSORS = frozenset({"lrzip"})
LIBC = frozenset({"system", "popen", "fork", "vfork", "execv", "execl", "execve", "execvp", "posix_spawn"})
OPAQUE = frozenset(
    {
        "ctypes",
        "cffi",
        "pickle",
        "dill",
        "cloudpickle",
        "marshal",
        "runpy",
        "importlib",
        "code",
        "codeop",
        "imp",
        "zipimport",
    }
)
HARMLESS_OPAQUE = ("importlib.util.find_spec", "importlib.metadata", "importlib.resources", "importlib.reload")
LOADERS = frozenset(
    {"torch.ops.load_library", "torch.classes.load_library", "torch.utils.cpp_extension.load", "runpy.run_path"}
    | {"importlib.util.spec_from_file_location", "ctypes.CDLL", "ctypes.cdll.LoadLibrary"}
    | {"importlib.machinery.SourceFileLoader", "importlib.machinery.ExtensionFileLoader"}
)


def prefixes(dotted: str) -> set[str]:
    """a, a.b and a.b.c of a.b.c."""
    parts = dotted.split(".")
    return {".".join(parts[: end + 1]) for end in range(len(parts))}


def name_verdicts(trace: Trace, folder: Path) -> Iterator[Verdict]:
    """Everything these rules say."""
    used = [event for event in trace.events if event.kind in {Kind.CALL, Kind.IMPORT}]
    yield from network(used)
    yield from processes(used)
    yield from opaque(trace, used)
    yield from loaded_code(trace, folder)


def network(used: list[Event]) -> Iterator[Verdict]:
    """No use of the network."""
    for event in used:
        if event.name == "address":
            yield Verdict("network", REFUSE, [event], f"expected no network, got an address given to {event.consts[0]}")
        found = prefixes(event.name) & NETWORK
        if found and not event.name.startswith(HARMLESS_NETWORK):
            is_only_named = event.name == "socket" and uses_only(used, "socket", HARMLESS_NETWORK)
            if not is_only_named:
                yield Verdict("network", REFUSE, [event], f"expected no network, got {max(found, key=len)}")


def uses_only(used: list[Event], root: str, harmless: tuple[str, ...]) -> bool:
    """Whether all calls of a module are harmless, and there are some."""
    calls = [event for event in used if event.kind is Kind.CALL and event.name.startswith(f"{root}.")]
    return bool(calls) and all(event.name.startswith(harmless) for event in calls)


def processes(used: list[Event]) -> Iterator[Verdict]:
    """No other program."""
    calls = [event for event in used if event.kind is Kind.CALL and prefixes(event.name) & PROCESSES]
    for event in calls:
        if event.name.startswith("subprocess.") and event.name.split(".")[-1] in {
            "CalledProcessError",
            "TimeoutExpired",
        }:
            continue
        word = command(event)
        if word in SHOWS_MACHINE:
            continue
        severity = REVIEW if word in COMPRESSORS else REFUSE
        shown = f"{event.name} of {word}" if word else event.name
        yield Verdict("process", severity, [event], f"expected no other program, got {shown}")
    for event in used:
        if event.kind is Kind.IMPORT and prefixes(event.name) & PROCESSES:
            root = event.name.split(".")[0]
            if event.name in PROCESSES and event.name != root:
                yield Verdict("process", REFUSE, [event], f"expected no other program, got {event.name}")
            elif not any(call.name.startswith(f"{root}.") for call in calls):
                message = f"expected no other program, got an import of {event.name} whose use cannot be followed"
                yield Verdict("process", REVIEW, [event], message)
        elif (
            event.kind is Kind.CALL and event.name.startswith(("ctypes", "cffi")) and event.name.split(".")[-1] in LIBC
        ):
            yield Verdict("process", REFUSE, [event], f"expected no other program, got {event.name}")


def command(event: Event) -> str:
    """The program that a call starts; "" where that is not known."""
    words = [one for one in event.consts if isinstance(one, str)]
    first = words[0].split() if words else []
    return first[0].rsplit("/", 1)[-1] if first and first[0] != "\0" and not any(c in words[0] for c in ";|&`$") else ""


def opaque(trace: Trace, used: list[Event]) -> Iterator[Verdict]:
    """Code that can be read from the text."""
    for event in used:
        if event.name in {"getattr", "import_module"} and event.consts == ("computed",):
            severity = REFUSE if Flag.DECODED in event.marks else REVIEW
            yield Verdict(
                "opaque", severity, [event], f"expected names that can be read, got a computed one for {event.name}"
            )
        elif event.name in {"marshal.loads", "marshal.load"}:
            yield Verdict("opaque", REFUSE, [event], f"expected code that can be read, got {event.name}")
        elif prefixes(event.name) & OPAQUE and not event.name.startswith(HARMLESS_OPAQUE):
            if event.name == "importlib" and uses_only(used, "importlib", HARMLESS_OPAQUE):
                continue
            yield Verdict("opaque", REVIEW, [event], f"expected code that can be read, got {event.name}")
        elif event.name in {"types.FunctionType", "types.CodeType"}:
            yield Verdict(
                "opaque", REFUSE, [event], f"expected code that can be read, got {event.name} of a code object"
            )
        elif event.name == "__import__":
            yield Verdict("opaque", REVIEW, [event], "expected an import statement, got __import__")
    for event in trace.events:
        if event.kind is Kind.EXECUTE:
            yield executed(event)


def executed(event: Event) -> Verdict:
    """What running text as code says."""
    if Flag.OTHER_FILE in event.marks:
        return Verdict(
            "single-file", REFUSE, [event], f"expected all code in train_gpt.py, got {event.name} of a file's text"
        )
    if Flag.SETTING in event.marks:
        return Verdict(
            "opaque", REFUSE, [event], f"expected code that can be read, got {event.name} of an environment variable"
        )
    if event.consts == ("constant",):
        return Verdict("opaque", REVIEW, [event], f"expected code that is written out, got {event.name} of a text")
    is_hidden = bool(event.marks & {Flag.DECODED, Flag.TRAIN, Flag.VAL, Flag.WEIGHTS, Flag.PACKED})
    what = "bytes of a file or payload" if is_hidden else "a computed text"
    return Verdict(
        "opaque",
        REFUSE if is_hidden else REVIEW,
        [event],
        f"expected code that can be read, got {event.name} of {what}",
    )


def loaded_code(trace: Trace, folder: Path) -> Iterator[Verdict]:
    """Nothing that counts lies beside the script."""
    written = {base_name(event.name) for event in trace.events if event.kind is Kind.WRITE}
    names = {path.name for path in folder.rglob("*") if path.is_file()} if folder.is_dir() else set[str]()
    for event in trace.events:
        if event.kind is Kind.CALL and event.name in LOADERS:
            files = [one for one in event.consts if isinstance(one, str) and one.strip("\0")]
            if event.name.startswith("ctypes") and not any("/" in one or base_name(one) in names for one in files):
                continue
            yield Verdict("single-file", REFUSE, [event], f"expected all code in train_gpt.py, got {event.name}")
        elif event.kind is Kind.CALL and event.name in {"sys.path.insert", "sys.path.append", "site.addsitedir"}:
            is_beside = any(base_name(str(one)) in names for one in event.consts)
            message = "expected all code in train_gpt.py, got another place to import from"
            yield Verdict("single-file", REFUSE if is_beside else REVIEW, [event], message)
        elif event.kind in {Kind.READ, Kind.UNPACK}:
            yield from read_beside(event, names - written)


def base_name(path: str) -> str:
    """The last part of a path."""
    return path.rsplit("/", 1)[-1]


def read_beside(event: Event, names: set[str]) -> Iterator[Verdict]:
    """A file of the folder that the script reads and has not written: weights or data that nothing counts."""
    name = base_name(event.name)
    if name in names and name != "train_gpt.py" and not name.endswith(".model"):
        severity = REVIEW if name.endswith((".txt", ".md", ".py", ".log", ".sh")) else REFUSE
        yield Verdict(
            "single-file", severity, [event], f"expected nothing but train_gpt.py and its weights, got a read of {name}"
        )
    elif event.name.startswith("__file__/") and event.name != "__file__/train_gpt.py" and name not in {"", "\0"}:
        yield Verdict(
            "single-file", REVIEW, [event], f"expected nothing beside train_gpt.py, got a read of {name} there"
        )


__all__ = ["name_verdicts", "prefixes"]
