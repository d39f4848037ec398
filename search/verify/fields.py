"""Fields of a submission.json: those that must be there, and the types of all that a check reads."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from search.verify.claims import (
    CODE_BYTES,
    DEVIATIONS,
    MEAN_BYTES,
    RUN_NAMES,
    SCORES,
    TOTAL_BYTES,
    entries_by_seed,
    is_number,
    read_claims,
    seed_of,
)
from search.verify.finding import Finding, Severity

REFUSE, REVIEW, NOTE = Severity.REFUSE, Severity.REVIEW, Severity.NOTE
JSON_FILE = "submission.json"
TEXTS = ("author", "github_id", "name", "date")
NULL = type(None)
# Read by a check, so that a value of another type would go unchecked.
CHECKED: tuple[tuple[tuple[str, ...], tuple[type, ...]], ...] = (
    (("track",), (str,)),
    (
        tuple(key for keys in (*SCORES.values(), *DEVIATIONS.values()) for key in keys if key != "val_bpb"),
        (float, NULL),
    ),
    ((*TOTAL_BYTES, *CODE_BYTES), (int, NULL)),
    (MEAN_BYTES, (float, NULL)),
    (("seeds",), (list, dict)),
    (("seed_results", "per_seed_results", "per_seed"), (dict, list)),
    (("compliance",), (dict, list, str)),
)
# For readers.
DESCRIPTIVE: tuple[tuple[tuple[str, ...], tuple[type, ...]], ...] = (
    (("blurb", "pytorch_version", "cuda_version"), (str, NULL)),
    (("hardware", "technique_summary"), (str, list, dict, NULL)),
    (("base_pr",), (int, NULL)),
)
# Of a seed's result.
MEASURED = frozenset(
    {"val_bpb", "val_loss", "artifact_bytes", "bytes_total", "steps", "step_avg_ms", "train_time_s", "eval_time_s"}
)
DATE = re.compile(r"\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])(?:[T ]\d{2}:\d{2}.{0,30})?")
TYPE_NAMES = {str: "text", float: "a number", int: "a whole number", list: "a list", dict: "an object", NULL: "null"}


def field_findings(values: Mapping[str, Any], lines: Mapping[str, int]) -> Iterator[Finding]:
    """Required fields are there, and all known ones have their type."""
    for key, severity, message in wrong_fields(values):
        yield Finding("json", severity, JSON_FILE, lines.get(key), f"{key}: {message}")


def wrong_fields(values: Mapping[str, Any]) -> Iterator[tuple[str, Severity, str]]:
    """Key, severity and message of each field that is not as it must be."""
    yield from wrong_texts(values)
    yield from wrong_numbers(values)
    for severity, table in ((REFUSE, CHECKED), (REVIEW, DESCRIPTIVE)):
        for keys, types in table:
            for key in keys:
                if key in values and not has_type(values[key], types):
                    expected = " or ".join(TYPE_NAMES[one] for one in types)
                    yield key, severity, f"expected {expected}, got {values[key]!r}"
    yield from wrong_seeds(values)
    yield from wrong_results(values)


def has_type(value: object, types: tuple[type, ...]) -> bool:
    """Whether a JSON value has one of the types; a whole number is a number, true and false are none."""
    return not isinstance(value, bool) and (isinstance(value, types) or (float in types and isinstance(value, int)))


def wrong_texts(values: Mapping[str, Any]) -> Iterator[tuple[str, Severity, str]]:
    """Author, name and date are there and are texts."""
    for key in TEXTS:
        if key in values:
            if not isinstance(values[key], str):
                yield key, REFUSE, f"expected text, got {values[key]!r}"
            elif not values[key].strip():
                yield key, REFUSE, "expected some text, got none"
        elif other := next((name for name in RUN_NAMES if key == "name" and isinstance(values.get(name), str)), None):
            yield key, REVIEW, f"expected text, got it under {other}"
        else:
            yield key, REFUSE, "expected text, got no such field"
    date = values.get("date")
    if isinstance(date, str) and date.strip() and not DATE.fullmatch(date):
        yield "date", REFUSE, f"expected YYYY-MM-DD, got {date!r}"


def wrong_numbers(values: Mapping[str, Any]) -> Iterator[tuple[str, Severity, str]]:
    """Score and bytes are there, under their own names or one of the others."""
    claims = read_claims(values)
    if "val_bpb" in values and not is_number(values["val_bpb"]):
        yield "val_bpb", REFUSE, f"expected a number, got {values['val_bpb']!r}"
    elif claims.val_bpb is None:
        yield "val_bpb", REFUSE, "expected a number, got no such field"
    elif claims.val_bpb.key != "val_bpb":
        yield "val_bpb", REVIEW, f"expected a number, got it under {claims.val_bpb.key}"
    if "bytes_total" not in values:
        others = [claim.key for claim in (*claims.total_bytes, *claims.mean_bytes)]
        others += [
            result.values["total_bytes"].key for result in claims.results.values() if "total_bytes" in result.values
        ]
        severity = NOTE if others else REFUSE
        got = f"it under {others[0]}" if others else "no such field"
        yield "bytes_total", severity, f"expected a whole number, got {got}"


def wrong_seeds(values: Mapping[str, Any]) -> Iterator[tuple[str, Severity, str]]:
    """A list of seeds holds whole numbers."""
    seeds = values.get("seeds")
    if isinstance(seeds, list) and not all(isinstance(seed, int) and not isinstance(seed, bool) for seed in seeds):
        is_readable = all(seed_of(seed) is not None for seed in seeds)
        yield "seeds", REVIEW if is_readable else REFUSE, f"expected a list of whole numbers, got {seeds!r}"


def wrong_results(values: Mapping[str, Any]) -> Iterator[tuple[str, Severity, str]]:
    """Each seed's result holds numbers, a score among them."""
    for key in ("seed_results", "per_seed_results", "seeds"):
        place = values.get(key)
        if isinstance(place, dict):
            yield from ((key, REFUSE, message) for message in wrong_entries(place))
        elif isinstance(place, list) and key != "seeds" and len(dict(entries_by_seed(place))) != len(place):
            yield key, REFUSE, f"expected objects that name their seed, each another, got {place!r}"
    claims = read_claims(values)
    for seed, result in claims.results.items():
        if "val_bpb" not in result.values:
            yield "seed_results", REFUSE, f"seed {seed}: val_bpb: expected a number, got no such field"


def wrong_entries(place: Mapping[str, Any]) -> Iterator[str]:
    """What is no result of a seed, and what in one is no number."""
    for seed, entry in place.items():
        if seed_of(seed) is None:
            continue  # a mean among them
        if not isinstance(entry, dict):
            if not is_number(entry):
                yield f"seed {seed}: expected an object, got {entry!r}"
            continue
        for name, value in entry.items():
            if name in MEASURED and not is_number(value):
                yield f"seed {seed}: {name}: expected a number, got {value!r}"
