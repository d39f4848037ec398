"""What a submission.json claims, whichever of the names that the challenge's files use it is claimed under."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

# What a value is, by the keys that submission.json files give it, the plainest first.
SCORES = {
    "val_bpb": (
        *("val_bpb", "val_bpb_mean", "mean_val_bpb", "val_bpb_3seed_mean", "mean_bpb", "bpb_mean", "final_val_bpb"),
        *("val_bpb_exact", "val_bpb_sliding", "exact_val_bpb"),
    ),
    "val_loss": (
        *("val_loss", "val_loss_mean", "mean_val_loss", "val_loss_3seed_mean", "mean_loss", "final_val_loss"),
        *("val_loss_exact", "val_loss_sliding", "exact_val_loss"),
    ),
}
DEVIATIONS = {
    "val_bpb": ("val_bpb_std", "std_val_bpb", "std_bpb", "bpb_std", "val_bpb_3seed_std", "val_bpb_stdev"),
    "val_loss": ("val_loss_std", "std_val_loss", "std_loss", "loss_std", "val_loss_3seed_std", "val_loss_stdev"),
}
TOTAL_BYTES = (
    *("bytes_total", "total_bytes", "artifact_bytes", "artifact_bytes_max", "max_artifact_bytes"),
    *("artifact_size_bytes", "bytes_total_max", "total_submission_bytes", "submission_bytes", "total_size_bytes"),
)
MEAN_BYTES = ("artifact_bytes_mean", "mean_artifact_bytes", "bytes_total_mean")
CODE_BYTES = ("bytes_code", "code_bytes", "code_size_bytes")
MODEL_BYTES = re.compile(r"bytes_model(?:_\w+)?|model_bytes")
STEPS = ("steps", "step_stop", "train_steps", "steps_completed")
STEP_MS = ("step_avg_ms", "ms_per_step", "step_ms")
TRAIN_SECONDS = ("train_time_s", "train_seconds", "train_time_seconds", "training_time_seconds", "wallclock_seconds")
TRAIN_MS = ("train_time_ms", "training_time_ms")
EVAL_SECONDS = ("eval_time_s", "eval_seconds", "eval_time_seconds", "ttt_eval_time_s", "ttt_eval_time_seconds")
EVAL_MS = ("eval_time_ms", "ttt_eval_time_ms", "ttt_time_ms", "ppm_eval_time_ms")
RESULTS = ("seed_results", "per_seed_results", "per_seed", "results_per_seed", "per_seed_bpb", "results", "seeds")
SEED_BYTES = ("seed_bytes", "seed_artifact_bytes")
RUN_NAMES = ("run_name", "submission_name", "title")
INNER_BPB = re.compile(r"(?!pre|sliding|roundtrip|quant)\w*bpb", re.IGNORECASE)
NOT_A_RECORD = re.compile(r"non[-_ ]?record|unlimited[-_ ]?compute|unconstrained", re.IGNORECASE)
FOLDER_TRACK = re.compile(r"track_\w+")


@dataclass(frozen=True, slots=True)
class Claim:
    """A value of submission.json and where it stands.

    Attributes:
        key: at the top, for findings to point at.
        name: of the value itself, such as seed 42: val_bpb.
    """

    key: str
    name: str
    value: float


@dataclass(frozen=True, slots=True)
class SeedClaims:
    """What is claimed of one seed; what it does not say is missing.

    Attributes:
        values: by the plain names val_bpb, val_loss, total_bytes, steps, step_avg_ms, train_seconds, eval_seconds.
    """

    values: Mapping[str, Claim]

    def number(self, name: str) -> float | None:
        """The value alone."""
        claim = self.values.get(name)
        return None if claim is None else claim.value


@dataclass(frozen=True, slots=True)
class Claims:
    """What a submission.json claims of the numbers that its logs and files can prove.

    Attributes:
        scores: claims of the score itself, by val_bpb and val_loss; there may be several of each.
        has_seeds: whether the seeds are named, at the top or by their results.
        seeds: as named; empty if they are not.
        seed_key: where.
        results: by seed.
        more_results: what other places say of seeds.
    """

    scores: Mapping[str, Sequence[Claim]]
    deviations: Mapping[str, Sequence[Claim]]
    total_bytes: Sequence[Claim]
    mean_bytes: Sequence[Claim]
    code_bytes: Sequence[Claim]
    model_bytes: Sequence[Claim]
    whole: SeedClaims
    has_seeds: bool
    seeds: Sequence[int]
    seed_key: str
    results: Mapping[int, SeedClaims]
    more_results: Sequence[tuple[int, SeedClaims]]

    @property
    def val_bpb(self) -> Claim | None:
        """The score that is claimed before any other."""
        return next(iter(self.scores["val_bpb"]), None)


def read_claims(values: Mapping[str, Any]) -> Claims:
    """Gather what a submission.json claims."""
    inner = values.get("results")
    named = {**inner, **values} if isinstance(inner, Mapping) else values
    first, *others = [*seed_results(values), {}]
    key, seeds = claimed_seeds(values, first)
    return Claims(
        scores={name: tuple(claims_of(named, keys)) for name, keys in SCORES.items()},
        deviations={name: tuple(claims_of(named, keys)) for name, keys in DEVIATIONS.items()},
        total_bytes=tuple(claims_of(named, TOTAL_BYTES)),
        mean_bytes=tuple(claims_of(named, MEAN_BYTES)),
        code_bytes=tuple(claims_of(named, CODE_BYTES)),
        model_bytes=tuple(claims_of(named, [one for one in named if MODEL_BYTES.fullmatch(one)])),
        whole=SeedClaims(MappingProxyType(measured(named, ""))),
        has_seeds=bool(key),
        seeds=seeds,
        seed_key=key or "seeds",
        results=first,
        more_results=[pair for results in others for pair in results.items()],
    )


def is_number(value: object) -> bool:
    """Whether a JSON value is a number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def claims_of(values: Mapping[str, Any], keys: Sequence[str]) -> Iterator[Claim]:
    """Those of the keys that hold a number."""
    for key in keys:
        if is_number(values.get(key)):
            yield Claim(key, key, values[key])


def measured(values: Mapping[str, Any], prefix: str, key: str | None = None) -> dict[str, Claim]:
    """What is said of steps and seconds, under plain names.

    Args:
        prefix: of the names shown.
        key: at the top of submission.json; None takes each value's own.
    """
    found: dict[str, Claim] = {}
    for name, keys, factor in (
        ("steps", STEPS, 1),
        ("step_avg_ms", STEP_MS, 1),
        ("train_seconds", TRAIN_SECONDS, 1),
        ("train_seconds", TRAIN_MS, 1000),
        ("eval_seconds", EVAL_SECONDS, 1),
        ("eval_seconds", EVAL_MS, 1000),
    ):
        for claim in claims_of(values, keys):
            value = claim.value if factor == 1 else claim.value / factor
            found.setdefault(name, Claim(key or claim.key, f"{prefix}{claim.name}", value))
    return found


def seed_results(values: Mapping[str, Any]) -> Iterator[dict[int, SeedClaims]]:
    """What is claimed of each seed, from every place that says so."""
    inner = values.get("results")
    places = [(key, values.get(key)) for key in RESULTS]
    if isinstance(inner, Mapping):
        places += [("results", inner.get(key)) for key in ("seeds", "seed_results", "per_seed")]
    bytes_of = next((values[name] for name in SEED_BYTES if isinstance(values.get(name), Mapping)), {})
    for key, place in places:
        if by_seed := dict(entries_by_seed(place)):
            yield {seed: seed_claims(key, seed, one, bytes_of.get(str(seed))) for seed, one in by_seed.items()}


def entries_by_seed(place: object) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """A seed's result of a mapping from seeds, or of a list of results that name theirs."""
    if isinstance(place, Mapping):
        for key, value in place.items():
            if (seed := seed_of(key)) is not None:
                yield seed, value if isinstance(value, Mapping) else {"val_bpb": value}
    elif isinstance(place, list):
        for value in place:
            if isinstance(value, Mapping) and (seed := seed_of(value.get("seed"))) is not None:
                yield seed, value


def seed_of(value: object) -> int | None:
    """A seed, written as a number or as its digits, such as 42 or seed_42."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = re.fullmatch(r"(?:seed[-_ ]?)?(\d{1,18})", value) if isinstance(value, str) else None
    return int(match[1]) if match else None


def seed_claims(key: str, seed: int, entry: Mapping[str, Any], artifact_bytes: object) -> SeedClaims:
    """One seed's result under plain names."""
    prefix = f"seed {seed}: "
    found = measured(entry, prefix, key)
    for name, keys in (("val_bpb", SCORES["val_bpb"]), ("val_loss", SCORES["val_loss"]), ("total_bytes", TOTAL_BYTES)):
        for claim in claims_of(entry, keys):
            found.setdefault(name, Claim(key, f"{prefix}{claim.name}", claim.value))
    if "val_bpb" not in found:
        for claim in claims_of(entry, [one for one in entry if INNER_BPB.fullmatch(one)]):
            found.setdefault("val_bpb", Claim(key, f"{prefix}{claim.name}", claim.value))
    if isinstance(artifact_bytes, int) and not isinstance(artifact_bytes, bool):
        found.setdefault("total_bytes", Claim(key, f"{prefix}bytes", artifact_bytes))
    return SeedClaims(MappingProxyType(found))


def claimed_seeds(values: Mapping[str, Any], results: Mapping[int, SeedClaims]) -> tuple[str, Sequence[int]]:
    """The key that names the seeds, empty if none does, and the seeds."""
    listed = values.get("seeds")
    if isinstance(listed, list | dict):
        return "seeds", [seed for one in listed if (seed := seed_of(one)) is not None]
    if results:
        return next(key for key in RESULTS if key in values), list(results)
    if (seed := seed_of(values.get("seed"))) is not None:
        return "seed", [seed]
    return "", []


def is_record_track(values: Mapping[str, Any], place: Sequence[str], words: str) -> bool:
    """Whether a submission stands in the track with limits of time: by what it says, else by where it lies.

    Args:
        place: names of the folders above it, nearest first.
        words: what else it says of itself, read only where nothing names a track.
    """
    for name in [values.get("track"), values.get("submission_kind"), *filter(FOLDER_TRACK.fullmatch, place)]:
        if isinstance(name, str) and name.strip():
            return not NOT_A_RECORD.search(name)
    return not NOT_A_RECORD.search(words)
