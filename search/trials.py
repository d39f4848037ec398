"""Trials as read back from the store: plain rows that status tables, promotion and the loop go by."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any

from spaces.fields import recipe_from_dict, set_values
from trainer.config import Recipe
from trainer.result import FailureKind

RUN_SET = "run_set"  # attribute of a trial whose rung sets fields: those, as JSON
NOTHING_SET = "{}"
RUN_TOKENS = "run_tokens"  # attribute of a trial whose rung gives tokens by speed: its run's


class TrialStatus(StrEnum):
    """Where a trial stands, in our words."""

    QUEUED = "queued"
    RUNNING = "running"
    FEASIBLE = "feasible"
    INFEASIBLE = "infeasible"  # measured, over a limit
    FAILED = "failed"  # the recipe's doing; never repeated
    STOPPED = "stopped"  # before its end, as its curve promised nothing; never repeated
    LOST = "lost"  # the machine's or the user's doing; may be repeated as a trial of its own
    DUPLICATE = "duplicate"  # proposed a recipe that another trial has; not run and not counted


OPEN_STATUSES = frozenset({TrialStatus.QUEUED, TrialStatus.RUNNING})
MEASURED_STATUSES = frozenset({TrialStatus.FEASIBLE, TrialStatus.INFEASIBLE})


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialRow:
    """A trial as read back.

    Attributes:
        values: told objectives, in the study's order; () unless feasible.
        params: searched fields by dotted path, with Optuna's values (labels of choices).
        violations: by constraint, relative: <= 0 keeps the limit.
        attributes: every user attribute.
        seconds: from being asked to being told, or None before.
    """

    rung: str
    number: int
    status: TrialStatus
    values: tuple[float, ...]
    params: Mapping[str, Any]
    violations: Mapping[str, float]
    attributes: Mapping[str, Any]
    seconds: float | None

    @property
    def is_open(self) -> bool:
        """True while a result can still come."""
        return self.status in OPEN_STATUSES

    @property
    def is_measured(self) -> bool:
        """True where a run of its own came to a result, within the limits or not."""
        return self.status in MEASURED_STATUSES and not self.is_copy

    @property
    def recipe(self) -> Recipe | None:
        """What it trains; None where the proposal was no valid recipe."""
        text = self.attributes.get("recipe")
        return None if text is None else recipe_of(text, NOTHING_SET)

    @property
    def run_recipe(self) -> Recipe | None:
        """What its run executed: the recipe, with what its rung set; None where there is no recipe."""
        text = self.attributes.get("recipe")
        return None if text is None else recipe_of(text, self.attributes.get(RUN_SET, NOTHING_SET))

    @property
    def fields(self) -> Mapping[str, Any]:
        """Its params, and the field that was solved."""
        solved = self.attributes.get("solved")
        return self.params if solved is None else {**self.params, solved["param"]: solved["value"]}

    @property
    def key(self) -> tuple[str, int] | None:
        """Recipe hash and seed: trials of equal key would repeat each other."""
        if "recipe_hash" not in self.attributes:
            return None
        return self.attributes["recipe_hash"], self.attributes["seed"]

    @property
    def val_bpb(self) -> float | None:
        """The score, of infeasible trials too; None where nothing was measured."""
        return self.attributes.get("val_bpb")

    @property
    def artifact_bytes(self) -> int | None:
        """Bytes of code and weights; None where nothing was measured."""
        return self.attributes.get("artifact_bytes")

    @property
    def gpu_seconds(self) -> float:
        """GPU-seconds held by its runs; 0 where it copied another trial's result."""
        return self.attributes.get("gpu_seconds", 0.0)

    @property
    def is_copy(self) -> bool:
        """True where it never ran and has another trial's result, or was dropped as another's repeat."""
        return "copied_from" in self.attributes

    @property
    def reason(self) -> str:
        """Why it is infeasible, failed or was not run."""
        return self.attributes.get("reason", "")

    @property
    def is_refused(self) -> bool:
        """True where it was told without a run, as no recipe or hopelessly large: another one is asked for instead."""
        is_no_recipe = self.failure is FailureKind.CONFIG and "recipe" not in self.attributes
        return is_no_recipe or (self.failure is FailureKind.OVERSIZE and not self.is_copy)

    @property
    def failure(self) -> FailureKind | None:
        """What went wrong; None where it was measured or is open."""
        kind = self.attributes.get("failure")
        return None if kind is None else FailureKind(kind)

    @property
    def retry_of(self) -> int | None:
        """Number of the lost trial that this one repeats."""
        return self.attributes.get("retry_of")


@lru_cache(maxsize=4096)
def recipe_of(text: str, run_set: str) -> Recipe:
    """A recipe as trials keep it, with what a rung set in it.

    Reading one takes a third of a millisecond, and each proposal looks at all of them.
    """
    return set_values(recipe_from_dict(json.loads(text)), json.loads(run_set))
