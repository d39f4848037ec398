"""Whether a script can be imported and its model built, with as many parameters as its logs say; isolated, on a CPU."""

import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from search.bundle import unpack
from search.child import harmless
from search.errors import BundleError
from search.run import CODE_FILE
from search.verify import build_model
from search.verify.execute import last_line
from search.verify.files import Submission
from search.verify.finding import Finding, Severity
from search.verify.folder import UnreadableError, read_bytes
from search.verify.isolate import Ended, Job, run_untrusted
from search.verify.strict_json import read_json
from search.verify.unpack import readable_code
from search.verify.watch import Limits

SECONDS = 300.0  # importing torch takes 3 to 30 of them
MEMORY_BYTES = 8 * 2**30
PROGRAM = "build_model.py"


@dataclass(frozen=True, slots=True)
class Smoke:
    """How a model is built.

    Attributes:
        inherited: variables of this process, of which it gets the harmless ones.
        settings: variables of the environment, as a README's command may set them.
        is_unsafe_allowed: where this host cannot isolate it, it runs with this user's rights and network.
    """

    inherited: Mapping[str, str]
    settings: Mapping[str, str] = field(default_factory=dict[str, str])
    is_unsafe_allowed: bool = False


@dataclass(frozen=True, slots=True)
class Built:
    """What came of building a model.

    Attributes:
        num_parameters: None where it was not built.
        reason: why not.
        absent: libraries that the script imports and this host does not have; stand-ins took their place.
    """

    ended: Ended
    num_parameters: int | None
    reason: str
    absent: tuple[str, ...]


def smoke_findings(submission: Submission, smoke: Smoke) -> Iterator[Finding]:
    """Import the script, build its model at the published shape and compare its parameters with the logs.

    Raises:
        IsolationError: this host cannot isolate it, and it may not run otherwise.
    """
    data = read_bytes(submission.folder / CODE_FILE)
    code = readable_code(data)
    if code.finding:
        yield Finding(
            "smoke", Severity.REVIEW, code.shown, None, f"expected a model to build, got none: {code.finding}"
        )
        return
    built = build(code.text, smoke)
    yield from built.ended.findings()
    absent = f"; stand-ins for {', '.join(built.absent)}, which this host does not have" if built.absent else ""
    if built.num_parameters is None:
        message = f"expected a model to build, got none: {built.reason}{absent}"
        yield Finding("smoke", Severity.REVIEW, code.shown, None, message)
        return
    yield from compare(submission, built.num_parameters, absent, is_ours=is_ours(data))
    message = f"built, {built.ended.isolation}: {built.num_parameters} parameters, {len(data)} bytes of code{absent}"
    yield Finding("smoke", Severity.NOTE, code.shown, None, message)


def is_ours(data: bytes) -> bool:
    """Whether a train_gpt.py is one of this program's, whose shape is in the file alone."""
    try:
        return bool(unpack(data))
    except BundleError:
        return False


def compare(submission: Submission, num_parameters: int, absent: str, *, is_ours: bool) -> Iterator[Finding]:
    """Whether the logs have that many parameters. Scripts that read their shape from the environment may differ."""
    for name, log in submission.logs.items():
        logged = log.integer("model_params")
        if logged is None or logged == num_parameters:
            continue
        asked = "" if is_ours else "; does the README's command set variables? --env NAME=VALUE does too"
        severity = Severity.REFUSE if is_ours else Severity.REVIEW
        message = f"model_params: expected {num_parameters}, as built, got {logged}{absent}{asked}"
        yield Finding("smoke", severity, name, log.line("model_params"), message)


def build(text: str, smoke: Smoke) -> Built:
    """Build the model of a script."""
    with tempfile.TemporaryDirectory(prefix="caddie-smoke-", ignore_cleanup_errors=True) as scratch:
        work, output = Path(scratch, "work"), Path(scratch, "output.txt")
        work.mkdir()
        (work / build_model.SCRIPT).write_text(text, encoding="utf-8")
        (work / PROGRAM).write_bytes(Path(build_model.__file__).read_bytes())
        limits = Limits(seconds=SECONDS)
        job = Job(
            command=[sys.executable, PROGRAM],
            folder=work,
            output=output,
            limits=Limits(seconds=SECONDS, memory_bytes=min(MEMORY_BYTES, limits.memory_bytes)),
            environment={
                **harmless(smoke.inherited),
                "CUDA_VISIBLE_DEVICES": "",
                "OMP_NUM_THREADS": "1",
                **smoke.settings,
            },
        )
        return read_built(work, output, run_untrusted(job, is_unsafe_allowed=smoke.is_unsafe_allowed))


def read_built(work: Path, output: Path, ended: Ended) -> Built:
    """What the build left behind, in a folder that a hostile script may have written."""
    path = work / build_model.FOUND
    reason = ended.killed or f"exit code {ended.exit_code}: {last_line(output)}"
    absent: tuple[str, ...] = ()
    num_parameters: int | None = None
    try:
        values = read_json(read_bytes(path).decode()) if path.is_file() and not path.is_symlink() else {}
        absent = tuple(str(name) for name in values.get("absent", ()))
        reason = str(values.get("error", reason))
        given = values.get("num_parameters")
        num_parameters = given if isinstance(given, int) and ended.killed is None else None
    except (UnreadableError, ValueError, AttributeError, TypeError):
        reason = f"{build_model.FOUND} cannot be read"
    return Built(ended, num_parameters, reason, absent)
