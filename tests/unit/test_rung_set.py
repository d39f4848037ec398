"""Fields that a rung sets in its runs: they execute them, and everything else goes by the trial's own recipe."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from made_trials import made_row
from simulation import FakeRunner, Machine, World, failure, make_spec, measured_by_recipe, measurement
from small_study import load

from search.errors import SpecError
from search.export.claim import Entry
from search.export.evidence import claim_of
from search.ledger import LEASE_SECONDS
from search.run import Finished, Progress, Run
from search.services import Brake
from search.size import predicted_weight_bytes
from search.size_correction import pairs_of
from search.solve_margin import prediction_errors
from search.spec import definition_differences
from search.trials import TrialRow, TrialStatus
from spaces.fields import get_value, recipe_hash, recipe_to_dict, set_values
from trainer.config import Budget, Recipe
from trainer.result import Failure, FailureKind, Measurement

SET = {"schedule.train_seq_len": 512, "schedule.train_batch_tokens": 32_768}
RUNGS = [
    {"name": "proxy", "budget": {"train_tokens": 1000}, "trials": 4, "set": SET},
    {"name": "full", "budget": {"train_tokens": 9000}, "promote": 2},
]


def recipe_text(recipe: Recipe, budget: Budget) -> bytes:
    """Stands in for the bundle: what the fake trainer reads, with the fields that a rung sets."""
    paths = ("model.num_layers", "optim.matrix_lr", *SET)
    values = {path.rpartition(".")[2]: get_value(recipe, path) for path in paths}
    return json.dumps(values | {"budget": str(budget), "hash": recipe_hash(recipe)}).encode()


def machine(folder: Path, world: World | None = None, **changes: Any) -> Machine:
    return Machine(folder, make_spec(rungs=RUNGS, **changes), world or World(), bundle=recipe_text)


def executed(sim: Machine) -> list[tuple[str, Mapping[str, Any]]]:
    """Rung and code of each run."""
    codes = [(run.run_id.split("-")[1], run.folder / "train_gpt.py") for run in sim.world.submitted]
    return [(rung, json.loads(path.read_bytes())) for rung, path in codes]


def check_runs(sim: Machine) -> None:
    """Every run executed its trial's recipe as its rung changes it."""
    rows = {row.attributes["run_id"]: row for rung in ("proxy", "full") for row in sim.rows(rung)}
    for run, (rung, code) in zip(sim.world.submitted, executed(sim), strict=True):
        recipe = rows[run.run_id].recipe
        assert recipe is not None
        assert code["hash"] == recipe_hash(set_values(recipe, SET) if rung == "proxy" else recipe)
        assert code["hash"] == recipe_hash(rows[run.run_id].run_recipe or Recipe())


def test_runs_have_what_their_rung_sets_and_trials_keep_their_recipes(tmp_path: Path) -> None:
    sim = machine(tmp_path)
    assert sim.run().settled == ("proxy", "full")
    check_runs(sim)
    proxies, fulls = sim.rows("proxy"), sim.rows("full")
    assert {code["train_seq_len"] for rung, code in executed(sim) if rung == "proxy"} == {512}
    assert {code["train_seq_len"] for rung, code in executed(sim) if rung == "full"} == {1024}
    assert proxies[0].recipe == sim.spec.base_recipe() and proxies[0].params
    assert {row.attributes["recipe_hash"] for row in fulls} <= {row.attributes["recipe_hash"] for row in proxies}
    assert {run.recipe_hash for run in sim.ledger.runs()} == {row.attributes["recipe_hash"] for row in proxies}
    assert json.loads(proxies[0].attributes["run_set"]) == SET and "run_set" not in fulls[0].attributes


def test_bytes_are_predicted_for_the_trials_recipe(tmp_path: Path) -> None:
    asked: list[Recipe] = []

    def predict(recipe: Recipe, code_bytes: int, rows: Sequence[TrialRow]) -> int:
        asked.append(recipe)
        return 0

    sim = machine(tmp_path)
    sim.predict_bytes = predict
    sim.run()
    assert asked and {recipe.schedule.train_seq_len for recipe in asked} == {1024}


def test_a_repeat_and_a_run_that_never_started_are_the_same_run_again(tmp_path: Path) -> None:
    outcomes: list[Any] = [failure(FailureKind.MACHINE)]

    def behaviour(run: Run, values: Mapping[str, Any]) -> Measurement | Failure:
        return outcomes.pop() if outcomes else measured_by_recipe(run, values)

    class Dying(FakeRunner):
        def submit(self, run: Run) -> None:
            if len(self.world.submitted) == 2:
                raise KeyboardInterrupt
            super().submit(run)

    sim = machine(tmp_path, World(slots=1, behaviour=behaviour))
    with pytest.raises(KeyboardInterrupt):
        sim.run(runner=Dying(sim.world, sim.ledger))
    sim.world.now += 2 * LEASE_SECONDS
    assert sim.run().settled == ("proxy", "full")
    rows = sim.rows("proxy")
    assert rows[0].status is TrialStatus.LOST and any(row.retry_of == 0 for row in rows)
    check_runs(sim)
    before = len(sim.world.submitted)
    sim.run()
    assert len(sim.world.submitted) == before


def test_a_recipe_that_contradicts_what_is_set_is_told_so_and_replaced(tmp_path: Path) -> None:
    """Windows of scoring have the trained length unless they say otherwise; 512 tokens are none of 1024."""
    rungs = [{**RUNGS[0], "budget": {"train_tokens": 1000, "eval_tokens": 512}, "trials": 3}]
    rungs += [{"name": "full", "budget": {"train_tokens": 9000}, "promote": 1}]
    params = {"evaluation.seq_len": {"choices": [None, 1024]}, "optim.matrix_lr": {"low": 0.01, "high": 0.1}}
    spec = {"rungs": rungs, "space": {"params": params}, "sampler": {"kind": "random", "seed": 3}}
    sim = Machine(tmp_path, make_spec(**spec), World(), bundle=recipe_text)
    sim.run(Brake(trials_left=12))
    bad = [row for row in sim.rows("proxy") if row.params.get("evaluation.seq_len") == "1024"]
    assert bad and all(row.failure is FailureKind.CONFIG and "one window of 1024" in row.reason for row in bad)
    assert len([run for run in sim.world.submitted if "-proxy-" in run.run_id]) == 3


def test_an_exported_proxy_is_described_by_what_ran(tmp_path: Path) -> None:
    def measured(run: Run, values: Mapping[str, Any]) -> Measurement:
        return measurement(seed=int(run.environment["SEED"]))

    sim = machine(tmp_path, World(behaviour=measured))
    sim.run()
    entry = Entry(author="A. Player", github_id="player", date="2026-04-01")
    recipe = {rung: claim_of(sim.storage, sim.ledger, "sim", entry, rung).origin.recipe for rung in ("proxy", "full")}
    assert {rung: one.schedule.train_seq_len for rung, one in recipe.items()} == {"proxy": 512, "full": 1024}


def test_a_dear_run_is_not_as_fast_as_proxies_of_other_sequences(tmp_path: Path) -> None:
    class Slow(FakeRunner):
        def wait(self, timeout_seconds: float) -> Sequence[Progress | Finished]:
            reports = super().wait(timeout_seconds)
            slow = {"tokens_per_second": 1000.0}  # the proxies' was 4,096
            return [
                r if isinstance(r, Finished) else Progress(run_id=r.run_id, values={**r.values, **slow})
                for r in reports
            ]

    sim = machine(tmp_path, World(run_seconds=200.0))
    sim.run(runner=Slow(sim.world, sim.ledger))
    assert {row.status for row in sim.rows("full")} == {TrialStatus.FEASIBLE}


def row_of(run_set: Mapping[str, Any], ratio: float) -> TrialRow:
    """A finished run whose weights took so many times what is predicted for what it ran, 100 steps of it."""
    ran = set_values(Recipe(), run_set)
    return made_row(
        {
            "recipe": json.dumps(recipe_to_dict(Recipe())),
            "run_set": json.dumps(run_set),
            "steps": 100,
            "weight_bytes": round(ratio * predicted_weight_bytes(ran, 100)),
            "artifact_bytes": round(ratio * predicted_weight_bytes(ran, 100)),
            "predicted_bytes": predicted_weight_bytes(Recipe(), 100),
        }
    )


def test_measured_bytes_are_compared_with_those_predicted_for_what_ran() -> None:
    (pair,) = pairs_of([row_of({"quant.matrix_bits": 4}, 0.97)])
    assert pair.measured / pair.predicted == pytest.approx(0.97, abs=1e-3)


def test_the_margin_learns_from_runs_in_which_nothing_was_set_that_decides_bytes() -> None:
    other_bits, other_batch = row_of({"quant.matrix_bits": 4}, 1.0), row_of(SET, 1.01)
    assert prediction_errors([other_bits, other_batch]) == [pytest.approx(0.00995, abs=1e-4)]


FILE = """\
name: tiny
space:
  include: [quantization]
  params:
    optim.matrix_lr: {low: 1e-3, high: 0.1, log: true}
    ema: {choices: [null, {}]}
data: {path: data/quickstart, tokenizer: data/quickstart/tokenizer.model}
rungs:
  - name: proxy
    budget: {train_tokens: 1_000_000}
    trials: 10
  - name: full
    budget: {train_seconds: 600, world_size: 8}
    promote: 2
"""
AFTER = "    trials: 10"


MISTAKES = [
    ("schedule.train_seqlen: 512", r"must be a field of Recipe \(did you mean schedule.train_seq_len\?\)"),
    ("schedule.train_seq_len: '512'", "must be a whole number, got '512'"),
    ("optim.matrix_lr: 0.1", "must be left out, since the space decides optim.matrix_lr, got optim.matrix_lr"),
    ("ema.half_life_fraction: 0.1", "must be left out, since the space decides ema, got ema.half_life_fraction"),
    ("quant.gptq: null", "must be left out, since the space decides quant.gptq"),
    ("model.vocab_size: 2048", "must be left out, since the dataset decides it; give it in the study's set"),
    ("schedule.train_batch_tokens: 1000", "must be a multiple of .*, got 1000"),
]


@pytest.mark.parametrize(("field", "expected"), MISTAKES)
def test_mistakes_are_told_with_their_line(tmp_path: Path, field: str, expected: str) -> None:
    with pytest.raises(SpecError) as error:
        load(tmp_path, FILE.replace(AFTER, f"{AFTER}\n    set:\n      {field}"))
    where, _, message = str(error.value).removeprefix(f"{tmp_path / 'study.yaml'}:13: ").partition(": ")
    assert where == f"rungs[0].set.{field.partition(':')[0]}"
    assert re.match(expected, message), message


def test_what_is_solved_is_not_set(tmp_path: Path) -> None:
    space = {
        "params": {"optim.matrix_lr": {"low": 0.01, "high": 0.1}},
        "solve": {"param": "model.mlp_mult", "low": 1, "high": 4},
    }
    rungs = [{**RUNGS[0], "set": {"model.mlp_mult": 2.0}}, RUNGS[1]]
    with pytest.raises(ValueError, match=r"the space decides model\.mlp_mult"):
        make_spec(space=space, rungs=rungs)


def test_the_last_rung_runs_what_is_exported(tmp_path: Path) -> None:
    text = FILE.replace("    promote: 2", "    promote: 2\n    set: {schedule.train_seq_len: 512}")
    expected = r"15: rungs\[1\].set: must be left out of the last rung, .*, got schedule.train_seq_len"
    with pytest.raises(SpecError, match=expected):
        load(tmp_path, text)


def test_the_budget_must_suit_what_runs(tmp_path: Path) -> None:
    budget = "{train_tokens: 1_000_000, eval_tokens: 512}"
    text = FILE.replace("{train_tokens: 1_000_000}", budget)
    load(tmp_path, text.replace(AFTER, f"{AFTER}\n    set: {{schedule.train_seq_len: 512}}"))


def test_what_a_rung_sets_is_part_of_what_its_results_mean(tmp_path: Path) -> None:
    plain = load(tmp_path, FILE).definition()
    changed = load(tmp_path, FILE.replace(AFTER, f"{AFTER}\n    set: {{schedule.train_seq_len: 512}}")).definition()
    assert "set" not in plain["rungs"][0], "as an older version wrote it"
    assert definition_differences(plain, changed) == ["rungs.0.set.schedule.train_seq_len was None, got 512"]
