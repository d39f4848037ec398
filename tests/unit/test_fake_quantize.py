"""Weights as quantization-aware training sees them: rounded as they will be stored, or with noise of one step."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_weights import FINE, random_weights, seeded

from trainer.clip import scale_of_rows
from trainer.quantize import dequantize, fake_quantize, quantize, storage_of
from trainer.roles import Role
from trainer.store_config import ClipRule, QuantConfig
from trainer.train_config import QatForm

QAT_CONFIGS = st.builds(
    QuantConfig,
    matrix_bits=st.integers(4, 8),
    mlp_bits=st.none() | st.integers(4, 8),
    embed_bits=st.sampled_from([4, 6, 8, 16]),
    clip=st.sampled_from([ClipRule.ROW_MAX, ClipRule.QUANTILE, ClipRule.SIGMA]),
    clip_sigmas=st.floats(2, 20),
    scale_is_floored=st.booleans(),
    gate_bits=st.sampled_from([8, 16]),
    late_k_layers=st.integers(0, 1),
    passthrough_numel=st.sampled_from([0, 200]),
)


@settings(max_examples=40, deadline=None)
@given(QAT_CONFIGS, st.integers(0, 2**31))
def test_training_sees_the_weights_that_will_be_stored(config: QuantConfig, seed: int) -> None:
    weights = random_weights(seed)
    read = dequantize(quantize(weights, config, 2, None))
    seen = fake_quantize(weights, config, 2, QatForm.STRAIGHT_THROUGH)
    stored = {name for name, weight in weights.items() if storage_of(name, weight.shape, config, 2).bits is not None}
    assert set(seen) == stored
    for name in stored:
        torch.testing.assert_close(seen[name], read[name], atol=1e-7, rtol=1e-6)


def test_noise_is_uniform_and_one_step_wide() -> None:
    torch.manual_seed(0)
    name, weight = "blocks.0.attn.c_q.weight", torch.randn(64, 500, generator=seeded(0))
    config = dataclasses.replace(FINE, matrix_bits=6)
    seen = fake_quantize({name: weight}, config, 1, QatForm.NOISE)[name]
    noise = (seen - weight) / scale_of_rows(weight, 6, Role.MATRIX, config).float()[:, None]
    assert noise.abs().max() <= 0.5 + 1e-4
    assert noise.mean().abs() < 0.01
    assert noise.std() == pytest.approx(12**-0.5, rel=0.02)
