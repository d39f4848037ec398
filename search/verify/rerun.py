"""Executes a submission again and compares what it measures with what its logs say.

This runs code of whoever wrote the folder, with the rights and the network of the user who asks for it; there is no
isolation yet. It happens only on request.
"""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from search.child import process_tree
from search.claim import TRACK_ARTIFACT_BYTES
from search.errors import SubmissionError
from search.run import CODE_FILE, OUTPUT_FILE, Run, read_outcome
from search.verify.files import Submission
from search.verify.finding import Finding, Severity
from search.verify.folder import matching, read_text
from search.verify.log import ChallengeLog, read_log
from trainer.result import Failure, Measurement

COMPARED = ("val_bpb", "total_bytes")


@dataclass(frozen=True, kw_only=True, slots=True)
class Rerun:
    """How a submission is executed again.

    Attributes:
        data_path: folder of shards.
        tokenizer_path: None takes the one in the folder's tokenizers/.
        seeds: None takes the first.
        num_gpus: of this machine; 0 hides them all. What was measured on a CPU runs on one again.
        world_size: None takes the log's.
        tolerance: how far val_bpb may be off. 0 asks for the log's own digits and bytes, which a CPU run with a budget
            in tokens gives; on GPUs, and with a budget in seconds, two runs differ.
        deadline_seconds: killed when it runs longer.
    """

    data_path: Path
    tokenizer_path: Path | None = None
    seeds: Sequence[int] | None = None
    num_gpus: int = 0
    world_size: int | None = None
    tolerance: float = 0.0
    deadline_seconds: float = 3600.0


def logged_dataset(folder: Path) -> str:
    """The name of the folder of shards that a submission's runs used, as its logs have it.

    Raises:
        SubmissionError: no log names one.
    """
    for path in matching(folder, "train*.log"):
        if name := read_log(read_text(path)).text("dataset"):
            return name
    raise SubmissionError(f"{folder}: expected a log that names its dataset, got none; name the shards' folder")


def rerun_findings(submission: Submission, rerun: Rerun) -> list[Finding]:
    """Execute the folder's train_gpt.py for each seed asked for, in a folder of its own, and compare.

    Raises:
        SubmissionError: there is no tokenizer, or no log of a seed.
    """
    names = submission.log_of_seed
    if not names:
        raise SubmissionError(f"{submission.folder}: expected a log of a seed to run again, got none")
    found: list[Finding] = []
    for seed in rerun.seeds if rerun.seeds is not None else sorted(names)[:1]:
        if seed not in names:
            raise SubmissionError(f"seeds: expected one of {sorted(names)}, got {seed}")
        log = submission.logs[names[seed]]
        if log.missing(COMPARED):
            continue  # refused for that already; there is nothing to compare with
        outcome = run_again(submission.folder, seed, rerun, log)
        found += compare(names[seed], log, outcome, rerun.tolerance)
    return found


def run_again(folder: Path, seed: int, rerun: Rerun, log: ChallengeLog) -> Measurement | str:
    """One run of the folder's train_gpt.py; text says why there is no measurement."""
    with tempfile.TemporaryDirectory(prefix="caddie-rerun-") as scratch:
        work = Path(scratch)
        shutil.copyfile(folder / CODE_FILE, work / CODE_FILE)
        run = run_of(work, seed, rerun, log, tokenizer_of(folder, rerun))
        with process_tree(run) as process:
            try:
                process.wait(timeout=rerun.deadline_seconds)
            except subprocess.TimeoutExpired:
                return f"no end within {rerun.deadline_seconds:.0f} s"
        return read_result(work, process.returncode)


def run_of(work: Path, seed: int, rerun: Rerun, log: ChallengeLog, tokenizer: Path) -> Run:
    """The run as a study would start it."""
    return Run(
        run_id=f"rerun-seed{seed}",
        folder=work,
        world_size=rerun.world_size or log.integer("world_size") or 1,
        num_gpus=0 if log.text("device") == "cpu" else rerun.num_gpus,
        accelerator=None,
        environment={
            "DATA_PATH": str(rerun.data_path.absolute()),
            "TOKENIZER_PATH": str(tokenizer.absolute()),
            "SEED": str(seed),
            "RUN_ID": f"rerun-seed{seed}",
        },
        deadline_seconds=rerun.deadline_seconds,
        storage_url="",
    )


def tokenizer_of(folder: Path, rerun: Rerun) -> Path:
    """The tokenizer asked for, or the folder's only one.

    Raises:
        SubmissionError: there is none, or several.
    """
    if rerun.tokenizer_path is not None:
        return rerun.tokenizer_path
    found = matching(folder / "tokenizers", "*.model")
    if len(found) != 1:
        raise SubmissionError(f"{folder / 'tokenizers'}: expected one tokenizer, got {len(found)}; name one")
    return found[0]


def read_result(work: Path, exit_code: int) -> Measurement | str:
    """What a finished run left behind; text says why there is no measurement."""
    try:
        outcome = read_outcome(work)
    except ValueError:
        outcome = None
    if outcome is None:
        lines = (work / OUTPUT_FILE).read_text(errors="replace").split("\n")
        return f"exit code {exit_code} and no result; its last line: {next(filter(str.strip, reversed(lines)), '')}"
    return f"{outcome.kind.value}: {outcome.message}" if isinstance(outcome, Failure) else outcome


def compare(name: str, log: ChallengeLog, outcome: Measurement | str, tolerance: float) -> Iterator[Finding]:
    """Whether a run measured what the log says."""
    if isinstance(outcome, str):
        yield Finding("rerun", Severity.REFUSE, name, None, f"expected a measurement again, got {outcome}")
        return
    logged = log.text("val_bpb") or ""
    is_equal = f"{outcome.val_bpb:.8f}" == logged
    if not (is_equal or abs(outcome.val_bpb - float(logged)) <= tolerance):
        message = f"expected val_bpb {logged} again, got {outcome.val_bpb:.8f}"
        yield Finding("rerun", Severity.REFUSE, name, log.line("val_bpb"), message)
    total = log.integer("total_bytes")
    if tolerance == 0 and outcome.artifact_bytes != total:
        message = f"expected {total} artifact bytes again, got {outcome.artifact_bytes}"
        yield Finding("rerun", Severity.REFUSE, name, log.line("total_bytes"), message)
    if outcome.artifact_bytes > TRACK_ARTIFACT_BYTES:
        message = f"expected at most {TRACK_ARTIFACT_BYTES} artifact bytes, got {outcome.artifact_bytes}"
        yield Finding("rerun", Severity.REFUSE, name, None, message)
    same = "the same digits" if is_equal else f"off by {outcome.val_bpb - float(logged):+.8f}"
    message = f"ran again: val_bpb {outcome.val_bpb:.8f} ({same}), {outcome.artifact_bytes} artifact bytes"
    yield Finding("rerun", Severity.NOTE, name, None, message)
