"""Adaptation on a CUDA device: compiled, with padded passes, against the same in eager mode."""

import dataclasses

import pytest
import torch
from scored_streams import ENVIRONMENT, FORMS, SGD, TABLE, lively_model, random_tokens

from trainer.adapt import final_record
from trainer.config import Recipe
from trainer.eval_config import EvalConfig
from trainer.evaluate import Record, Scorer
from trainer.model_config import LoopConfig, ModelConfig

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
MODEL = ModelConfig(
    vocab_size=24,
    num_layers=3,
    model_dim=64,
    num_heads=4,
    num_kv_heads=2,
    embed_init_std=1.0,
    loop=LoopConfig(first_layer=1, last_layer=1, passes=2),
)
LORA = dataclasses.replace(FORMS["phases_and_keeps_a"], chunk_tokens=16, batch_documents=4, lr=0.002, phase_lr=0.01)


@pytest.mark.parametrize(
    "evaluation",
    [
        EvalConfig(seq_len=64, stride=16, sgd=dataclasses.replace(SGD, lr=0.01, chunk_tokens=128)),
        EvalConfig(seq_len=64, stride=16, lora=LORA),
    ],
    ids=["sgd", "lora"],
)
def test_compiled_adaptation_is_close_to_eager(evaluation: EvalConfig) -> None:
    tokens = random_tokens(700, 0, bos_every=60)
    recipe = Recipe(model=MODEL, evaluation=evaluation)
    records: list[Record] = []
    for is_compiled in (False, True):
        model = lively_model(MODEL).cuda()
        if is_compiled:
            model.compile_parts()
        environment = dataclasses.replace(ENVIRONMENT, device=torch.device("cuda"), is_compiled=is_compiled)
        records.append(final_record(Scorer(model, tokens, TABLE, recipe, environment)))
    eager, compiled = (record.losses_P for record in records)
    assert torch.equal(records[1].times_P, torch.ones_like(records[1].times_P))
    assert float((eager - compiled).abs().mean()) < 0.01
