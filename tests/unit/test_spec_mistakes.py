"""Every mistake in a study file is one line: file, line, key path, expected, got."""

import re
from pathlib import Path

import pytest
from small_study import GOOD, load

from search.errors import SpecError
from search.spec import load_spec

MISTAKES = [
    # (text in GOOD, what it becomes, the error after the file's name)
    ("limits:", "limit:", ":13: limit: must be one of name, base, .* (did you mean limits?), got limit"),
    ("    trials: 10", "    trails: 10", ":21: rungs[0].trails: must be one of .* (did you mean trials?), got trails"),
    ("name: tiny\n", "", ":1: name: must be given, got nothing"),
    ("name: tiny", "name: Tiny Study", ":1: name: must be 1 to 64 small letters, .*, got 'Tiny Study'"),
    ("name: tiny", "name: tiny\nbase: naive", ":2: base: must be one of naive_baseline, .*, got 'naive'"),
    ("trials: 10", "trials: ten", ":21: rungs[0].trials: must be a valid integer, got 'ten'"),
    ("trials: 10", "trials: 1.5", ":21: rungs[0].trials: must be a valid integer, .*got 1.5"),
    ("trials: 10", "trials: true", ":21: rungs[0].trials: must be a valid integer, got True"),
    ("    trials: 10\n", "", ":19: rungs[0].trials: must be given for the first rung, got nothing"),
    ("trials: 10", "trials: 10\n    promote: 1", ":22: rungs[0].promote: must be left out of the first rung, got 1"),
    ("promote: 2", "trials: 2", ":24: rungs[1].trials: must be left out of a later rung, got 2"),
    ("    promote: 2\n", "", ":22: rungs[1].promote: must be given for a later rung, got nothing"),
    ("name: tiny", "name: tiny\nearly_stop: {level: 1}", ":2: early_stop.level: must be less than 0.5, got 1"),
    ("name: tiny", "name: tiny\nspend: {gpu_hours: 0}", ":2: spend.gpu_hours: must be greater than 0, got 0"),
    (
        "name: tiny",
        "name: tiny\nspend: {dollars: 9, prices: {any: 1}}",
        ":2: spend.prices: must have H100, for rung full, got any",
    ),
    ("promote: 2", "promote: 11", ":24: rungs[1].promote: must be at most the 10 trials of rung proxy, got 11"),
    ("name: full", "name: proxy", ":22: rungs[1].name: must be another name than the other rungs', got proxy"),
    ("seeds: [1, 2]", "seeds: [1, 1]", ":25: rungs[1].seeds: must be different seeds, got [1, 1]"),
    ("seeds: [1, 2]", "seeds: []", ":25: rungs[1].seeds: must have at least 1 item.*, got []"),
    ("world_size: 8", "world_size: 3", ":23: rungs[1].budget.world_size: must divide 8, got 3"),
    (
        "train_seconds: 600",
        "train_seconds: 601",
        ":23: .*train_seconds: must be at most limits.train_seconds 600, got 601",
    ),
    ("train_seconds: 600", "train_seconds: -1", ":23: rungs[1].budget.train_seconds: must be greater than 0, got -1"),
    (
        "train_seconds: 600",
        "train_tokens: 9, train_seconds: 600",
        ":23: rungs[1].budget: exactly one of train_seconds and train_tokens must be set, got (600.0, 9)",
    ),
    (
        "accelerator: H100",
        "max_run_seconds: 500",
        ":26: rungs[1].max_run_seconds: must be more than the budget's train_seconds 600, got 500",
    ),
    (
        "  model.num_layers: 3",
        "  model.num_layer: 3",
        ":3: set.model.num_layer: must be a field of Recipe (did you mean",
    ),
    ("  model.num_layers: 3", "  model.num_layers: '3'", ":3: set.model.num_layers: must be a whole number, got '3'"),
    ("  model.num_layers: 3", "  model.num_kv_heads: 3", ":2: set.model.num_heads: must be a multiple of .* 3, got 8"),
    (
        "  model.num_layers: 3",
        "  schedule.train_batch_tokens: 2048\n  model.num_layers: 3",
        ":24: rungs[1].budget.world_size: must suit the base recipe (schedule.train_batch_tokens: .* 2 sequences",
    ),
    (
        "{train_tokens: 1_000_000}",
        "{train_tokens: 1_000_000, eval_tokens: 512}",
        ":20: rungs[0].budget.eval_tokens: must suit the base recipe (.* one window of 1024 tokens, got 512), got 512",
    ),
    (
        "[quantization]",
        "[quantisation]",
        ":5: space.include[0]: must be one of .* (did you mean quantization?), got quant",
    ),
    (
        "[quantization]",
        "[golf, shape]",
        ":5: space.include[1]: must be left out, since golf has all of it, got shape",
    ),
    ("[quantization]", "[shape, shape]", ":5: space.include[1]: must be named once, got shape again"),
    (
        "    optim.matrix_lr:",
        "    optim.matrix_lrs:",
        ":8: space.params.optim.matrix_lrs: must be a field of Recipe (did",
    ),
    ("low: 2, high: 4", "low: 5, high: 4", ":7: space.params.model.num_layers.low: must be at most high 4, got 5"),
    ("low: 2, high: 4", "low: 2.5, high: 4", ":7: space.params.model.num_layers.low: must be a whole number, got 2.5"),
    (
        "low: 2, high: 4",
        "low: 2",
        ":7: space.params.model.num_layers: must have either low and high, or choices, got low",
    ),
    ("low: 2, high: 4", "low: 2, high: 5, step: 2", ":7: .*num_layers.step: must divide high - low = 3, got 2"),
    ("low: 2, high: 4", "choices: [2], log: true", ":7: .*num_layers: must have either low and high, or choices, got"),
    ("low: 2, high: 4", "choices: [two]", ":7: space.params.model.num_layers: must be a whole number, got 'two'"),
    (
        "low: 2, high: 4",
        "choices: []",
        ":7: space.params.model.num_layers.choices: must name at least one value, got none",
    ),
    ("log: true}", "step: 2}", ":8: space.params.optim.matrix_lr.step: must be left out for a field that is no whole"),
    ("ema: {choices: [null, {}]}", "ema: {low: 0, high: 1}", ":9: space.params.ema: must be searched by a Choice, got"),
    ("recipe: baseline_int6", "recipe: int6", ":12: queue[1].recipe: must be one of naive_baseline, .*, got 'int6'"),
    ("quant.matrix_bits: 6", "quant.matrix_bits: 9", ":11: queue[0].set.quant.matrix_bits: must be 4 to 8, got 9"),
    ("limits:", "objectives: [artifact_bytes]\nlimits:", ":13: objectives: must be \\[val_bpb\\] or"),
    (
        "limits:",
        "objectives: [val_loss]\nlimits:",
        ":13: objectives[0]: must be 'val_bpb' or 'artifact_bytes', got 'val_",
    ),
    (
        "artifact_bytes: 400_000",
        "artifact_bytes: 16MB",
        ":14: limits.artifact_bytes: must be a valid integer, got '16MB'",
    ),
    (
        "  artifact_bytes: 400_000",
        "",
        ":13: limits: must be a mapping with keys such as artifact_bytes, .* got nothing",
    ),
    ("  path: data/quickstart", "  path: 3", ":16: data.path: .*, got 3"),
    ("name: tiny", "name: tiny\nname: again", ":2: must be valid YAML, got: key name a second time"),
    ("[quantization]", "[quantization", ":6: must be valid YAML, got: .*"),
    ("name: tiny", "name: {tiny", ":2: must be valid YAML, got: .*"),
]


@pytest.mark.parametrize(("old", "new", "expected"), MISTAKES, ids=[new.strip()[:40] for _, new, _ in MISTAKES])
def test_each_mistake_is_one_line(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert GOOD.count(old) == 1
    with pytest.raises(SpecError) as caught:
        load(tmp_path, GOOD.replace(old, new))
    line = str(caught.value)
    assert line.startswith(f"{tmp_path / 'study.yaml'}:")
    assert "\n" not in line
    pattern = re.escape(expected.replace("\\", "")).replace(r"\.\*", ".*")
    assert re.match(pattern, line.removeprefix(str(tmp_path / "study.yaml"))), line


def test_files_that_are_no_study(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"study\.yaml:1: must be a mapping with keys such as name, .*, got nothing"):
        load(tmp_path, "")
    with pytest.raises(SpecError, match=r"got \['a'\]"):
        load(tmp_path, "- a")
    with pytest.raises(SpecError, match=r"none\.yaml: must be a file that can be read, got No such file"):
        load_spec(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"name: \xe9")
    with pytest.raises(SpecError, match=r"latin\.yaml: must be UTF-8 text, got .* at byte 6"):
        load_spec(tmp_path / "latin.yaml")
    with pytest.raises(SpecError, match="must be valid YAML, got"):
        load(tmp_path, "name: \x00")


def test_a_space_must_search_something(tmp_path: Path) -> None:
    text = re.sub(r"space:\n(  .*\n)+", "space: {}\n", GOOD)
    with pytest.raises(SpecError, match=r":4: space: must search something"):
        load(tmp_path, text)
