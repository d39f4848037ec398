"""The README of an export: what a reviewer asks for is there, and is true of the claim."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from synthetic_runs import make_claim, make_run

from search.export.claim import OPEN_TRACK, LeftOut, RankCorrelation, Reference
from search.export.folder import export
from search.verify.check import verify
from spaces.recipes import named_recipe
from trainer.config import Budget, Recipe
from trainer.eval_config import EvalConfig, LoraAdaptConfig, SgdAdaptConfig


def test_readme_says_what_a_reviewer_asks(tmp_path: Path) -> None:
    claim = make_claim(tmp_path)
    manifest = {"docs": {"name": "docs.jsonl", "sha256": "abc"}, "val_docs": None, "val": {"documents": 40}}
    (claim.origin.data_path / "dataset.json").write_text(json.dumps(manifest))
    claim = replace(claim, entry=replace(claim.entry, base_pr=162, blurb="Made for a test."))
    text = (export(claim, tmp_path / "out") / "README.md").read_text()
    for expected in (
        f"**val_bpb {claim.val_bpb:.4f}**",
        "Made for a test.",
        "Builds on [#162](https://github.com/openai/parameter-golf/pull/162).",
        'torchrun --standalone --nproc-per-node=8 "$HERE/train_gpt.py"',
        'TOKENIZER="$PWD/tokenizers/tokenizer.model"',
        "for seed in 7 42 1337",
        "--val-documents 40",
        "`model.num_layers` | 9",
        "`quant.clip` | quantile",
        "`ema` | none",
        "Trial 12 of rung `full` in the study `ladder`",
        "345 trials in 67.80 GPU-hours",
        "docs.jsonl",
        "caddie data build",
        "43.51",
        "599.5",
        "123.4",
        "8 x NVIDIA H100 80GB HBM3",
        "17,059,912 parameters",
        "80 training shards",
        "recorded as the run ended",
        "Nothing is adapted while scoring",
    ):
        assert expected in text, expected
    for run in claim.runs:
        assert f"`{run.log_sha256}`" in text
        assert f"`{run.code_sha256}`" in text
    assert str(tmp_path) not in text


@pytest.mark.parametrize("text", ["[]", "{}", "not JSON", '{"val_docs": null, "val": 3}'])
def test_a_dataset_without_a_usable_manifest_is_described_by_its_form(tmp_path: Path, text: str) -> None:
    claim = make_claim(tmp_path, make_run(tmp_path / "run1", 1))
    (claim.origin.data_path / "dataset.json").write_text(text)
    assert "and the validation documents" in (export(claim, tmp_path / "out") / "README.md").read_text()


def test_each_technique_stands_with_its_source(tmp_path: Path) -> None:
    recipe = named_recipe("record_1855")
    claim = make_claim(tmp_path, make_run(tmp_path / "run1", 1, sliding_val_bpb=1.3), recipe=recipe)
    text = (export(claim, tmp_path / "out") / "README.md").read_text()
    pull = "https://github.com/openai/parameter-golf/pull"
    assert f"| parts | residual SmearGate | [#1667]({pull}/1667) |" in text
    lqer = f"[#1851]({pull}/1851), [arXiv 2402.02446](https://arxiv.org/abs/2402.02446)"
    assert f"| storage | LQER of rank 4 on 3 tensors | {lqer} |" in text
    assert "Beside the baseline's parts: rotary on 16 of 64 channels, query gains from 5 on, XSA in all layers" in text


@pytest.mark.parametrize(
    ("evaluation", "said"),
    [
        (EvalConfig(sgd=SgdAdaptConfig()), "Test-time training of all weights, score-first"),
        (EvalConfig(lora=LoraAdaptConfig()), "Test-time training of low-rank additions, anew for each document, score"),
        (EvalConfig(lora=LoraAdaptConfig(phases=2)), "each document, and of the weights themselves on documents that"),
    ],
)
def test_adaptation_is_said_to_happen_where_it_does(tmp_path: Path, evaluation: EvalConfig, said: str) -> None:
    run = make_run(tmp_path / "run1", 1, sliding_val_bpb=1.2345)
    claim = make_claim(tmp_path, run, recipe=Recipe(evaluation=evaluation))
    text = (export(claim, tmp_path / "out") / "README.md").read_text()
    assert said in text
    assert "sliding window with score-first adaptation" in text
    assert "| before adaptation |" in text and "| 1.2345 |" in text
    assert "Nothing is adapted" not in text


@pytest.mark.parametrize(
    ("changes", "budget"),
    [
        ({"device": "cpu", "world_size": 1}, Budget(train_tokens=1)),
        ({"train_seconds": 600.1}, Budget(train_seconds=600.0, world_size=8)),
        ({}, Budget(train_seconds=600.0, world_size=8)),
    ],
)
def test_nothing_is_a_record_unless_it_is_claimed_as_one(
    tmp_path: Path, changes: dict[str, object], budget: Budget
) -> None:
    claim = make_claim(tmp_path, make_run(tmp_path / "run1", 1, None, **changes), budget=budget)
    assert claim.track == OPEN_TRACK
    text = (export(claim, tmp_path / "out") / "README.md").read_text()
    assert "Not a record run" in text
    assert "## Record claim" not in text and "## Against a reference" not in text


def test_a_part_of_the_validation_data_is_said_to_be_one(tmp_path: Path) -> None:
    budget = Budget(train_seconds=600.0, world_size=8, eval_tokens=1_000_000)
    claim = make_claim(tmp_path, make_run(tmp_path / "run1", 1), budget=budget)
    assert "Scored on the first 1,000,000 tokens" in (export(claim, tmp_path / "out") / "README.md").read_text()


def test_a_reference_is_tested_on_the_open_track_too(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / f"run{seed}", seed) for seed in (1, 2, 3)]
    claim = make_claim(tmp_path, *runs, num_recipes=4)
    claim = replace(claim, entry=replace(claim.entry, reference=Reference(loss=2.1)))
    text = (export(claim, tmp_path / "out") / "README.md").read_text()
    assert "## Against a reference" in text
    assert "is significant at p < 0.01" in text
    assert "one of 4 measured in its rung; p is not corrected" in text


def test_the_search_that_found_it_is_told(tmp_path: Path) -> None:
    claim = make_claim(
        tmp_path,
        make_run(tmp_path / "run1", 1),
        seeds=(1, 2, 3),
        unfeasible={2: LeftOut(seed=2, reason="infeasible artifact_bytes", artifact_bytes=17_000_000)},
        lost=["trial 4, seed 1: machine: the node went away"],
        num_recipes=2,
        rank_correlations=[
            RankCorrelation(low="proxy", high="full", recipes=5, spearman=0.7),
            RankCorrelation(low="full", high="confirm", recipes=2, spearman=None),
        ],
    )
    folder = export(claim, tmp_path / "out")
    text = (folder / "README.md").read_text()
    for expected in (
        "seeds 2, 3. Why: 2: infeasible artifact_bytes; 3: never measured.",
        "> **Warning.** Seeds without a feasible result, which the mean leaves out: seed 2",
        "- trial 4, seed 1: machine: the node went away",
        "- `proxy` to `full`: 0.70 (5 recipes in both)",
        "- `full` to `confirm`: too few for one, which needs 3 (2 recipes in both)",
        "this rung measured 2 recipes",
    ):
        assert expected in text, expected
    assert [finding for finding in verify(folder) if finding.rule == "readme"] == []
