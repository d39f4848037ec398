"""Executes a submission again and compares what it measures with what its logs say.

This runs code of whoever wrote the folder, with the rights and the network of the user who asks for it; there is no
isolation yet. It happens only on request.
"""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from search.challenge_log import ChallengeLog, read_log
from search.child import process_tree
from search.claim import TRACK_ARTIFACT_BYTES
from search.errors import SubmissionError
from search.finding import Finding, Severity
from search.run import Run
from search.verify_files import LOG_NAME, Submission
from trainer.result import Failure, Measurement, outcome_from_dict

OUTPUT_FILE = "stdout.log"


@dataclass(frozen=True, kw_only=True, slots=True)
class Rerun:
    """How a submission is executed again.

    Attributes:
        data_path: folder of shards.
        tokenizer_path: None takes the one in the folder's tokenizers/.
        seeds: None takes the first.
        num_gpus: 0 hides all GPUs.
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
    for path in sorted(folder.glob("train*.log")):
        if name := read_log(path.read_text(encoding="utf-8", errors="replace")).text("dataset"):
            return name
    raise SubmissionError(f"{folder}: expected a log that names its dataset, got none; name the shards' folder")


def rerun_findings(submission: Submission, rerun: Rerun) -> list[Finding]:
    """Execute the folder's train_gpt.py for each seed asked for, in a folder of its own, and compare.

    Raises:
        SubmissionError: there is no tokenizer, or no log of a seed.
    """
    logs = {int(match[1]): log for name, log in submission.logs.items() if (match := LOG_NAME.fullmatch(name))}
    found: list[Finding] = []
    for seed in rerun.seeds if rerun.seeds is not None else sorted(logs)[:1]:
        if seed not in logs:
            raise SubmissionError(f"seeds: expected one of {sorted(logs)}, got {seed}")
        outcome = execute(submission.folder, seed, rerun, logs[seed])
        found += compare(f"train_seed{seed}.log", logs[seed], outcome, rerun.tolerance)
    return found


def execute(folder: Path, seed: int, rerun: Rerun, log: ChallengeLog) -> Measurement | str:
    """One run of the folder's train_gpt.py; text says why there is no measurement."""
    with tempfile.TemporaryDirectory(prefix="caddie-rerun-") as scratch:
        work = Path(scratch)
        shutil.copyfile(folder / "train_gpt.py", work / "train_gpt.py")
        run = run_of(work, seed, rerun, log, tokenizer_of(folder, rerun))
        with process_tree(run, OUTPUT_FILE) as process:
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
        num_gpus=rerun.num_gpus,
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
    found = sorted((folder / "tokenizers").glob("*.model"))
    if len(found) != 1:
        raise SubmissionError(f"{folder / 'tokenizers'}: expected one tokenizer, got {len(found)}; name one")
    return found[0]


def read_result(work: Path, exit_code: int) -> Measurement | str:
    """What a finished run left behind; text says why there is no measurement."""
    try:
        outcome = outcome_from_dict(json.loads((work / "result.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
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
    same = "the same digits" if is_equal else f"within {tolerance}"
    message = f"ran again: val_bpb {outcome.val_bpb:.8f} ({same}), {outcome.artifact_bytes} artifact bytes"
    yield Finding("rerun", Severity.NOTE, name, None, message)
