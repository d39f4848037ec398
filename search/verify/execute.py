"""Executes the train_gpt.py of a submission as shipped, isolated, and reads what it leaves behind."""

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from search.child import untrusted_environment
from search.run import CODE_FILE, LOG_FILE, OUTPUT_FILE, RESULT_FILE, Run
from search.verify.folder import UnreadableError, read_bytes, read_text
from search.verify.isolate import Ended, Job, run_untrusted
from search.verify.log import ChallengeLog, read_log
from search.verify.strict_json import read_json
from search.verify.watch import Limits
from trainer.result import Failure, Measurement, outcome_from_dict

MAX_RESULT_BYTES = 1_000_000
MAX_LOGS = 50  # looked at; a run leaves one or two
TOKENIZERS = "tokenizers"
# Besides one process a rank: torch compiles with up to 32 more in each, and with as many C compilers.
PROCESSES, PROCESSES_PER_RANK = 128, 64


@dataclass(frozen=True, slots=True)
class Again:
    """What a run measured.

    Attributes:
        val_bpb: as it printed it.
        steps: of training, as it says; None where it does not.
        weight_bytes: the same.
        has_weights: whether it left a file of that size.
    """

    ended: Ended
    val_bpb: str
    steps: int | None
    weight_bytes: int | None
    has_weights: bool


@dataclass(frozen=True, slots=True)
class Failed:
    """Why a run measured nothing."""

    ended: Ended
    reason: str


def execute(
    folder: Path,
    run: Run,
    readable: tuple[Path, ...],
    inherited: Mapping[str, str],
    *,
    is_unsafe_allowed: bool,
    announce: Callable[[str], None],
) -> Again | Failed:
    """Run a submission's train_gpt.py in a scratch folder.

    Args:
        folder: the submission, of which the scratch folder gets train_gpt.py and the tokenizers.
        run: its folder is replaced by the scratch one.
        inherited: variables of this process, of which it gets the harmless ones.
        announce: hears where its output goes before it starts.

    Raises:
        IsolationError: this host cannot isolate it, and it may not run otherwise.
    """
    with tempfile.TemporaryDirectory(prefix="caddie-rerun-", ignore_cleanup_errors=True) as scratch:
        work, output = Path(scratch, "work"), Path(scratch, OUTPUT_FILE)
        work.mkdir()
        shutil.copyfile(folder / CODE_FILE, work / CODE_FILE)
        if (folder / TOKENIZERS).is_dir():
            shutil.copytree(folder / TOKENIZERS, work / TOKENIZERS)
        data = data_root(Path(run.environment["DATA_PATH"]))
        if data is not None:
            (work / "data").symlink_to(data)  # where the challenge's scripts look unless told otherwise
        moved = replace(run, folder=work)
        announce(f"{run.run_id}: {CODE_FILE} runs again; what it prints: {output}")
        ended = run_untrusted(job_of(moved, output, readable, inherited), is_unsafe_allowed=is_unsafe_allowed)
        return read_again(work, output, ended)


def data_root(data_path: Path) -> Path | None:
    """The folder that holds datasets/ and tokenizers/, where shards lie as the challenge has them."""
    return data_path.parent.parent if data_path.parent.name == "datasets" else None


def job_of(run: Run, output: Path, readable: tuple[Path, ...], inherited: Mapping[str, str]) -> Job:
    """A run as an untrusted command."""
    command = [sys.executable, CODE_FILE]
    variables: dict[str, str] = {}
    if run.world_size > 1:
        ranks = f"--nproc-per-node={run.world_size}"
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", ranks, CODE_FILE]
        variables = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}  # all the network there is
    return Job(
        command=command,
        folder=run.folder,
        output=output,
        limits=Limits(seconds=run.deadline_seconds, processes=PROCESSES + PROCESSES_PER_RANK * run.world_size),
        environment=untrusted_environment(run, inherited) | variables,
        readable=readable,
        num_gpus=round(run.num_gpus),
        needs_loopback=run.world_size > 1,
    )


def read_again(work: Path, output: Path, ended: Ended) -> Again | Failed:
    """What an ended run left behind. Its folder is as hostile as the program that wrote it."""
    if ended.killed is not None:
        return Failed(ended, ended.killed)
    outcome = result_of(work)
    if isinstance(outcome, Failure):
        return Failed(ended, f"{outcome.kind.value}: {outcome.message}")
    log = log_of(work, output)
    val_bpb = f"{outcome.val_bpb:.8f}" if outcome is not None else log.text("val_bpb")
    if val_bpb is None:
        return Failed(ended, f"exit code {ended.exit_code} and no result; its last line: {last_line(output)}")
    weight_bytes = outcome.weight_bytes if outcome is not None else log.integer("weight_bytes")
    steps = outcome.steps if outcome is not None else log.integer("steps")
    has_weights = any(path.lstat().st_size == weight_bytes for path in files_below(work))
    return Again(ended, val_bpb, steps, weight_bytes, has_weights)


def files_below(work: Path) -> Iterator[Path]:
    """Regular files in a folder and in the folders directly in it; links are none."""
    inside = [path for path in sorted(work.iterdir()) if not path.is_symlink()]
    for path in inside:
        if path.is_file():
            yield path
        elif path.is_dir():
            yield from (below for below in sorted(path.iterdir()) if below.is_file() and not below.is_symlink())


def result_of(work: Path) -> Measurement | Failure | None:
    """What our own trainer leaves; None where there is nothing of the kind."""
    path = work / RESULT_FILE
    try:
        if path.is_symlink() or not path.is_file() or path.stat().st_size > MAX_RESULT_BYTES:
            return None
        values = read_json(read_bytes(path).decode())
        outcome = outcome_from_dict(values) if isinstance(values, dict) else None
    except (UnreadableError, ValueError):
        return None
    if isinstance(outcome, Measurement) and not (
        isinstance(outcome.val_bpb, float) and isinstance(outcome.weight_bytes, int)  # pyright: ignore[reportUnnecessaryIsInstance]
    ):
        return None
    return outcome


def log_of(work: Path, output: Path) -> ChallengeLog:
    """The log of a run: the first file that names a score, else what it printed."""
    logs = [path for path in files_below(work) if path.suffix in {".log", ".txt"}]
    logs.sort(key=lambda path: path.name != LOG_FILE)
    for path in logs[:MAX_LOGS]:
        try:
            log = read_log(read_text(path))
        except UnreadableError:
            continue  # larger than any log
        if log.text("val_bpb") is not None:
            return log
    try:
        return read_log(read_text(output))
    except UnreadableError:
        return ChallengeLog({})


def last_line(output: Path) -> str:
    """The end of what a run printed."""
    with output.open("rb") as file:
        file.seek(max(0, output.stat().st_size - 10_000))
        lines = file.read().decode(errors="replace").split("\n")
    return next(filter(str.strip, reversed(lines)), "").strip()


def environment_of(data_path: Path, tokenizer: Path, seed: int, settings: Mapping[str, str]) -> dict[str, str]:
    """The variables by which the challenge's scripts are told what to do; settings go before ours."""
    variables = {
        "DATA_PATH": str(data_path),
        "TOKENIZER_PATH": str(tokenizer),
        "SEED": str(seed),
        "RUN_ID": f"rerun-seed{seed}",
    }
    if (data := data_root(data_path)) is not None:
        variables["DATA_DIR"] = str(data)
    return {**variables, **settings}
