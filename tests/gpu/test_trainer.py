"""The trainer on a CUDA device: the compiled bf16 path against eager float32, and a packed run from start to score."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from search.bundle import bundle
from trainer.config import Budget, Recipe
from trainer.environment import open_environment
from trainer.eval_config import EvalConfig
from trainer.fast import FastPaths, fast_paths_of
from trainer.gptq import collect_hessians
from trainer.loop import Trainer
from trainer.model import new_model
from trainer.model_config import LoopConfig, ModelConfig
from trainer.muon import orthogonalize, triples_of
from trainer.result import Measurement, outcome_from_dict
from trainer.schedule import variant_at
from trainer.store_config import QuantConfig
from trainer.train_config import NewtonSchulz, QatConfig, ScheduleConfig

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
SMALL = ModelConfig(num_layers=4, model_dim=256, num_heads=4, num_kv_heads=2)
SMALL_RECIPE = Recipe(
    model=SMALL,
    schedule=ScheduleConfig(train_batch_tokens=32_768, train_seq_len=512, warmdown_fraction=0.5),
    quant=QuantConfig(matrix_bits=6, scale_is_floored=False),
    evaluation=EvalConfig(stride=128),
)


@pytest.mark.parametrize("is_fast", [False, True])
def test_compiled_bf16_loss_and_gradients_are_close_to_eager_float32(is_fast: bool) -> None:
    ids = torch.randint(1024, (4, 513), generator=torch.Generator().manual_seed(0)).cuda()
    models = [new_model(SMALL, dtype, 0).cuda() for dtype in (torch.float32, torch.bfloat16)]
    for model in models:
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith("proj.weight"):
                    parameter.normal_(0, 0.02, generator=torch.Generator("cuda").manual_seed(1))
    reference = models[0].loss(ids[:, :-1], ids[:, 1:], False, False)
    if is_fast:
        models[1].take(FastPaths(copies=True, mlp=True, mix=True, heads=True, losses=True))
    models[1].compile_parts()
    fast = models[1].loss(ids[:, :-1], ids[:, 1:], False, False)
    assert abs(float(fast.detach() - reference.detach())) < 5e-3 * float(reference.detach())
    reference.backward()
    fast.backward()
    for (name, slow), quick in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
        assert slow.grad is not None
        assert quick.grad is not None
        error = (quick.grad - slow.grad).norm() / (slow.grad.norm() + 1e-12)
        assert error < 0.06, (name, float(error))


def test_orthogonalize_in_bf16_keeps_singular_values_in_the_same_band() -> None:
    update = torch.randn(6, 512, 1024, device="cuda", generator=torch.Generator("cuda").manual_seed(0))
    singular = torch.linalg.svdvals(orthogonalize(update, triples_of(NewtonSchulz.QUINTIC, 5), torch.bfloat16).float())
    assert singular.max() < 1.3
    assert singular.median() > 0.65


def loss_and_gradients(trainer: Trainer, batch: tuple[Tensor, Tensor], progress: float) -> list[Tensor]:
    loss = trainer.accumulate(*batch, variant_at(progress, trainer.recipe))
    assert loss is not None
    found = [loss, *(p.grad.clone() for p in trainer.optimizer.parameters if p.grad is not None)]
    trainer.optimizer.zero_grad()
    return found


@pytest.mark.parametrize("micro_sequences", [64, 24, 32])  # of 64: one graph, three of two sizes, two
def test_captured_passes_give_the_gradients_of_passes_launched_kernel_by_kernel(
    micro_sequences: int, quickstart_data: Path
) -> None:
    looped = replace(SMALL, loop=LoopConfig(first_layer=1, last_layer=2, passes=2, start_fraction=0.4))
    recipe = replace(SMALL_RECIPE, model=looped, qat=QatConfig(start_fraction=0.7))
    variables = {"DATA_PATH": str(quickstart_data), "TOKENIZER_PATH": str(quickstart_data / "tokenizer.model")}
    model = new_model(recipe.model, torch.bfloat16, 0).cuda()
    model.take(fast_paths_of(torch.device("cuda"), torch.bfloat16))
    model.compile_parts()
    trainer = Trainer(model, recipe, open_environment(variables), lambda _event: None)
    trainer.micro_sequences = micro_sequences
    for progress in (0.0, 0.3, 0.5, 0.6, 0.8, 0.9):  # between two of them the weights change
        batch = trainer.loader.next_batch()
        trainer.captured = None
        expected = loss_and_gradients(trainer, batch, progress)
        trainer.capture_passes()
        for got in (loss_and_gradients(trainer, batch, progress), loss_and_gradients(trainer, batch, progress)):
            for slow, quick in zip(expected, got, strict=True):
                assert (slow - quick).norm() < 1e-2 * slow.norm() + 1e-6
        assert trainer.captured is not None
        assert len(trainer.captured.captured) == -(-64 // micro_sequences)
        trainer.step(progress)


def test_captured_passes_write_where_they_may_after_hessians_were_collected(quickstart_data: Path) -> None:
    """Collecting drops the copies of weights that graphs write, and takes them again: memory in between is others'."""
    variables = {"DATA_PATH": str(quickstart_data), "TOKENIZER_PATH": str(quickstart_data / "tokenizer.model")}
    model = new_model(SMALL, torch.bfloat16, 0).cuda()
    model.take(fast_paths_of(torch.device("cuda"), torch.bfloat16))
    model.compile_parts()
    trainer = Trainer(model, SMALL_RECIPE, open_environment(variables), lambda _event: None)
    trainer.capture_passes()
    trainer.warm_up(3)
    expected = loss_and_gradients(trainer, batch := trainer.loader.next_batch(), 0.0)
    collect_hessians(model, [batch[0][:4]], document_mask=False)
    others = [torch.zeros_like(w, dtype=torch.bfloat16) for w in model.parameters() if w.dim() == 2 for _ in range(4)]
    for slow, quick in zip(expected, loss_and_gradients(trainer, batch, 0.0), strict=True):
        assert (slow - quick).norm() < 1e-2 * slow.norm() + 1e-6
    assert all(int(other.count_nonzero()) == 0 for other in others)


def execute(folder: Path, data: Path, budget: Budget, command: list[str]) -> Measurement:
    """Run the packed small recipe in a folder."""
    packed = bundle(SMALL_RECIPE, budget).packed
    (folder / "train_gpt.py").write_bytes(packed)
    environment = {"DATA_PATH": str(data), "TOKENIZER_PATH": str(data / "tokenizer.model"), "SEED": "7"}
    done = subprocess.run(command, cwd=folder, env={**os.environ, **environment}, check=False)
    result = outcome_from_dict(json.loads((folder / "result.json").read_text()))
    assert isinstance(result, Measurement), (done.returncode, result)
    assert result.code_bytes == len(packed)
    return result


def test_a_packed_run_measures_itself_within_its_seconds(tmp_path: Path, quickstart_data: Path) -> None:
    budget = Budget(train_seconds=6.0, eval_tokens=65_536)
    result = execute(tmp_path, quickstart_data, budget, [sys.executable, "train_gpt.py"])
    assert 4.0 < result.train_seconds <= 6.0
    assert result.train_loss < 3.0, "of validation, this text is too short to tell: it is passed dozens of times"


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_two_ranks_train_what_one_does(tmp_path: Path, quickstart_data: Path) -> None:
    """The global batch is the same; only the order of sums differs, which bf16 and 60 steps blow up to about 1e-3."""
    budget = Budget(train_tokens=60 * 32_768, eval_tokens=65_536)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one = execute(tmp_path / "one", quickstart_data, budget, [sys.executable, "train_gpt.py"])
    two = execute(tmp_path / "two", quickstart_data, budget, [*torchrun, "train_gpt.py"])
    assert (one.world_size, two.world_size) == (1, 2)
    assert two.steps == one.steps
    assert abs(two.val_bpb - one.val_bpb) < 0.02
