"""Attention inside documents on a CUDA device: the kernel over bounds against the mask, one by one and in a model."""

import pytest
import torch
from tiny_models import APRIL, MARCH, TINY
from torch import Tensor

from trainer.documents import TOKENS_PER_DOCUMENT, Documents, attend, bounds_of, documents_of, mask_of
from trainer.fast import FastPaths
from trainer.layers import BOS_ID
from trainer.model import new_model
from trainer.model_config import ModelConfig

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
ROWS, LENGTH = 4, 640


def packed_ids(bos_share: float) -> Tensor:
    """Token ids with documents of random lengths, one begun by a row's last token."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(2, 64, (ROWS, LENGTH), generator=generator)
    ids[torch.rand(ids.shape, generator=generator) < bos_share] = BOS_ID
    ids[1, -1] = ids[2, 0] = BOS_ID
    return ids.cuda()


def heads(num_heads: int, head_dim: int, seed: int) -> Tensor:
    generator = torch.Generator("cuda").manual_seed(seed)
    x = torch.randn(ROWS, LENGTH, num_heads, head_dim, device="cuda", generator=generator)
    return x.bfloat16().requires_grad_()


@pytest.mark.parametrize("bos_share", [0.0, 0.0005, 0.0015])  # more documents than the bound are not told apart
@pytest.mark.parametrize(("num_kv_heads", "head_dim"), [(4, 64), (8, 64), (2, 72)])
def test_bounds_give_the_masks_outputs_and_gradients(num_kv_heads: int, head_dim: int, bos_share: float) -> None:
    ids = packed_ids(bos_share)
    q, k, v = heads(8, head_dim, 0), heads(num_kv_heads, head_dim, 1), heads(num_kv_heads, head_dim, 2)
    documents = documents_of(ids, head_dim, torch.bfloat16)
    assert documents.mask_B1TT is None
    fast = attend(q, k, v, documents, 0.0)
    upstream = torch.randn_like(fast)
    quick = torch.autograd.grad(fast, (q, k, v), upstream)
    exact = [x.detach().float().requires_grad_() for x in (q, k, v)]
    slow = attend(exact[0], exact[1], exact[2], Documents(mask_B1TT=mask_of(ids)), 0.0)
    gradients = torch.autograd.grad(slow, exact, upstream.float())
    torch.testing.assert_close(fast.float(), slow, atol=2e-2, rtol=2e-2)
    for got, expected in zip(quick, gradients, strict=True):
        assert (got.float() - expected).norm() < 0.02 * expected.norm()


def test_bounds_are_the_same_on_the_device() -> None:
    ids = packed_ids(0.03)
    assert torch.equal(bounds_of(ids).cpu(), bounds_of(ids.cpu()))


def test_other_formats_take_the_mask() -> None:
    ids = packed_ids(0.01)
    assert documents_of(ids, 64, torch.float32).bounds_S is None
    assert documents_of(ids, 36, torch.bfloat16).bounds_S is None


def test_dropout_inside_bounds_keeps_the_mean() -> None:
    """Values of one: a row of attention sums to one, and with dropout to one on average."""
    ids = packed_ids(0.005)
    q, k = heads(8, 64, 0), heads(4, 64, 1)
    y = attend(q, k, torch.ones_like(k), documents_of(ids, 64, torch.bfloat16), 0.25)
    assert y.float().std() > 0.01
    torch.testing.assert_close(y.float().mean(), torch.tensor(1.0, device="cuda"), atol=0.05, rtol=0)


@pytest.mark.parametrize("config", [TINY, APRIL, MARCH], ids=["baseline", "april", "march"])
@pytest.mark.parametrize("is_fast", [False, True])
def test_a_compiled_model_inside_documents_is_close_to_eager_float32(config: ModelConfig, is_fast: bool) -> None:
    """One graph for batches with other documents, forward and backward."""
    models = [new_model(config, dtype, 0).cuda() for dtype in (torch.float32, torch.bfloat16)]
    for model in models:
        with torch.no_grad():
            for name, parameter in sorted(model.named_parameters()):
                generator = torch.Generator("cuda").manual_seed(len(name))
                parameter.add_(torch.randn(parameter.shape, device="cuda", generator=generator), alpha=0.05)
    if is_fast:
        models[1].take(FastPaths(copies=True, mlp=True, mix=True, heads=True, losses=True))
    models[1].compile_parts()
    for bos_share in (0.0005, 0.002):
        ids = packed_ids(bos_share)
        assert int((ids[:, 1:] == BOS_ID).sum()) <= ids.numel() // TOKENS_PER_DOCUMENT, "more are not told apart"
        reference = models[0].loss(ids, ids.roll(-1, 1), True, True)
        fast = models[1].loss(ids, ids.roll(-1, 1), True, True)
        assert abs(float(fast.detach() - reference.detach())) < 5e-3 * float(reference.detach())
        reference.backward()
        fast.backward()
    for (name, slow), quick in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
        assert slow.grad is not None, name
        assert quick.grad is not None, name
        error = (quick.grad - slow.grad).norm() / (slow.grad.norm() + 1e-12)
        # A scalar or a gain a head sums many rounding errors of one sign and cancels most of what it sums.
        assert error < (0.1 if slow.ndim == 2 else 0.4), (name, float(error))
