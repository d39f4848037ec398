"""Study files mean what they say, and what of a study may change."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from optuna.trial import FixedTrial
from pydantic import BaseModel
from small_study import GOOD, load

from search import spec as spec_module
from search import spec_parts, spec_rungs
from search.proposals import params_finder
from search.shapes import num_parameters
from search.spec import FAMILIES, StudySpec, definition_differences, load_spec
from spaces.fields import get_value, set_values
from spaces.recipes import NAMES, named_recipe
from spaces.space import Choice, Integer, Real
from trainer.config import Budget
from trainer.train_config import EmaConfig

STUDIES = Path(__file__).parents[2] / "studies"


def test_a_study_file_means_what_it_says(tmp_path: Path) -> None:
    spec = load(tmp_path, GOOD)
    base = spec.base_recipe()
    assert base.model.num_layers == 3
    assert spec.queued_recipes()[0].quant.matrix_bits == 6
    assert spec.queued_recipes()[0].model.num_layers == 3
    assert spec.queued_recipes()[1] == named_recipe("baseline_int6")
    assert spec.limits.artifact_bytes == 400_000
    assert spec.limits.eval_seconds == 600.0
    assert spec.data.path == Path.cwd() / "data" / "quickstart"
    assert spec.objectives == ["val_bpb", "artifact_bytes"]
    proxy, full = spec.rungs
    assert proxy.to_budget() == Budget(train_tokens=1_000_000)
    assert (proxy.trials, proxy.seeds, proxy.accelerator) == (10, [1337], None)
    assert full.to_budget() == Budget(train_seconds=600.0, world_size=8)
    assert (full.promote, full.seeds, full.accelerator) == (2, [1, 2], "H100")


def test_the_space_has_the_families_and_the_own_params(tmp_path: Path) -> None:
    domains = {param.path: param.domain for param in load(tmp_path, GOOD).build_space().params}
    assert domains["model.num_layers"] == Integer(2, 4)
    assert domains["optim.matrix_lr"] == Real(0.001, 0.1, log=True)
    assert domains["quant.matrix_bits"] == Integer(4, 8)
    assert isinstance(domains["ema"], Choice)


def test_own_params_replace_a_familys(tmp_path: Path) -> None:
    spec = load(tmp_path, GOOD.replace("[quantization]", "[quantization, shape]"))
    matches = [param for param in spec.build_space().params if param.path == "model.num_layers"]
    assert [param.domain for param in matches] == [Integer(2, 4)]


def test_own_params_keep_a_familys_condition(tmp_path: Path) -> None:
    spec = load(tmp_path, GOOD.replace("[quantization]", "[golf]").replace("ema:", "swa:"))
    space, base = spec.build_space(), spec.base_recipe()
    with_ema = set_values(base, {"ema": {}})
    assert "swa" in space.fix(base, base)
    assert "swa" not in space.fix(with_ema, base)


def test_a_named_recipe_in_the_queue_has_the_bases_vocabulary(tmp_path: Path) -> None:
    text = GOOD.replace("model.num_layers: 3", "model.vocab_size: 4096").replace("baseline_int6", "record_1855")
    spec = load(tmp_path, text)
    assert spec.queued_recipes()[1] == set_values(named_recipe("record_1855"), {"model.vocab_size": 4096})
    own = text.replace("record_1855", "record_1855\n    set: {model.vocab_size: 512}")
    assert load(tmp_path, own).queued_recipes()[1].model.vocab_size == 512


def test_null_and_empty_mappings_choose_a_sub_config(tmp_path: Path) -> None:
    text = GOOD.replace("[quantization]", "[]").replace(
        "ema: {choices: [null, {}]}", "ema: {choices: [null, {start_fraction: 0.5}]}"
    )
    spec = load(tmp_path, text)
    labels = list(spec.build_space().fix(spec.base_recipe(), spec.base_recipe()).values())
    assert labels == [3, 0.04, "null"]
    on = FixedTrial({"model.num_layers": 3, "optim.matrix_lr": 0.04, "ema": '{"start_fraction": 0.5}'})
    assert spec.build_space().suggest(on, spec.base_recipe()).ema == EmaConfig(start_fraction=0.5)


def test_early_stop_is_on_and_null_is_off(tmp_path: Path) -> None:
    assert load(tmp_path, GOOD).early_stop == spec_parts.EarlyStopSpec()
    assert load(tmp_path, GOOD + "early_stop: null\n").early_stop is None
    off = load(tmp_path, GOOD + "early_stop: null\n")
    assert StudySpec.model_validate_json(off.to_json()).early_stop is None


def test_what_a_study_may_cost_is_no_part_of_what_its_results_mean(tmp_path: Path) -> None:
    more = GOOD + "early_stop: {level: 0.1}\nspend: {hours: 3, prices: {H100: 2.5}}\n"
    assert load(tmp_path, more).definition() == load(tmp_path, GOOD).definition()


def test_a_definition_is_json_and_equal_to_itself(tmp_path: Path) -> None:
    definition = load(tmp_path, GOOD).definition()
    assert json.loads(json.dumps(definition)) == definition
    assert definition_differences(definition, definition) == []
    assert definition["data"]["path"] == "data/quickstart"


@pytest.mark.parametrize(
    ("old", "new", "differing"),
    [
        ("trials: 10", "trials: 12", []),
        ("promote: 2", "promote: 3", []),
        ("trials: 10", "trials: 9", ["rungs.0.trials was 10, got 9"]),
        ("recipe: baseline_int6", "recipe: lower_lr", []),
        ("data:", "sampler: {seed: 3}\ndata:", []),
        ("accelerator: H100", "max_run_seconds: 3000\n    accelerator: H100", []),
        ("accelerator: H100", "accelerator: H200", ["rungs.1.accelerator was 'H100', got 'H200'"]),
        ("seeds: [1, 2]", "seeds: [1, 2, 3]", ["rungs.1.seeds.2 was None, got 3"]),
        ("  model.num_layers: 3", "  model.num_layers: 4", ["recipe.model.num_layers was 3, got 4"]),
        ("low: 2, high: 4", "low: 2, high: 5", ["space.model.num_layers.high was 4, got 5"]),
        ("artifact_bytes: 400_000", "artifact_bytes: 1", ["limits.artifact_bytes was 400000, got 1"]),
        ("[quantization]", "[]", ["space.quant.matrix_bits.low was 4, got None"]),
        ("name: full", "name: long", ["rungs.1.name was 'full', got 'long'"]),
        ("data:", "objectives: [val_bpb]\ndata:", ["objectives.1 was 'artifact_bytes', got None"]),
    ],
)
def test_a_study_may_grow_and_nothing_else(tmp_path: Path, old: str, new: str, differing: list[str]) -> None:
    before, after = load(tmp_path, GOOD), load(tmp_path, GOOD.replace(old, new))
    found = definition_differences(before.definition(), after.definition())
    assert set(differing) <= set(found)
    assert bool(found) == bool(differing)


def test_a_study_of_an_older_version_goes_on(tmp_path: Path) -> None:
    today = load(tmp_path, GOOD).definition()
    older = json.loads(json.dumps(today))
    del older["recipe"]["swa"], older["recipe"]["model"]["xsa"], older["recipe"]["quant"]["gptq"]
    assert definition_differences(older, today) == []
    older["recipe"]["model"]["num_layers"] = 7
    assert definition_differences(older, today) == ["recipe.model.num_layers was 7, got 3"]
    older["recipe"]["model"]["width"] = 7
    assert "recipe.model.width was 7, got None" in definition_differences(older, today)


@pytest.mark.parametrize(
    ("space", "sampler", "kind"),
    [
        ("[quantization]", "{}", "joint"),
        ("[quantization]", "{kind: null, seed: 3}", "joint"),
        ("[quantization]", "{goal: objectives}", "tpe"),
        ("[golf]", "{}", "tpe"),
        ("[quantization]", "{kind: tpe}", "tpe"),
        ("[quantization]", "{kind: random}", "random"),
        ("[golf]", "{kind: joint}", "joint"),
    ],
)
def test_the_joint_model_proposes_in_small_spaces_unless_told(
    tmp_path: Path, space: str, sampler: str, kind: str
) -> None:
    text = GOOD.replace("[quantization]", space).replace("data:", f"sampler: {sampler}\ndata:")
    spec = load(tmp_path, text)
    assert spec.sampler_kind == kind
    assert StudySpec.model_validate_json(spec.to_json()).sampler_kind == kind, "as stored with a study"


def test_a_space_is_small_up_to_so_many_params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = load(tmp_path, GOOD)
    count = len(spec.build_space().params)
    for few, kind in ((count, "joint"), (count - 1, "tpe")):
        monkeypatch.setattr(spec_module, "FEW_PARAMS", few)
        assert spec.sampler_kind == kind


def test_a_family_is_named_for_every_module_of_params() -> None:
    modules = {path.stem for path in (STUDIES.parent / "spaces").glob("*.py") if "def params()" in path.read_text()}
    assert set(FAMILIES) == modules


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_repositorys_studies_load(path: Path) -> None:
    spec = load_spec(path)
    space, base = spec.build_space(), spec.base_recipe()
    assert space.suggest(FixedTrial(space.fix(base, base)), base) == base
    assert all(map(params_finder(spec), spec.queued_recipes()))
    assert spec.name == path.stem


def keys_of(model: type[BaseModel]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield name
        text = str(field.annotation)
        for part in [model for model in spec_models() if model.__name__ in text]:
            yield from keys_of(part)


def spec_models() -> list[type[BaseModel]]:
    values = {**vars(spec_parts), **vars(spec_rungs)}.values()
    return [value for value in values if isinstance(value, type) and issubclass(value, BaseModel)]


def test_the_readme_documents_every_key() -> None:
    text = (STUDIES / "README.md").read_text()
    missing = {key for key in keys_of(StudySpec) if f"`{key}`" not in text}
    assert not missing
    assert {name for name in (*NAMES, *FAMILIES) if f"`{name}`" not in text} == set()


def test_the_readmes_example_loads(tmp_path: Path) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (STUDIES / "README.md").read_text(), re.DOTALL)
    assert blocks
    assert load(tmp_path, blocks[0]).rungs
    assert yaml.safe_load(blocks[0])


def test_the_quickstart_is_small_and_two_rungs() -> None:
    spec = load_spec(STUDIES / "quickstart.yaml")
    assert num_parameters(spec.base_recipe()) < 1_000_000
    proxy, full = spec.rungs
    assert (proxy.trials or 0) >= 10
    assert full.promote == 2
    assert all(rung.budget.train_tokens for rung in spec.rungs)
    assert get_value(spec.base_recipe(), "quant.passthrough_numel") < 10_000  # or nothing would be quantized
