"""Caddie as a strategy: its own driver, samplers, promotion, early stop and database, on the simulated machine.

Bytes are predicted by the service's own model: wrong by 8 % of the weights here (standard deviation) and 9 % too high,
which it learns from the study's runs.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import optuna
from bench.search_game import DEAREST, Played, Report, Values, sampled_seconds
from bench.search_world import SurrogateRunner, packed
from bench.surrogate_space import ARTIFACT_CAP, BASE, BASE_VALUES, BUDGETS, EVAL_TOKENS, TRAIN_TOKENS, values_of
from optuna.storages import InMemoryStorage
from simulation import Machine, Recorder, World

from search.expected import expected_better
from search.size_correction import predicted_in_study
from search.spec import StudySpec
from search.status import terms_by_rung
from search.store import quiet_optuna
from search.study import read_rows
from search.trials import TrialRow
from search.winner import standings

PROXY, DEAR = "proxy", "dear"
IN_MEMORY = Path("/dev/shm")  # where there is one: a trial is some 50 commits

PARAMS: Mapping[str, Any] = {
    "model.num_layers": {"low": 1, "high": 4},
    "model.model_dim": {"low": 24, "high": 64, "step": 8},
    "model.mlp_mult": {"choices": [1.0, 2.0, 3.0]},
    "optim.matrix_lr": {"low": 0.004, "high": 0.4, "log": True},
    "optim.embed_lr": {"low": 0.004, "high": 0.4, "log": True},
    "schedule.train_batch_tokens": {"choices": [512, 1024, 2048, 3072]},
    "schedule.warmdown_fraction": {"low": 0.0, "high": 0.9},
    "ema": {"choices": [None, {}]},
    "ema.half_life_fraction": {"low": 0.004, "high": 0.25, "log": True},
    "quant.matrix_bits": {"low": 4, "high": 8},
    "quant.embed_bits": {"choices": [4, 6, 8, 16]},
    "quant.clip_sigmas": {"low": 2.5, "high": 16.0, "log": True},
}
SOLVED = "quant.clip_sigmas"


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """How a study spends its budget, and what it changes in the file.

    Attributes:
        proxy: fidelity of its first rung.
        dear_share: of the budget, for dear runs.
        solved: whether the size is solved.
        names_expected: whether the report goes by what is expected to be better than the winner.
        changes: keys of the study file.
    """

    proxy: int = 1
    dear_share: float = 0.5
    solved: bool = True
    names_expected: bool = True
    changes: Mapping[str, Any] = field(default_factory=dict[str, Any])


def study_file(plan: Plan, budget: float, seed: int) -> StudySpec:
    """The study of a game."""
    params = {path: domain for path, domain in PARAMS.items() if path != SOLVED or not plan.solved}
    solve = {"param": SOLVED, "low": 2.5, "high": 16.0} if plan.solved else None
    values: dict[str, Any] = {
        "name": "game",
        "set": dict(BASE_VALUES),
        "space": {"params": params, "solve": solve},
        "limits": {"artifact_bytes": ARTIFACT_CAP},
        "data": {"path": "data", "tokenizer": "data/tokenizer.model"},
        "rungs": rungs(plan, budget),
        **plan.changes,
    }
    values["sampler"] = {"seed": seed, **values.get("sampler", {})}
    spec = StudySpec.model_validate(values)
    assert spec.base_recipe() == BASE
    return spec


def rungs(plan: Plan, budget: float) -> list[dict[str, Any]]:
    """Proxies and dear runs for the budget, by what random recipes take."""
    dear = max(round(plan.dear_share * budget / sampled_seconds(DEAREST)), 1)
    short = max(round((1 - plan.dear_share) * budget / sampled_seconds(plan.proxy)), 1)
    return [
        {"name": PROXY, "budget": budget_of(plan.proxy), "trials": short},
        {"name": DEAR, "budget": budget_of(DEAREST), "promote": min(dear, short)},
    ]


def budget_of(fidelity: int) -> dict[str, int]:
    """A fidelity as a study file has it."""
    return {"train_tokens": TRAIN_TOKENS[fidelity], "eval_tokens": EVAL_TOKENS}


@dataclass
class Reporter(Recorder):
    """Notes after each run what `caddie status` would name as the winner."""

    reports: list[Report] = field(default_factory=list[Report])
    game: "Game | None" = None

    def trial_finished(self, row: TrialRow) -> None:
        assert self.game is not None
        found = self.game.winner()
        if found is not None:
            self.reports.append(Report(self.game.runner.meter.held, found))

    def trial_progress(self, rung: str, number: int, values: Mapping[str, Any]) -> None:
        pass


class MemoryStorage(InMemoryStorage):
    """Optuna's own storage in memory: with a database, a game of a hundred trials takes a minute more."""

    url = "memory"


class Game:
    """One study."""

    def __init__(self, plan: Plan, spec: StudySpec, in_flight: int, folder: Path, seed: int) -> None:
        quiet_optuna()
        self.names_expected = plan.names_expected
        self.spec = spec
        self.reporter = Reporter()
        world = World(slots=in_flight, now=0.0)
        self.storage = MemoryStorage()
        self.machine = Machine(folder, spec, world, self.reporter, packed, predicted)
        self.runner = SurrogateRunner(world, self.machine.ledger, seed)
        self.reporter.game = self

    def play(self) -> None:
        """Drive the study to its end."""
        self.machine.run(runner=self.runner, storage=cast("Any", self.storage))

    def winner(self) -> Values | None:
        """The recipe that `caddie status` expects to be better than the winner, else the winner; None before any."""
        rows_of = {name: self.rows(name) for name in (PROXY, DEAR)}
        terms = terms_by_rung(self.spec, rows_of)
        found = standings(rows_of[DEAR], terms[DEAR]) or standings(rows_of[PROXY], terms[PROXY])
        best = found[0] if found else None
        expected = expected_better(self.spec, rows_of, best.row) if best and self.names_expected else None
        named = expected or best
        return values_of(named.row.recipe) if named and named.row.recipe else None

    def rows(self, rung: str) -> list[TrialRow]:
        """The trials of a rung."""
        return read_rows(optuna.load_study(study_name=f"game/{rung}", storage=self.storage), rung)


def predicted(recipe: Any, code_bytes: int, rows: Sequence[TrialRow]) -> int:
    """Artifact bytes as the service predicts them for the dearest rung."""
    return predicted_in_study(recipe, code_bytes, BUDGETS[-1], rows)


def play(plan: Plan, in_flight: int, budget: float, seed: int) -> Played:
    """One study of a plan."""
    place = IN_MEMORY if IN_MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(dir=place) as folder:
        game = Game(plan, study_file(plan, budget, seed), in_flight, Path(folder), seed)
        game.play()
    reports = [report for report in game.reporter.reports if report.gpu_seconds <= budget]
    return Played(reports, min(game.runner.meter.held, budget), game.runner.ended, game.runner.num_stopped)
