"""Each kernel against its slow form: on a CUDA device, or on a CPU by TRITON_INTERPRET=1 where Triton is installed."""

import os
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from tiny_models import EVERY_MODEL, random_ids, randomized
from torch import Tensor
from torch.nn import functional as F

from trainer.environment import allow_recompiles
from trainer.fast import FastPaths
from trainer.fused_heads import fused_heads
from trainer.fused_losses import fused_nll
from trainer.fused_mix import fused_mix
from trainer.fused_mlp import MlpTile, fused_mlp
from trainer.jit import has_triton
from trainer.layers import BOS_ID, copied_map, rms_norm
from trainer.rotary import Rotation, rotate

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
is_runnable = DEVICE == "cuda" or (has_triton() and os.environ.get("TRITON_INTERPRET") == "1")
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not is_runnable, reason="needs a CUDA device or the interpreter")]
BF16 = torch.bfloat16
# The interpreter cuts floats off to bfloat16 where devices round.
# and multiplies matrices of them wrongly, those of float16 rightly.
HALF = BF16 if DEVICE == "cuda" else torch.float16
SLACK = 1e-3 if DEVICE == "cuda" else 8e-3


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = BF16) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator).to(DEVICE, dtype)


def gradients_of(function: Callable[..., Tensor], *inputs: Tensor) -> tuple[Tensor, ...]:
    """What a function returns and its gradients, from a random gradient of its output."""
    leaves = [x.detach().requires_grad_() for x in inputs]
    y = function(*leaves)
    upstream = randn(*y.shape, seed=99, dtype=y.dtype)
    return y.detach(), *torch.autograd.grad(y, leaves, upstream)


def assert_as_near(fast: tuple[Tensor, ...], slow: tuple[Tensor, ...], exact: tuple[Tensor, ...]) -> None:
    """Whether the fast form's error against float32 is not much larger than the slow form's."""
    for got, plain, wanted in zip(fast, slow, exact, strict=True):
        size = wanted.norm() + 1e-6
        error, allowed = (got.float() - wanted).norm() / size, (plain.float() - wanted).norm() / size
        assert error < 1.1 * allowed + (SLACK if got.dtype is BF16 or plain.dtype is BF16 else 1e-3), (
            float(error),
            float(allowed),
            wanted.shape,
        )


def plain_nll(raw_NV: Tensor, targets_N: Tensor, cap: float) -> Tensor:
    return F.cross_entropy(cap * torch.tanh(raw_NV.float() / cap), targets_N, reduction="none")


@pytest.mark.parametrize(("rows", "width"), [(5, 1024), (3, 1000), (2, 8192), (3, 64)])
def test_losses(rows: int, width: int) -> None:
    raw = 10 * randn(rows, width)
    targets = torch.arange(rows, device=DEVICE) * (width // rows)
    targets[-1] = width - 1
    fast = gradients_of(lambda x: fused_nll(x, targets, 30.0), raw)
    slow = gradients_of(lambda x: plain_nll(x, targets, 30.0), raw)
    exact = gradients_of(lambda x: plain_nll(x, targets, 30.0), raw.float())
    torch.testing.assert_close(fast[0], exact[0], rtol=1e-5, atol=1e-5)
    assert_as_near(fast, slow, exact)
    single = gradients_of(lambda x: fused_nll(x, targets, 30.0), raw.float())
    for got, wanted in zip(single, exact, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


def test_losses_of_large_logits_are_finite() -> None:
    raw, targets = torch.full((2, 64), 1e4, device=DEVICE, dtype=BF16), torch.tensor([3, 5], device=DEVICE)
    raw[0, 3] = -1e4
    loss, gradient = gradients_of(lambda x: fused_nll(x, targets, 30.0), raw)
    torch.testing.assert_close(loss, plain_nll(raw, targets, 30.0), rtol=1e-5, atol=1e-4)
    assert gradient.isfinite().all()


def plain_mix(x: Tensor, y: Tensor, z: Tensor | None, weights_SD: Tensor, scale: Tensor | None) -> Tensor:
    """The sum and its norm, side by side."""
    weights = weights_SD.to(x.dtype)
    mixed = weights[0] * x + weights[1] * y
    mixed = mixed if z is None else mixed + weights[2] * z
    normed = rms_norm(mixed) if scale is None else scale.to(x.dtype) * rms_norm(mixed)
    return torch.cat((mixed, normed))


@pytest.mark.parametrize("width", [64, 96])
@pytest.mark.parametrize("has_scale", [False, True])
@pytest.mark.parametrize("num_streams", [2, 3])
def test_mix(num_streams: int, has_scale: bool, width: int) -> None:
    streams = [randn(3, 7, width, seed=seed) for seed in range(num_streams)]
    weights = 1 + 0.3 * randn(num_streams, width, seed=5, dtype=torch.float32)
    scale = torch.tensor(0.3, device=DEVICE) if has_scale else None

    def fast(*inputs: Tensor) -> Tensor:
        x, y, *z, weights_SD = inputs
        return torch.cat(fused_mix(x, y, z[0] if z else None, weights_SD, scale))

    def plain(*inputs: Tensor) -> Tensor:
        x, y, *z, weights_SD = inputs
        return plain_mix(x, y, z[0] if z else None, weights_SD, scale)

    exact = gradients_of(plain, *[stream.float() for stream in streams], weights)
    assert_as_near(gradients_of(fast, *streams, weights), gradients_of(plain, *streams, weights), exact)
    single = gradients_of(fast, *[stream.float() for stream in streams], weights)
    for got, wanted in zip(single, exact, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


def plain_heads(
    joint_BTW: Tensor, rotation: Rotation, gain_H: Tensor, num_kv_heads: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values as attention makes them of a joint product."""
    num_heads, dtype = len(gain_H), joint_BTW.dtype
    heads = joint_BTW.unflatten(-1, (num_heads + 2 * num_kv_heads, -1))
    q, k, v = heads.split([num_heads, num_kv_heads, num_kv_heads], dim=2)
    return rotate(rms_norm(q), rotation) * gain_H.to(dtype)[:, None], rotate(rms_norm(k), rotation), v


def rotation_in(dtype: torch.dtype, length: int, rotated: int) -> Rotation:
    """Angles that bfloat16 holds, so that all formats turn by the same."""
    angles = 3 * randn(length, rotated // 2, seed=7, dtype=torch.float32)
    return Rotation(*(part.to(BF16).to(dtype) for part in (angles.cos(), angles.sin())))


@pytest.mark.parametrize(
    ("num_heads", "num_kv_heads", "width", "rotated"),
    [(4, 2, 64, 64), (4, 4, 64, 16), (2, 2, 32, 32), (3, 1, 48, 48), (6, 3, 48, 20), (2, 1, 2, 2)],
)
def test_heads(num_heads: int, num_kv_heads: int, width: int, rotated: int) -> None:
    """Rows whose length is no power of two, and an upstream gradient of values that is not contiguous."""
    joint = randn(3, 11, (num_heads + 2 * num_kv_heads) * width)
    gain = 1.5 + 0.3 * randn(num_heads, seed=1, dtype=torch.float32)

    def joined(function: Callable[..., tuple[Tensor, ...]]) -> Callable[..., Tensor]:
        def run(joint: Tensor, gain: Tensor) -> Tensor:
            return torch.cat(function(joint, rotation_in(joint.dtype, 11, rotated), gain, num_kv_heads), dim=2)

        return run

    exact = gradients_of(joined(plain_heads), joint.double(), gain.double())
    exact = tuple(part.float() for part in exact)
    assert_as_near(
        gradients_of(joined(fused_heads), joint, gain), gradients_of(joined(plain_heads), joint, gain), exact
    )
    single = gradients_of(joined(fused_heads), joint.float(), gain)
    for got, wanted in zip(single, exact, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


def test_heads_where_programs_take_several_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """The way back, with a last tile that is not full."""
    monkeypatch.setattr("trainer.fused_heads.HEADS_BACK_PROGRAMS", 2)
    joint, gain = randn(2, 37, 3 * 8, dtype=torch.float32), torch.tensor([1.5], device=DEVICE)
    rotation = rotation_in(torch.float32, 37, 8)
    fast, plain = (
        gradients_of(lambda x, gain, form=form: torch.cat(form(x, rotation, gain, 1), 2), joint, gain)
        for form in (fused_heads, plain_heads)
    )
    for got, wanted in zip(fast, plain, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


def plain_mlp(x: Tensor, scale_O: Tensor, up: Tensor, down: Tensor, slope: float) -> Tensor:
    hidden = F.leaky_relu(F.linear(x, up.to(x.dtype)), slope).square()
    return scale_O.to(x.dtype) * F.linear(hidden, down.to(x.dtype))


def check_mlp(tokens: int, inputs: int, hidden: int, slope: float) -> None:
    x = randn(2, tokens // 2, inputs, dtype=HALF)
    scale = 1 + 0.1 * randn(inputs, seed=1, dtype=torch.float32)
    up = randn(hidden, inputs, seed=2, dtype=torch.float32) / inputs**0.5
    down = randn(inputs, hidden, seed=3, dtype=torch.float32) / hidden**0.5

    def fast(x: Tensor, scale: Tensor, up: Tensor, down: Tensor) -> Tensor:
        copies = up.detach().to(HALF), (scale[:, None] * down).detach().to(HALF)
        return fused_mlp(x, *copies, scale, up, down, slope)

    def plain(x: Tensor, scale: Tensor, up: Tensor, down: Tensor) -> Tensor:
        return plain_mlp(x, scale, up, down, slope)

    exact = gradients_of(plain, x.float(), scale, up, down)
    assert_as_near(gradients_of(fast, x, scale, up, down), gradients_of(plain, x, scale, up, down), exact)


@pytest.mark.parametrize("slope", [0.0, 0.5])
@pytest.mark.parametrize(("tokens", "inputs", "hidden"), [(160, 64, 264), (130, 128, 512)])
def test_mlp(tokens: int, inputs: int, hidden: int, slope: float) -> None:
    check_mlp(tokens, inputs, hidden, slope)


@pytest.mark.parametrize("slope", [0.0, 0.5])
@pytest.mark.parametrize(("tokens", "inputs", "hidden"), [(1100, 64, 264), (194, 192, 600)])
@pytest.mark.parametrize(
    "tile",
    [
        MlpTile(64, 128, 64, 4, 3, 1, parts=1, is_flat=True),
        MlpTile(128, 256, 64, 8, 3, 1, parts=2, is_flat=True),
        MlpTile(128, 256, 64, 8, 3, 1, parts=4, is_flat=True),
        MlpTile(128, 128, 64, 4, 3, 2, parts=2, is_flat=False),
    ],
)
def test_mlp_where_programs_make_several_tiles(
    tile: MlpTile, tokens: int, inputs: int, hidden: int, slope: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tokens and units that fill no whole number of tiles, and more tiles than programs."""
    monkeypatch.setattr("trainer.fused_mlp.UP_TILE", tile)
    monkeypatch.setattr("trainer.fused_mlp.BACK_TILE", tile)
    check_mlp(tokens, inputs, hidden, slope)


def test_scaled_copies_of_a_weight() -> None:
    x, scale = randn(2, 33, 64), 1 + 0.1 * randn(48, seed=1, dtype=torch.float32)
    weight = randn(48, 64, seed=2, dtype=torch.float32) / 8

    def fast(x: Tensor, scale: Tensor, weight: Tensor) -> Tensor:
        return copied_map(x, (scale[:, None] * weight).detach().to(x.dtype), scale, weight)

    def plain(x: Tensor, scale: Tensor, weight: Tensor) -> Tensor:
        return scale.to(x.dtype) * F.linear(x, weight.to(x.dtype))

    exact = gradients_of(plain, x.float(), scale, weight)
    assert_as_near(gradients_of(fast, x, scale, weight), gradients_of(plain, x, scale, weight), exact)


# Tiles of the MLP are too large for a multiprocessor in float32.
ALL = FastPaths(copies=True, mlp=DEVICE == "cpu", mix=True, heads=True, losses=True, muon=True)


@pytest.mark.parametrize("name", ["baseline", "april", "march", "rest"])
@pytest.mark.parametrize("backend", ["eager", "aot_eager", *(["inductor"] if DEVICE == "cuda" else [])])
def test_a_model_with_all_fast_paths_is_the_slow_one(name: str, backend: str) -> None:
    """In float32, whole and in compiled parts: kernels are one node each of a graph, whatever lies around them."""
    allow_recompiles()
    model = randomized(replace(EVERY_MODEL[name], dropout=0.0)).to(DEVICE)
    ids_BT = random_ids(2, 16).to(DEVICE)
    ids_BT[1, 5] = BOS_ID
    results: list[tuple[Tensor, ...]] = []
    for fast in (FastPaths(), ALL):
        model.take(fast)
        if backend != "eager" and fast == ALL:
            model.compile_parts(backend)
        loss = model.loss(ids_BT, ids_BT.roll(-1, 1), True, True)
        results.append((loss.detach(), *torch.autograd.grad(loss, [*model.parameters()], allow_unused=True)))
    for got, expected in zip(results[1], results[0], strict=True):
        if expected is not None:
            torch.testing.assert_close(got, expected, rtol=1e-2, atol=1e-4)
