"""Which cheap runs rank recipes as a study's last rung does: a study of its own that runs some recipes in each way.

Its recipes are the study's base, its queue and random points of its space; its rungs are what the study's calibrate
section names, or shares of the last rung's budget, and the study's own earlier rungs. Nothing is searched, no size
refused and no run stopped early.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from search.errors import SpecError
from search.spec import StudySpec
from search.spec_parts import MOST_LETTERS
from search.spec_rungs import BudgetSpec, FidelitySpec
from trainer.config import Budget

SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2)
SUFFIX = "-calibration"
ANY_SIZE = 10**12


def calibration_spec(spec: StudySpec, num_recipes: int, shares: Sequence[float] | None = None) -> StudySpec:
    """The study that calibrates another one's proxies; the same arguments give the same study, which goes on.

    Args:
        num_recipes: that run in every way.
        shares: of the last rung's seconds or tokens; None takes SHARES, and none where the study names candidates.

    Raises:
        SpecError: there is nothing to compare the last rung with.
    """
    given_shares = shares if shares is not None else () if spec.calibrate else SHARES
    candidates, last = candidates_of(spec, given_shares), spec.rungs[-1]
    if not candidates:
        raise SpecError(f"calibrate: shares must leave a budget below {last.name}'s, got {_words(given_shares)}")
    ways = [*candidates, last]
    rungs = zip(ways, _names(ways), strict=True)
    given: dict[str, Any] = spec.model_dump(mode="json", exclude_unset=True, exclude={"calibrate"})
    values = given | {
        "name": spec.name[: MOST_LETTERS - len(SUFFIX)] + SUFFIX,
        "objectives": ["val_bpb"],
        "space": {name: part for name, part in given["space"].items() if name != "solve"},
        "limits": _limits(spec, ways),
        "rungs": [_rung(spec, way, name, num_recipes, is_first=way is ways[0]) for way, name in rungs],
        "sampler": {"kind": "random", "seed": spec.sampler.seed or 0},
        "promotion": {"rule": "top", "stop_behind": None},
        "early_stop": None,
    }
    try:
        return StudySpec.model_validate(values)
    except ValidationError as error:
        raise SpecError(f"calibrate: expected a study that runs at every share, got {error}") from error


def candidates_of(spec: StudySpec, shares: Sequence[float]) -> list[FidelitySpec]:
    """What may rank as the last rung does, each once, in the order of cost as far as budgets tell it."""
    last, named = spec.rungs[-1], spec.calibrate.candidates if spec.calibrate else []
    scaled = [_scaled(last, share) for share in shares if 0 < share < 1]
    found: list[FidelitySpec] = []
    for one in (*spec.rungs[:-1], *named, *scaled):
        if not any(one.is_like(other) for other in (*found, last)):
            found.append(one)
    return sorted(found, key=lambda one: (_cost(one.to_budget(), last.to_budget()), _identity(one)))


def _scaled(last: FidelitySpec, share: float) -> FidelitySpec:
    tokens, seconds = last.budget.train_tokens, last.budget.train_seconds
    budget = BudgetSpec(
        train_tokens=None if tokens is None else max(round(tokens * share), 1),
        train_seconds=None if seconds is None else seconds * share,
        world_size=last.budget.world_size,
        eval_tokens=last.budget.eval_tokens,
    )
    return FidelitySpec(budget=budget, accelerator=last.accelerator)


def _cost(budget: Budget, last: Budget) -> float:
    """GPU-seconds, or tokens where the last rung counts those; a budget of the other kind comes after."""
    amount = budget.train_tokens if last.train_tokens is not None else budget.train_seconds
    return float("inf") if amount is None else amount * (1 if last.train_tokens is not None else budget.world_size)


def _identity(one: FidelitySpec) -> str:
    """A text that only runs of the same kind share."""
    return f"{one.to_budget()} {json.dumps(one.set, sort_keys=True)} {one.tokens_by_speed} {one.accelerator}"


def _limits(spec: StudySpec, ways: Sequence[FidelitySpec]) -> Mapping[str, float]:
    longest = max((way.budget.train_seconds or 0.0 for way in ways), default=0.0)
    return {
        "artifact_bytes": ANY_SIZE,
        "train_seconds": max(spec.limits.train_seconds, longest),
        "eval_seconds": spec.limits.eval_seconds,
    }


def _rung(spec: StudySpec, way: FidelitySpec, name: str, num_recipes: int, is_first: bool) -> Mapping[str, Any]:
    return {
        "name": name,
        "budget": way.budget.model_dump(exclude_none=True),
        "trials" if is_first else "promote": num_recipes,
        "seeds": spec.rungs[-1].seeds[:1],
        "accelerator": way.accelerator,
        **way.model_dump(include={"set", "tokens_by_speed"}, exclude_defaults=True),
    }


def _names(ways: Sequence[FidelitySpec]) -> list[str]:
    """A rung name for each: its budget and what it sets; its accelerator too, and a hash, where others share those."""
    names = [_name(way) for way in ways]
    shared = Counter(names)
    names = [
        _clean(f"{name}-{way.accelerator or 'any'}") if shared[name] > 1 else name
        for name, way in zip(names, ways, strict=True)
    ]
    shared = Counter(names)
    return [
        name if shared[name] == 1 and len(name) <= MOST_LETTERS else f"{name[: MOST_LETTERS - 9]}-{_hash(way)}"
        for name, way in zip(names, ways, strict=True)
    ]


def _name(way: FidelitySpec) -> str:
    budget = way.budget
    parts = [f"{budget.train_tokens}-tokens" if budget.train_tokens else f"{budget.train_seconds:g}-seconds"]
    parts += [f"{budget.world_size}-gpus"] if budget.world_size > 1 else []
    parts += [f"eval-{budget.eval_tokens}"] if budget.eval_tokens is not None else []
    parts += ["by-speed"] if way.tokens_by_speed else []
    parts += [f"{path.rpartition('.')[2]}-{value}" for path, value in sorted(way.set.items())]
    return _clean("-".join(parts))


def _clean(name: str) -> str:
    return re.sub(r"[^a-z0-9_-]", "_", name.lower())


def _hash(way: FidelitySpec) -> str:
    return hashlib.sha256(_identity(way).encode()).hexdigest()[:8]


def _words(shares: Sequence[float]) -> str:
    return ", ".join(map(str, shares))
