"""Changes to the submission.json of a valid folder, each with the reason if it makes nothing untrue."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

Draw = Callable[[st.SearchStrategy[Any]], Any]
# Why a changed folder may be valid; None where it must be refused.
Reason = str | None

DESCRIPTIVE = {"author", "github_id", "name"}  # who and what: any text may be true
UNCLAIMED = "what is not claimed need not be true"
ROUNDED = "it is the true number rounded to the digits it shows"
LONGER = "a run may claim that it took longer, within the limits"
VALUES = st.sampled_from([None, True, "text", "", [], {}, -1, 0, 3, 10**9, 3.5, [1], {"a": 1}, "2026-13-01"])


def change_json(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Edit submission.json."""
    path = folder / "submission.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values, indent=2))


def decimals(value: float) -> int:
    """How many a number shows in JSON; no fewer than a score must."""
    return max(3, len(str(value).partition(".")[2])) if "e" not in str(value) else 20


def drop_field(folder: Path, draw: Draw) -> Reason:
    """Leave a field out; author, date and score must be there."""
    values = json.loads((folder / "submission.json").read_text())
    key = draw(st.sampled_from(sorted(values)))
    change_json(folder, lambda one: one.pop(key))
    return None if key in {*DESCRIPTIVE, "date", "val_bpb"} else UNCLAIMED


def replace_field(folder: Path, draw: Draw) -> Reason:
    """Give a field a value of any type."""
    values = json.loads((folder / "submission.json").read_text())
    key, value = draw(st.sampled_from(sorted(values))), draw(VALUES)
    change_json(folder, lambda one: one.update({key: value}))
    if key in {*DESCRIPTIVE, "track"} and isinstance(value, str) and value:
        return "any text may be true; an unknown track has the limits of the record track"
    if key == "track" and value == "":
        return "an empty track names none: the limits of the record track hold"
    if value is None and key in {"val_loss", "val_bpb_std", "bytes_total", "bytes_code"}:
        return UNCLAIMED
    if key == "seed_results" and value in ([], {}):
        return None
    if key == "compliance":
        return "a list of compliance without a known promise promises nothing" if value not in OTHER_TYPES else None
    return None


OTHER_TYPES: list[Any] = [None, True, -1, 0, 3, 10**9, 3.5]


def numbers_of(values: dict[str, Any]) -> list[tuple[str, ...]]:
    """Where submission.json holds numbers: key, or key, seed and inner key."""
    found: list[tuple[str, ...]] = [(key,) for key, one in values.items() if isinstance(one, int | float)]
    for seed, entry in values["seed_results"].items():
        found += [("seed_results", seed, key) for key in entry]
    return found


def change_number(folder: Path, draw: Draw) -> Reason:
    """Make a number of submission.json another."""
    values = json.loads((folder / "submission.json").read_text())
    *path, key = draw(st.sampled_from(numbers_of(values)))
    place = values
    for step in path:
        place = place[step]
    old = place[key]
    new = altered(old, draw)
    place[key] = new
    (folder / "submission.json").write_text(json.dumps(values, indent=2))
    return number_reason(values, tuple(path), key, old, new)


def altered(old: float, draw: Draw) -> float:
    """Another number: off by a little or a lot, or with a digit swapped."""
    kind = draw(st.sampled_from(["digit", "scale", "add", "round"]))
    if kind == "digit":
        text = str(old)
        places = [index for index, letter in enumerate(text) if letter.isdigit()]
        index = draw(st.sampled_from(places))
        text = text[:index] + str((int(text[index]) + draw(st.integers(1, 9))) % 10) + text[index + 1 :]
        return json.loads(text.lstrip("0") if text.lstrip("0")[:1].isdigit() else "0" + text.lstrip("0"))
    if kind == "round":
        return round(old, draw(st.integers(0, 7)))
    change = draw(st.sampled_from([1e-7, 1e-5, 1e-3, 0.01, 0.5, 3.0]))
    new = old * (1 + change) if kind == "scale" else old - change
    return round(new) if isinstance(old, int) else new


def number_reason(values: dict[str, Any], path: tuple[str, ...], key: str, old: float, new: float) -> Reason:
    """Why a changed number may pass."""
    if new == old:
        return "it is the same number"
    if key in {"val_bpb", "val_loss"}:
        # A mean of rounded scores may be off by one in its last place.
        places = 1.0 if not path else 0.5
        return ROUNDED if abs(new - old) <= places * 10.0 ** -decimals(new) + 1.1e-8 * places else None
    if key == "val_bpb_std":
        is_near = abs(new - old) <= 0.06 * old and decimals(new) <= 6
        is_rounded = abs(new - old) <= min(0.51 * 10.0 ** -decimals(new), 1e-4) + 1.1e-8
        return "rounded by hand: a reviewer is told" if is_near or is_rounded else None
    if key in {"train_time_s", "eval_time_s"}:
        spare = max(10.0 ** -len(str(new).partition(".")[2]), 0.001)
        return LONGER if old - spare * 1.01 <= new <= (600.15 if key == "train_time_s" else 600.0) else None
    if key == "step_avg_ms":
        return "about as long as the log says; no rule judges it" if abs(new / old - 1) <= 0.06 else None
    if key == "bytes_total":
        totals = [one["artifact_bytes"] for one in values["seed_results"].values()]
        weights = [total - values["bytes_code"] for total in totals]
        is_other = new in {*totals, *weights} or abs(new - sum(totals) / len(totals)) < 1
        return "bytes of another seed or their mean: a reviewer is told" if is_other else None
    return None


def drop_seed(folder: Path, draw: Draw) -> Reason:
    """Claim a seed less, or one twice, or one that never ran."""
    kind = draw(st.sampled_from(["drop", "twice", "other"]))
    seeds = json.loads((folder / "submission.json").read_text())["seeds"]
    index = draw(st.integers(0, len(seeds) - 1))
    changes = {"drop": seeds[:index] + seeds[index + 1 :], "twice": [*seeds, seeds[index]], "other": [*seeds, 99_991]}
    change_json(folder, lambda one: one.update(seeds=changes[kind]))
    return None


def change_results(folder: Path, draw: Draw) -> Reason:
    """Drop a seed's result, or give two seeds each other's."""
    values = json.loads((folder / "submission.json").read_text())
    first, second = draw(st.permutations(sorted(values["seed_results"])))[:2]
    results = values["seed_results"]
    if draw(st.booleans()):
        del results[first]
    else:
        results[first], results[second] = results[second], results[first]
    (folder / "submission.json").write_text(json.dumps(values, indent=2))
    return None


def permute(folder: Path, draw: Draw) -> Reason:
    """Another order of keys and seeds."""
    values = json.loads((folder / "submission.json").read_text())
    values["seeds"] = draw(st.permutations(values["seeds"]))
    values = {key: values[key] for key in draw(st.permutations(sorted(values)))}
    (folder / "submission.json").write_text(json.dumps(values))
    return "an order says nothing"


def break_json(folder: Path, draw: Draw) -> Reason:
    """Cut submission.json off, or write what JSON does not have."""
    path = folder / "submission.json"
    text = path.read_text()
    kind = draw(st.sampled_from(["cut", "nan", "twice"]))
    if kind == "cut":
        text = text[: draw(st.integers(0, len(text) - 2))]
    elif kind == "nan":
        text = re.sub(r'("val_bpb": )[\d.]+', r"\1NaN", text, count=1)
    else:
        text = text.replace("{", '{"val_bpb": 1.0,', 1)
    path.write_text(text)
    return None
