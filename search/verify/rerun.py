"""Runs a submission again and compares what it measures with what its logs say. Happens only on request."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from search.errors import SubmissionError
from search.export.claim import TRACK_ARTIFACT_BYTES
from search.run import CODE_FILE, Run
from search.verify.execute import TOKENIZERS, Again, Failed, data_root, environment_of, execute
from search.verify.files import Submission
from search.verify.finding import Finding, Severity, shown
from search.verify.folder import matching, read_text
from search.verify.log import ChallengeLog, read_log

DATASET_NAME = re.compile(r"\w[\w.-]*")
GPU_TOLERANCE = (
    0.005  # a seed again on GPUs: 0.001 and less in full runs, 0.003 in runs of a minute, whose steps differ
)
REFUSE, REVIEW, NOTE = Severity.REFUSE, Severity.REVIEW, Severity.NOTE


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
            in tokens gives; on GPUs, and with a budget in seconds, two runs differ. None takes 0 for what was measured
            on a CPU, else GPU_TOLERANCE. What is better by more, as on a faster machine, is for a reviewer.
        deadline_seconds: killed when it runs longer.
        inherited: variables of this process, of which it gets the harmless ones.
        settings: more variables of the environment, as a README's command may set them.
        is_unsafe_allowed: where this host cannot isolate it, it runs with this user's rights and network.
        announce: hears of each run as it starts.
    """

    data_path: Path
    inherited: Mapping[str, str]
    tokenizer_path: Path | None = None
    seeds: Sequence[int] | None = None
    num_gpus: int = 0
    world_size: int | None = None
    tolerance: float | None = None
    deadline_seconds: float = 3600.0
    settings: Mapping[str, str] = field(default_factory=dict[str, str])
    is_unsafe_allowed: bool = False
    announce: Callable[[str], None] = lambda _line: None

    def tolerance_of(self, log: ChallengeLog) -> float:
        """How far from a log's val_bpb another run may end."""
        if self.tolerance is not None:
            return self.tolerance
        return 0.0 if log.text("device") == "cpu" else GPU_TOLERANCE


def logged_dataset(folder: Path) -> str:
    """The name of the folder of shards that a submission's runs used, as its logs have it.

    Raises:
        SubmissionError: no log names one, or one gives a path: what a run may read is not for its author to say.
    """
    for path in matching(folder, "train*.log"):
        if name := read_log(read_text(path)).text("dataset"):
            if DATASET_NAME.fullmatch(name):
                return name
            raise SubmissionError(f"{path}: expected the plain name of a dataset, got {shown(name)}; --data names one")
    raise SubmissionError(f"{folder}: expected a log that names its dataset, got none; --data names the shards' folder")


def shards_of(folder: Path) -> Path:
    """Where the shards of a submission's runs would lie here: data/NAME, or data/datasets/NAME as the challenge has it.

    Raises:
        SubmissionError: no log names them.
    """
    name = logged_dataset(folder)
    return next(
        (path for path in (Path("data", name), Path("data/datasets", name)) if path.is_dir()), Path("data", name)
    )


def rerun_findings(submission: Submission, rerun: Rerun) -> list[Finding]:
    """Execute the folder's train_gpt.py for each seed asked for, in a folder of its own, and compare.

    Raises:
        SubmissionError: there are no shards, no tokenizer, or no log of a seed; or this host cannot isolate a run.
    """
    if not rerun.data_path.is_dir():
        raise SubmissionError(f"{rerun.data_path}: expected a folder of shards, got none; --data names one")
    names = submission.log_of_seed
    if not names:
        raise SubmissionError(f"{submission.folder}: expected a log of a seed to run again, got none")
    found: list[Finding] = []
    for seed in rerun.seeds if rerun.seeds is not None else sorted(names)[:1]:
        if seed not in names:
            raise SubmissionError(f"seeds: expected one of {sorted(names)}, got {seed}")
        log = submission.logs[names[seed]]
        if log.text("val_bpb") is None:
            continue  # refused for that already; there is nothing to compare with
        tokenizer = tokenizer_of(submission.folder, rerun)
        run = run_of(submission.folder, seed, rerun, log, tokenizer)
        outcome = execute(
            submission.folder,
            run,
            readable_paths(rerun, tokenizer),
            rerun.inherited,
            is_unsafe_allowed=rerun.is_unsafe_allowed,
            announce=rerun.announce,
        )
        found += outcome.ended.findings()
        shipped = (submission.folder / CODE_FILE).stat().st_size
        found += compare(names[seed], log, outcome, shipped, rerun.tolerance_of(log))
    return found


def readable_paths(rerun: Rerun, tokenizer: Path) -> tuple[Path, ...]:
    """What of this host a run may read."""
    data_path = rerun.data_path.resolve()
    beside = data_root(data_path)
    return (data_path, tokenizer.absolute(), *([] if beside is None else [beside / TOKENIZERS]))


def run_of(work: Path, seed: int, rerun: Rerun, log: ChallengeLog, tokenizer: Path) -> Run:
    """The run as a study would start it, on no more GPUs than there are."""
    num_gpus = 0 if log.text("device") == "cpu" else rerun.num_gpus
    world_size = rerun.world_size or log.integer("world_size") or 1
    return Run(
        run_id=f"rerun-seed{seed}",
        folder=work,
        world_size=min(world_size, num_gpus) if num_gpus else world_size,
        num_gpus=num_gpus,
        accelerator=None,
        environment=environment_of(rerun.data_path.resolve(), tokenizer.absolute(), seed, rerun.settings),
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
        raise SubmissionError(
            f"{folder / 'tokenizers'}: expected one tokenizer, got {len(found)}; --tokenizer names one"
        )
    return found[0]


def compare(name: str, log: ChallengeLog, outcome: Again | Failed, shipped: int, tolerance: float) -> Iterator[Finding]:
    """Whether a run measured what the log says.

    Args:
        shipped: bytes of train_gpt.py.
    """
    if isinstance(outcome, Failed):
        yield Finding("rerun", REFUSE, name, None, f"expected a measurement again, got {outcome.reason}")
        return
    logged = log.text("val_bpb") or ""
    digits = len(logged.partition(".")[2])
    is_equal = f"{float(outcome.val_bpb):.{digits}f}" == logged
    difference = float(outcome.val_bpb) - float(logged)
    steps = f"{outcome.steps or 'unknown'} steps, {log.text('steps') or 'unknown'} in the log"
    if not (is_equal or abs(difference) <= tolerance):
        # More steps in the same time score better, and then the claim is no more than it should be.
        severity = REVIEW if difference < 0 < tolerance else REFUSE
        message = f"expected val_bpb {logged} again, got {outcome.val_bpb} ({steps})"
        yield Finding("rerun", severity, name, log.line("val_bpb"), message)
    yield from compare_bytes(name, log, outcome, shipped, tolerance)
    same = "the same digits" if is_equal else f"off by {difference:+.8f}"
    artifact = "unknown" if outcome.weight_bytes is None else str(shipped + outcome.weight_bytes)
    how = f"ran again in {outcome.ended.seconds:.0f} s, {outcome.ended.isolation}"
    message = f"{how}: val_bpb {outcome.val_bpb} ({same}), {steps}, {artifact} artifact bytes"
    yield Finding("rerun", NOTE, name, None, message)


def compare_bytes(name: str, log: ChallengeLog, again: Again, shipped: int, tolerance: float) -> Iterator[Finding]:
    """Whether a run wrote as many bytes as the log says, and no more than the challenge allows."""
    if again.weight_bytes is None or not again.has_weights:
        size = "the weights" if again.weight_bytes is None else f"the {again.weight_bytes} bytes of weights it names"
        yield Finding("rerun", REVIEW, name, None, f"expected a file of {size}, got none")
    if again.weight_bytes is None:
        return
    total, logged = shipped + again.weight_bytes, log.integer("total_bytes")
    if tolerance == 0 and logged is not None and total != logged:
        message = f"expected {logged} artifact bytes again, got {total}"
        yield Finding("rerun", REFUSE, name, log.line("total_bytes"), message)
    if total > TRACK_ARTIFACT_BYTES:
        message = f"expected at most {TRACK_ARTIFACT_BYTES} artifact bytes, got {total}"
        yield Finding("rerun", REFUSE, name, None, message)
