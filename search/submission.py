"""Exports a trial as a submission folder: its runs' own files, never rebuilt, and nothing that does not verify."""

import hashlib
import json
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from search.bundle import unpack
from search.claim import Claim, SeedRun
from search.errors import BundleError, SubmissionError
from search.readme import readme
from search.run import CODE_FILE, LOG_FILE, WEIGHT_FILE
from search.strip import is_same_program
from search.submission_json import requirements, submission_fields
from search.verify.check import verify
from search.verify.finding import Severity

READABLE_FILE = "train_gpt_readable.py"
READABLE_HEADER = """\
# Readable copy. It was not executed: train_gpt.py was, and this is the code inside it.
"""


def export(claim: Claim, out: Path, *, with_weights: bool = False) -> Path:
    """Write the submission folder; it appears only when it is complete and verifies.

    Args:
        out: a new folder, or an empty one.
        with_weights: also copy each seed's weight file.

    Raises:
        SubmissionError: out is not empty or cannot be written; a file of a run is missing or is not the one that was
            measured; seeds repeat; the artifact is over the limit; or the folder would not verify.
    """
    out = out.absolute()
    if out.is_symlink() or (out.exists() and not (out.is_dir() and not any(out.iterdir()))):
        raise SubmissionError(f"{out}: expected a new or empty folder, got one that holds something")
    check_claim(claim)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as scratch:
            folder = Path(scratch) / out.name
            folder.mkdir()
            fill(folder, claim, with_weights)
            refuse_invalid(folder)
            folder.rename(out)  # takes the place of an empty folder too
    except OSError as error:
        raise SubmissionError(f"{out}: expected a folder that can be written, got {error}") from error
    return out


def check_claim(claim: Claim) -> None:
    """Refuse runs that do not make one submission.

    Raises:
        SubmissionError: there is no run, seeds repeat, the code differs between runs, or a run is over the limit.
    """
    if not claim.runs:
        raise SubmissionError("runs: expected at least one measured run, got none")
    repeated = [seed for seed, count in Counter(run.measurement.seed for run in claim.runs).items() if count > 1]
    if repeated:
        raise SubmissionError(f"runs: expected one run a seed, got several of seed {repeated[0]}")
    for run in claim.runs:
        check_run(run, claim.origin.limits.artifact_bytes)
    codes = {run.code_sha256 for run in claim.runs}
    if len(codes) > 1:
        raise SubmissionError(f"runs: expected the same train_gpt.py in every run, got {len(codes)} different ones")


def check_run(run: SeedRun, limit_bytes: int) -> None:
    """Refuse a run whose files are not those that were measured.

    Raises:
        SubmissionError: a file is missing, a hash or a size differs, or the artifact is over the limit.
    """
    one, code = run.measurement, run.folder / CODE_FILE
    for name in (CODE_FILE, LOG_FILE):
        if not (run.folder / name).is_file():
            raise SubmissionError(f"{run.folder / name}: expected the run's file, got none")
    content = code.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    for name, expected in (("the ledger", run.code_sha256), ("the measurement", one.code_sha256)):
        if sha256 != expected:
            raise SubmissionError(f"{code}: expected the sha256 of {name}, {expected}, got {sha256}")
    if (len(content), one.code_bytes + one.weight_bytes) != (one.code_bytes, one.artifact_bytes):
        got = f"{len(content)} + {one.weight_bytes}"
        raise SubmissionError(f"{code}: expected {one.artifact_bytes} bytes of code and weights, got {got}")
    if one.artifact_bytes > limit_bytes:
        raise SubmissionError(
            f"seed {one.seed}: expected at most {limit_bytes} artifact bytes, got {one.artifact_bytes}"
        )


def fill(folder: Path, claim: Claim, with_weights: bool) -> None:
    """Write every file of the submission.

    Raises:
        SubmissionError: the tokenizer or a weight file is missing or is not the measured one.
    """
    shutil.copyfile(claim.runs[0].folder / CODE_FILE, folder / CODE_FILE)
    for run in claim.runs:
        shutil.copyfile(run.folder / LOG_FILE, folder / f"train_seed{run.measurement.seed}.log")
        if with_weights:
            copy_weights(run, folder)
    tokenizer = copy_tokenizer(claim.origin.tokenizer_path, folder)
    code = shipped_code(folder)
    write(folder / READABLE_FILE, readable(code, claim.origin.source))
    write(folder / "requirements.txt", requirements(claim, code))
    write(folder / "submission.json", json.dumps(submission_fields(claim), indent=2) + "\n")
    write(folder / "README.md", readme(claim, tokenizer, read_manifest(claim.origin.data_path)))


def write(path: Path, text: str) -> None:
    """Write a text file with the same bytes on every system."""
    path.write_text(text, encoding="utf-8", newline="\n")


def copy_weights(run: SeedRun, folder: Path) -> None:
    """Copy a seed's weight file.

    Raises:
        SubmissionError: it is missing or is not the measured one.
    """
    path = run.folder / WEIGHT_FILE
    if not path.is_file():
        raise SubmissionError(f"{path}: expected the run's weights, got none")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    if sha256 != run.measurement.weight_sha256:
        raise SubmissionError(f"{path}: expected the measured sha256 {run.measurement.weight_sha256}, got {sha256}")
    shutil.copyfile(path, folder / f"weights_seed{run.measurement.seed}.bin")


def copy_tokenizer(path: Path, folder: Path) -> str:
    """Copy the tokenizer and return its path inside the folder. By convention it is not counted as code.

    Raises:
        SubmissionError: it is missing.
    """
    if not path.is_file():
        raise SubmissionError(f"{path}: expected the runs' tokenizer, got none")
    (folder / "tokenizers").mkdir()
    shutil.copyfile(path, folder / "tokenizers" / path.name)
    return f"tokenizers/{path.name}"


def shipped_code(folder: Path) -> str:
    """The source inside the train_gpt.py that is shipped.

    Raises:
        SubmissionError: it is not a packed file.
    """
    try:
        return unpack((folder / CODE_FILE).read_bytes())
    except BundleError as error:
        raise SubmissionError(str(error)) from error


def readable(code: str, source: str | None) -> str:
    """The readable copy: source with its comments if it is provably the same code, else the shipped code itself."""
    return source if source is not None and is_same_program(source, code) else READABLE_HEADER + code


def read_manifest(data_path: Path) -> dict[str, Any] | None:
    """dataset.json of the data; None where this host has none."""
    try:
        return json.loads((data_path / "dataset.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def refuse_invalid(folder: Path) -> None:
    """Refuse a folder that does not verify.

    Raises:
        SubmissionError: with the first finding against a rule.
    """
    refused = [finding for finding in verify(folder) if finding.severity is Severity.REFUSE]
    if refused:
        more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
        raise SubmissionError(f"{folder.name}: expected a folder that verifies, got {refused[0]}{more}")
