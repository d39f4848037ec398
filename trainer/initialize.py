"""Where weights start. A CPU generator gives the same start on every device.

Shapes: V vocabulary, D model width, O output and I input width, K singular values.
"""

from collections.abc import Generator
from contextlib import contextmanager
from typing import assert_never

import torch
from torch import Tensor, nn

from trainer.model_config import EmbedInit, MatrixInit, ModelConfig, ResidMixInit

SMALLEST_ORTHOGONAL = 64  # smaller sides start uniform, as in the scripts that use orthogonal starts


def embedding_start(config: ModelConfig, generator: torch.Generator) -> Tensor:
    """The token embedding (V, D) at the start.

    Source: OVERTONE PR 60; POWER_LAW PR 340, whose norm is std * sqrt(D) instead of about std * sqrt(V D).
    """
    vocab, dim, std = config.vocab_size, config.model_dim, config.embed_init_std
    match config.embed_init:
        case EmbedInit.NORMAL:
            return torch.empty(vocab, dim).normal_(0.0, std, generator=generator)
        case EmbedInit.OVERTONE:
            left_VK, values_K, right_KD = decomposed(torch.empty(vocab, dim).normal_(0.0, std, generator=generator))
            return left_VK * (values_K[0] * falling(len(values_K))) @ right_KD
        case EmbedInit.POWER_LAW:
            left_VK = decomposed(torch.empty(vocab, dim).normal_(generator=generator))[0]
            right_DD = decomposed(torch.empty(dim, dim).normal_(generator=generator))[2]
            falling_K = falling(left_VK.size(1))
            return left_VK * (falling_K * (std * dim**0.5 / falling_K.norm())) @ right_DD[: len(falling_K)]
        case _:
            assert_never(config.embed_init)


def decomposed(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Left bases as columns, singular values from the largest down, right bases as rows."""
    with one_thread():
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    return left, values, right


def falling(num_values: int) -> Tensor:
    """The first powers k ** -0.5, from k = 1."""
    return torch.arange(1, num_values + 1, dtype=torch.float32) ** -0.5


def matrix_start(out_features: int, in_features: int, init: MatrixInit, generator: torch.Generator) -> Tensor:
    """A matrix (O, I) that does not start at zero: torch's own default, or orthogonal where it is large enough."""
    weight_OI = torch.empty(out_features, in_features)
    if init is MatrixInit.ORTHOGONAL and min(weight_OI.shape) >= SMALLEST_ORTHOGONAL:
        with one_thread():
            return nn.init.orthogonal_(weight_OI, generator=generator)
    bound = in_features**-0.5
    return weight_OI.uniform_(-bound, bound, generator=generator)


@contextmanager
def one_thread() -> Generator[None]:
    """Within it, torch computes on one thread of the CPU.

    Decompositions of matrices this small gain next to nothing by more, and threads that wait for each other where other
    processes have the cores take minutes: 260 s for a model's start with 16 of them on 2 cores, 1.2 s with one.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def resid_mix_start(config: ModelConfig, layer: int) -> Tensor:
    """What of the stream and what of the embedding (2, D) enters a layer at the start."""
    match config.resid_mix_init:
        case ResidMixInit.IDENTITY:
            share = torch.tensor(1.0)
        case ResidMixInit.PHASE_TRANSITION:
            depth = layer / max(1, config.num_layers - 1)
            share = torch.sigmoid(torch.tensor(3.0 * (depth - 0.5)))
        case _:
            assert_never(config.resid_mix_init)
    return torch.stack((share, 1.0 - share))[:, None].repeat(1, config.model_dim)
