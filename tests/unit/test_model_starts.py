"""Initial weights: bases, singular values, shares."""

from dataclasses import replace

import pytest
import torch
from tiny_models import TINY

from trainer.initialize import embedding_start, matrix_start, resid_mix_start
from trainer.layers import Linear
from trainer.model import new_model
from trainer.model_config import BigramConfig, EmbedInit, MatrixInit, MlpKind, ModelConfig, ResidMixInit

WIDE = ModelConfig(vocab_size=256, num_layers=2, model_dim=64, num_heads=4, num_kv_heads=2)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize(("rows", "columns"), [(96, 64), (64, 96), (64, 64)])
def test_orthogonal_starts_have_singular_values_of_one(rows: int, columns: int) -> None:
    weight = matrix_start(rows, columns, MatrixInit.ORTHOGONAL, generator())
    smaller = weight @ weight.T if rows <= columns else weight.T @ weight
    torch.testing.assert_close(smaller, torch.eye(min(rows, columns)), atol=1e-5, rtol=0)


def test_narrow_matrices_start_uniform_and_projections_at_zero() -> None:
    config = replace(WIDE, matrix_init=MatrixInit.ORTHOGONAL, bigram=BigramConfig(dim=64))
    model = new_model(config, torch.float32, 0)
    weights = dict(model.named_parameters())
    for name, weight in weights.items():
        if not name.endswith(".weight"):
            continue
        singular = torch.linalg.svdvals(weight.detach())
        if name.endswith(("attn.proj.weight", "mlp.proj.weight")):
            assert not singular.any(), name
        elif min(weight.shape) >= 64:
            torch.testing.assert_close(singular, torch.ones_like(singular))
        else:
            assert weight.abs().max() <= 64**-0.5, name
            assert singular.min() < 0.9, name
    assert min(weights["blocks.0.attn.c_k.weight"].shape) == 32


def test_overtone_keeps_bases_and_largest_value_and_lets_the_others_fall() -> None:
    normal = embedding_start(replace(WIDE, embed_init=EmbedInit.NORMAL), generator())
    overtone = embedding_start(replace(WIDE, embed_init=EmbedInit.OVERTONE), generator())
    left, values, right = torch.linalg.svd(normal, full_matrices=False)
    ranks = torch.arange(1, 65)
    torch.testing.assert_close(torch.linalg.svdvals(overtone), values[0] / ranks.sqrt())
    inside = left.T @ overtone @ right.T
    torch.testing.assert_close(inside, (values[0] / ranks.sqrt()).diag(), atol=1e-6, rtol=0)


def test_power_law_falls_the_same_way_to_a_norm_of_std_times_sqrt_dim() -> None:
    power = embedding_start(replace(WIDE, embed_init=EmbedInit.POWER_LAW, embed_init_std=0.02), generator())
    values = torch.linalg.svdvals(power)
    ranks = torch.arange(1, 65)
    torch.testing.assert_close(values / values[0], ranks.rsqrt())
    torch.testing.assert_close(power.norm(), torch.tensor(0.02 * 64**0.5))


def test_a_vocabulary_narrower_than_the_model_starts_too() -> None:
    for init in EmbedInit:
        assert embedding_start(replace(TINY, vocab_size=8, embed_init=init), generator()).shape == (8, 32)


def test_phase_transition_goes_from_the_embedding_to_the_stream() -> None:
    config = replace(TINY, resid_mix_init=ResidMixInit.PHASE_TRANSITION)
    mixes = torch.stack([resid_mix_start(config, layer) for layer in range(5)])
    expected = torch.sigmoid(torch.tensor([-1.5, -0.75, 0.0, 0.75, 1.5]))
    torch.testing.assert_close(mixes[:, 0], expected[:, None].expand(5, 32))
    torch.testing.assert_close(mixes.sum(1), torch.ones(5, 32))
    assert torch.equal(resid_mix_start(TINY, 3), torch.stack((torch.ones(32), torch.zeros(32))))
    assert resid_mix_start(replace(config, num_layers=1), 0).isfinite().all()


def test_a_default_matrix_starts_as_torchs_own() -> None:
    weight = Linear(100, 7, generator(), starts_at_zero=False).weight
    assert weight.shape == (7, 100)
    assert 0.09 < weight.abs().max() <= 0.1


def test_swiglu_starts_two_matrices_and_keeps_the_third_at_zero() -> None:
    model = new_model(replace(TINY, mlp=MlpKind.SWIGLU, mlp_mult=1.3), torch.float32, 0)
    shapes = {name: tuple(p.shape) for name, p in model.get_submodule("blocks.0.mlp").named_parameters()}
    assert shapes == {"gate.weight": (42, 32), "up.weight": (42, 32), "proj.weight": (32, 42)}
    assert not model.get_parameter("blocks.0.mlp.proj.weight").any()
