"""The files of a measured run, taken only if they are those that ran, by the hashes that the store has of them."""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

from search.errors import SubmissionError
from search.export.claim import SeedRun
from search.run import CODE_FILE, LOG_FILE, WEIGHT_FILE
from spaces.fields import SpaceError, flat, recipe_from_dict, recipe_to_dict
from trainer.config import Recipe
from trainer.errors import ConfigError

LOGGED_RECIPE = re.compile(rb"^recipe:(\{.*\})\s*$", re.M)


@dataclass(frozen=True, slots=True)
class RunFiles:
    """What a submission takes from a run's folder, read once: what was checked is what is written."""

    code: bytes
    log: bytes


def checked_files(run: SeedRun, cap_bytes: int) -> RunFiles:
    """A run's code and log.

    The ledger has the code's hash from before the run started, the measurement from the run itself; the log's was taken
    as the run ended. Of older runs the log has no hash: it must still agree with the measurement, which verify checks.

    Raises:
        SubmissionError: a file is missing, a hash or a size differs, or the artifact is over the cap.
    """
    code, log = (read(run.folder / name) for name in (CODE_FILE, LOG_FILE))
    one, code_path = run.measurement, run.folder / CODE_FILE
    require_hash(code_path, code, run.code_sha256, "the ledger")
    require_hash(code_path, code, one.code_sha256, "the measurement")
    if run.log_sha256:
        require_hash(run.folder / LOG_FILE, log, run.log_sha256, "the ledger")
    if (len(code), one.code_bytes + one.weight_bytes) != (one.code_bytes, one.artifact_bytes):
        got = f"{len(code)} + {one.weight_bytes}"
        raise SubmissionError(f"{code_path}: expected {one.artifact_bytes} bytes of code and weights, got {got}")
    if one.artifact_bytes > cap_bytes:
        raise SubmissionError(
            f"seed {one.seed}: expected at most {cap_bytes} artifact bytes, got {one.artifact_bytes},"
            f" {one.artifact_bytes - cap_bytes} over"
        )
    return RunFiles(code, log)


def checked_weights(run: SeedRun) -> bytes:
    """A run's weight file.

    Raises:
        SubmissionError: it is missing or is not the measured one.
    """
    path = run.folder / WEIGHT_FILE
    if not path.is_file():
        raise SubmissionError(f"{path}: expected the run's weights, got none")
    weights = path.read_bytes()
    sha256 = hashlib.sha256(weights).hexdigest()
    if sha256 != run.measurement.weight_sha256:
        raise SubmissionError(f"{path}: expected the measured sha256 {run.measurement.weight_sha256}, got {sha256}")
    return weights


def check_logged_recipe(run: SeedRun, log: bytes, recipe: Recipe) -> None:
    """Refuse to describe a run by another recipe than the one its log says it trained.

    A log without a recipe, or with fields that this version does not know, says nothing.

    Raises:
        SubmissionError: a setting differs.
    """
    match = LOGGED_RECIPE.search(log)
    try:
        logged = None if match is None else flat(recipe_to_dict(recipe_from_dict(json.loads(match[1]))))
    except (ValueError, SpaceError, ConfigError):
        return
    told = flat(recipe_to_dict(recipe))
    if logged is not None and logged != told:
        path = next(path for path in [*logged, *told] if logged.get(path) != told.get(path))
        raise SubmissionError(
            f"{run.folder / LOG_FILE}: recipe: {path}: expected {told.get(path)!r}, as the trial has it,"
            f" got {logged.get(path)!r}"
        )


def read(path: Path) -> bytes:
    """A file of a run.

    Raises:
        SubmissionError: it is missing or cannot be read.
    """
    if not path.is_file():
        raise SubmissionError(f"{path}: expected the run's file, got none")
    try:
        return path.read_bytes()
    except OSError as error:
        raise SubmissionError(f"{path}: expected a file that can be read, got {error.strerror}") from error


def require_hash(path: Path, content: bytes, expected: str, whose: str) -> None:
    """Refuse a file that is not the one that was hashed.

    Raises:
        SubmissionError: it is another.
    """
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != expected:
        raise SubmissionError(f"{path}: expected the sha256 of {whose}, {expected}, got {sha256}")
