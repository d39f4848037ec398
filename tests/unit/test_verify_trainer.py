"""The review of our own trainer, which has every form of evaluation in it: followed to its end, and still looked at."""

from pathlib import Path

import pytest
from broken_folders import problems
from small_submissions import refused, reviewed
from synthetic_runs import make_claim, make_run

from search.bundle import bundle
from search.export.folder import export
from spaces.fields import set_values
from spaces.recipes import named_recipe
from trainer.config import Budget, Recipe
from trainer.eval_config import SgdAdaptConfig

# What they do to the score: nothing but windows; SGD on what is scored, loops and GPTQ; LoRA by document in phases.
RECIPES = {
    "plain": Recipe(),
    "sgd": set_values(named_recipe("record_1218"), {"evaluation.sgd": SgdAdaptConfig()}),
    "sgd_loop": named_recipe("record_1493"),
    "lora": named_recipe("record_1855"),
}
SCORING = "scorer.add_windows(record, scorer.share(windows_of_chunk(scorer, chunk, chunk_tokens)), scorer.stride)\n"
TRAINING = "trainer.step(ids_RL, targets_RL, config.lr * cosine_rate(chunk, num_trained))\n"
CHUNK = "tokens_T[chunk * chunk_tokens : (chunk + 1) * chunk_tokens + 1]"
NEXT_CHUNK = "tokens_T[(chunk + 1) * chunk_tokens : (chunk + 2) * chunk_tokens + 1]"


@pytest.mark.parametrize("name", RECIPES)
def test_real_trainer_passes_the_static_checks(tmp_path: Path, name: str) -> None:
    made = bundle(RECIPES[name], Budget(train_seconds=600.0, world_size=8))
    runs = [make_run(tmp_path / f"run{seed}", seed, made.packed) for seed in (1, 2, 3)]
    assert problems(export(make_claim(tmp_path, *runs, source=made.source), tmp_path / "out")) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [(SCORING, "pass\n"), (CHUNK, "tokens_T"), (CHUNK, NEXT_CHUNK)],
    ids=["trains_first", "trains_on_all", "trains_on_the_next"],
)
def test_real_trainer_that_adapts_too_early_is_refused(tmp_path: Path, old: str, new: str) -> None:
    source = bundle(RECIPES["sgd_loop"], Budget(train_seconds=600.0, world_size=8)).source
    assert source.count(old) == source.count(TRAINING) == 1
    changed = source.replace(old, new).replace(TRAINING, f"{TRAINING}            {SCORING}")
    assert refused(tmp_path, changed) == ["ttt-order"]
    assert "code" not in reviewed(tmp_path, changed)
