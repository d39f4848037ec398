"""Exports a trial as a submission folder: its runs' own files, never rebuilt, and nothing that does not verify."""

import json
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from search.bundle import unpack
from search.errors import BundleError, SubmissionError
from search.export.claim import Claim, Origin
from search.export.readme import readme
from search.export.record import check_record
from search.export.run_files import RunFiles, check_logged_recipe, checked_files, checked_weights
from search.export.shipped import (
    Shipped,
    is_challenge_tokenizer,
    logged,
    sha256_of,
    tokenizer_target,
)
from search.export.submission_json import needed_packages, requirements, submission_fields
from search.run import CODE_FILE
from search.strip import is_same_program
from search.verify.check import verify
from search.verify.finding import Severity

READABLE_FILE = "train_gpt_readable.py"
READABLE_HEADER = """\
# Readable copy. It was not executed: train_gpt.py was, and this is the code inside it.
"""
# Findings that only a reviewer must look at elsewhere, but that a record may not have.
RECORD_RULES = frozenset({"validation-split"})


def export(claim: Claim, out: Path, *, with_weights: bool = False) -> Path:
    """Write the submission folder; it appears only when it is complete and verifies.

    Args:
        out: a new folder, or an empty one.
        with_weights: also copy each seed's weight file.

    Raises:
        SubmissionError: out is not empty or cannot be written; a file of a run is missing or is not the one that was
            measured; seeds repeat; the artifact is over the cap; a rule of the record track fails that is claimed; or
            the folder would not verify.
    """
    out = out.absolute()
    if out.is_symlink() or (out.exists() and not (out.is_dir() and not any(out.iterdir()))):
        raise SubmissionError(f"{out}: expected a new or empty folder, got one that holds something")
    files = checked_claim(claim)
    check_record(claim)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as scratch:
            folder = Path(scratch) / out.name
            folder.mkdir()
            fill(folder, claim, files, with_weights)
            refuse_invalid(folder, claim.is_record)
            folder.rename(out)  # takes the place of an empty folder too
    except OSError as error:
        raise SubmissionError(f"{out}: expected a folder that can be written, got {error}") from error
    return out


def checked_claim(claim: Claim) -> dict[int, RunFiles]:
    """Code and log of each run by seed, of runs that make one submission.

    Raises:
        SubmissionError: there is no run, seeds repeat, a file is not the measured one, the code differs between runs,
            or a run is over the cap.
    """
    if not claim.runs:
        raise SubmissionError("runs: expected at least one measured run, got none")
    repeated = [seed for seed, count in Counter(run.measurement.seed for run in claim.runs).items() if count > 1]
    if repeated:
        raise SubmissionError(f"runs: expected one run a seed, got several of seed {repeated[0]}")
    files = {run.measurement.seed: checked_files(run, claim.origin.cap_bytes) for run in claim.runs}
    for run in claim.runs:
        check_logged_recipe(run, files[run.measurement.seed].log, claim.origin.recipe)
    codes = {run.code_sha256 for run in claim.runs}
    if len(codes) > 1:
        raise SubmissionError(f"runs: expected the same train_gpt.py in every run, got {len(codes)} different ones")
    return files


def fill(folder: Path, claim: Claim, files: Mapping[int, RunFiles], with_weights: bool) -> None:
    """Write every file of the submission.

    Raises:
        SubmissionError: the tokenizer or a weight file is missing or is not the measured one.
    """
    (folder / CODE_FILE).write_bytes(next(iter(files.values())).code)
    for seed, run_files in files.items():
        (folder / f"train_seed{seed}.log").write_bytes(run_files.log)
    if with_weights:
        for run in claim.runs:
            (folder / f"weights_seed{run.measurement.seed}.bin").write_bytes(checked_weights(run))
    code = shipped_code(folder)
    write(folder / READABLE_FILE, readable(code, claim.origin.source))
    shipped = add_around(folder, claim, files, code, with_weights)
    write(folder / "submission.json", json.dumps(submission_fields(claim), indent=2) + "\n")
    write(folder / "README.md", readme(claim, shipped))


def add_around(folder: Path, claim: Claim, files: Mapping[int, RunFiles], code: str, with_weights: bool) -> Shipped:
    """Write requirements.txt and the tokenizer where they are needed; say what lies there now.

    Args:
        code: the trainer's source, unpacked.
    """
    needed, tokenizer_sha256 = requirements(claim, code), logged_tokenizer(files)
    if needed:
        write(folder / "requirements.txt", needed)
    return Shipped(
        tokenizer=copy_tokenizer(claim.origin, folder, tokenizer_sha256),
        tokenizer_sha256=tokenizer_sha256,
        requirements=needed,
        needs=needed_packages(claim, code),
        logs={seed: run_files.log for seed, run_files in sorted(files.items())},
        manifest=read_manifest(claim.origin.data_path),
        has_weights=with_weights,
    )


def write(path: Path, text: str) -> None:
    """Write a text file with the same bytes on every system."""
    path.write_text(text, encoding="utf-8", newline="\n")


def logged_tokenizer(files: Mapping[int, RunFiles]) -> str:
    """The hash of the tokenizer that all runs used, by their logs; "" where they do not say.

    Raises:
        SubmissionError: they used different ones.
    """
    hashes = {logged("tokenizer_sha256", run_files.log) for run_files in files.values()}
    if len(hashes) > 1:
        raise SubmissionError(f"runs: expected one tokenizer in all logs, got {len(hashes)}: {', '.join(hashes)}")
    return hashes.pop()


def copy_tokenizer(origin: Origin, folder: Path, expected: str) -> str:
    """Copy the tokenizer, unless it is the challenge's own. By convention it is not counted as code.

    Args:
        expected: its hash by the logs; "" where they do not say.

    Returns:
        Its path inside the folder; its name alone where it is not copied.

    Raises:
        SubmissionError: it is missing or is not the one of the logs.
    """
    path = origin.tokenizer_path
    if is_challenge_tokenizer(origin):
        return path.name
    if not path.is_file():
        raise SubmissionError(f"{path}: expected the runs' tokenizer, got none")
    content, target = path.read_bytes(), folder / tokenizer_target(path)
    if expected and sha256_of(content) != expected:
        raise SubmissionError(
            f"{path}: expected the tokenizer of the logs, sha256 {expected}, got {sha256_of(content)}"
        )
    target.parent.mkdir()
    target.write_bytes(content)
    return tokenizer_target(path)


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
    """dataset.json of the data; None where this host has none that caddie data build has written."""
    try:
        values = json.loads((data_path / "dataset.json").read_text(encoding="utf-8"))
        return values if "val_docs" in values and "documents" in values["val"] else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def refuse_invalid(folder: Path, is_record: bool) -> None:
    """Refuse a folder that does not verify, or that is claimed as a record and scored other text than records do.

    Raises:
        SubmissionError: with the first finding against a rule.
    """
    refused = [
        finding
        for finding in verify(folder)
        if finding.severity is Severity.REFUSE or (is_record and finding.rule in RECORD_RULES)
    ]
    if refused:
        more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
        raise SubmissionError(f"{folder.name}: expected a folder that verifies, got {refused[0]}{more}")
