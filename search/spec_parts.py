"""The parts of a study file, each checked by itself; search.spec checks them together."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from search.spec_file import problem
from spaces.fields import SpaceError, close_match, plain_type, require_path
from spaces.space import Choice, Domain, Integer, Real

SamplerKind = Literal["joint", "tpe", "gp", "nsga2", "random", "qmc"]
MOST_LETTERS = 64  # of a name


def _check_name(name: str) -> str:
    """Names are parts of database keys and of folder names."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name) or len(name) > MOST_LETTERS:
        raise problem(
            f"must be 1 to {MOST_LETTERS} small letters, digits, _ and -, a letter or digit first, got {name!r}"
        )
    return name


Name = Annotated[str, AfterValidator(_check_name)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
# Runs work in folders of their own, so a path is made absolute before it leaves this process.
WorkingPath = Annotated[Path, Field(strict=False), AfterValidator(lambda path: Path(path).absolute())]


class SpecModel(BaseModel):
    """Keys are exactly the fields; values have exactly their types (a whole number also where any number fits)."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @model_validator(mode="before")
    @classmethod
    def _keys_are_known(cls, values: Any) -> Any:
        if isinstance(values, cls):
            return values
        if not isinstance(values, Mapping):
            got = "nothing" if values is None else repr(values)
            raise problem(f"must be a mapping with keys such as {', '.join(list(cls.model_fields)[:3])}, got {got}")
        for key in values:
            if key not in cls.model_fields:
                known = ", ".join(cls.model_fields)
                raise problem(f"must be one of {known}{close_match(str(key), cls.model_fields)}, got {key}", str(key))
        return values


class ParamSpec(SpecModel):
    """How one field is searched: a range, or a list of values."""

    low: Finite | None = None
    high: Finite | None = None
    step: Count | None = None
    log: bool = False
    choices: list[Any] | None = None

    @model_validator(mode="after")
    def _is_range_or_choices(self) -> "ParamSpec":
        is_range = self.low is not None and self.high is not None
        has_range_keys = not {"low", "high", "step", "log"}.isdisjoint(self.model_fields_set)
        if is_range == (self.choices is not None) or (self.choices is not None and has_range_keys):
            raise problem(f"must have either low and high, or choices, got {', '.join(sorted(self.model_fields_set))}")
        return self

    def domain(self, path: str) -> Domain:
        """The values searched for the field at path.

        Raises:
            SpaceError: they do not fit together, or not the field.
        """
        if self.choices is not None:
            return Choice.of(*self.choices)
        low, high = self.low or 0.0, self.high or 0.0
        if plain_type(require_path(path)) is not int:
            if self.step is not None:
                raise SpaceError(f"step: must be left out for a field that is no whole number, got {self.step}")
            return Real(low, high, self.log)
        for name, end in (("low", low), ("high", high)):
            if not end.is_integer():
                raise SpaceError(f"{name}: must be a whole number, got {end}")
        return Integer(int(low), int(high), self.step or 1, self.log)


class SolveSpec(SpecModel):
    """One field that is computed, not searched: such that predicted bytes come to their limit."""

    param: str
    low: Finite
    high: Finite
    step: Positive | None = None

    @model_validator(mode="after")
    def _is_a_range(self) -> "SolveSpec":
        if self.low >= self.high:
            raise problem(f"must be less than high {self.high:g}, got {self.low:g}", "low")
        if self.step is not None and self.step > self.high - self.low:
            raise problem(f"must be at most high - low = {self.high - self.low:g}, got {self.step:g}", "step")
        return self


class SpaceSpec(SpecModel):
    """What is searched: ready families, and fields of one's own, which replace a family's; and what is solved."""

    include: list[str] = []
    params: dict[str, ParamSpec] = {}
    solve: SolveSpec | None = None


class QueueSpec(SpecModel):
    """A recipe to run early: a named one, or the study's base, with some fields set."""

    recipe: str | None = None
    set: dict[str, Any] = {}


class Limits(SpecModel):
    """What a result may cost, inclusive; over one of them a trial is infeasible."""

    artifact_bytes: Count = 16_000_000
    train_seconds: Positive = 600.0
    eval_seconds: Positive = 600.0


class DataSpec(SpecModel):
    """The dataset: a folder of shards and the tokenizer that made them."""

    path: WorkingPath
    tokenizer: WorkingPath


class PromotionSpec(SpecModel):
    """How recipes go on from rung to rung; changes no result.

    Attributes:
        rule: by the calibrated posterior, while proxies still run; or simply the best, once they have all run.
        anchors: slots of each rung that named recipes get; None chooses.
        stop_behind: bits per byte that a run of a later rung may be behind its rung's best; None lets it run: losses at
            half of a run do not compare between schedules, and 0.01 stopped as good as the best (docs/search.md).
    """

    rule: Literal["model", "top"] = "model"
    anchors: Annotated[int, Field(ge=0)] | None = None
    stop_behind: Positive | None = None


class SamplerSpec(SpecModel):
    """How proposals are drawn; changes no result.

    Attributes:
        kind: who proposes; None chooses by space and goal, see StudySpec.sampler_kind.
        goal: what proposals minimise: the score, with bytes under the limit as good as any, or all objectives.
        controls: further runs of the base in the first rung, each with another seed.
        prior: share of proposals near the base and the best trials; None chooses by kind and space.
    """

    kind: SamplerKind | None = None
    goal: Literal["val_bpb", "objectives"] = "val_bpb"
    prior: Annotated[float, Field(ge=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32)] | None = None
    startup_trials: Annotated[int, Field(ge=0)] | None = None
    controls: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _is_consistent(self) -> "SamplerSpec":
        is_random = self.kind in {"random", "qmc"}
        if self.startup_trials is not None and (is_random or self.kind == "nsga2"):
            raise problem(f"must be left out with {self.kind}, got {self.startup_trials}", "startup_trials")
        if "goal" in self.model_fields_set and is_random:
            raise problem(f"must be left out with {self.kind}, which looks at no result, got {self.goal}", "goal")
        if self.kind == "joint" and self.goal != "val_bpb":
            raise problem(f"must be val_bpb with joint, which models nothing else, got {self.goal}", "goal")
        return self


class EarlyStopSpec(SpecModel):
    """When a run of the first rung is stopped for its training loss; changes no result that there is.

    Attributes:
        level: a run is stopped when its probability of ending among the best is under this.
        among: the best are this share of the rung's runs, and at least as many as are promoted.
        after_runs: none is stopped before so many have finished.
        from_progress: none is stopped before this share of its budget.
        spare: share of the runs to be stopped that run on instead; they tell how often the rule is wrong.
    """

    level: Annotated[float, Field(gt=0, lt=0.5)] = 0.02
    among: Annotated[float, Field(gt=0, lt=1)] = 1 / 3
    after_runs: Annotated[int, Field(ge=8)] = 20
    from_progress: Annotated[float, Field(ge=0.125, le=0.875)] = 0.5
    spare: Annotated[float, Field(ge=0, lt=1)] = 0.1


class SpendSpec(SpecModel):
    """What a study may cost in all; None is no bound.

    Attributes:
        gpu_hours: GPU-hours held, start-up and scoring included; process-hours on a machine without GPUs.
        hours: hours in which at least one run was under way.
        prices: dollars for a GPU-hour by accelerator, as rungs name it; any for rungs that name none.
    """

    gpu_hours: Positive | None = None
    dollars: Positive | None = None
    hours: Positive | None = None
    prices: dict[str, Positive] = {}

    def bounds(self) -> dict[str, float]:
        """The bounds that are set, by key."""
        given = {"gpu_hours": self.gpu_hours, "dollars": self.dollars, "hours": self.hours}
        return {key: bound for key, bound in given.items() if bound is not None}
