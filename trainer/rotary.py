"""Rotary positions. Shapes: B batch, T time, H heads, E head width, F rotated pairs of channels."""

from typing import NamedTuple

import torch
from torch import Tensor

from trainer.model_config import ModelConfig


class Rotation(NamedTuple):
    """Cosines and sines of every position's angles, in the format they are used in."""

    cos_TF: Tensor
    sin_TF: Tensor


def rotate(x_BTHE: Tensor, rotation: Rotation) -> Tensor:
    """Queries or keys whose first 2 F channels are turned by their position, in the half-split form.

    Source: arXiv 2104.09864; on part of the channels, PR 315.
    """
    cos, sin = rotation.cos_TF[:, None], rotation.sin_TF[:, None]
    width = 2 * cos.size(-1)
    first, second = x_BTHE[..., :width].chunk(2, dim=-1)
    turned = (first * cos + second * sin, second * cos - first * sin)
    return torch.cat(turned if width == x_BTHE.size(-1) else (*turned, x_BTHE[..., width:]), dim=-1)


def rotation_of(num_positions: int, config: ModelConfig, device: torch.device, dtype: torch.dtype) -> Rotation:
    """The rotation of positions 0 to num_positions - 1; angles are float32 whatever the format of the result."""
    width, base = config.rotated_dims, rotary_base(num_positions, config)
    frequencies_F = base ** -(torch.arange(0, width, 2, dtype=torch.float32, device=device) / width)
    angles_TF = torch.outer(torch.arange(num_positions, dtype=torch.float32, device=device), frequencies_F)
    return Rotation(angles_TF.cos().to(dtype), angles_TF.sin().to(dtype))


def rotary_base(num_positions: int, config: ModelConfig) -> float:
    """The base of the angles, which grows with sequences beyond rope_ntk_length so that the slowest angle fits them.

    Source: NTK-aware scaling, base * (T / T0) ** (r / (r - 2)) for r rotated channels.
    """
    trained, width = config.rope_ntk_length, config.rotated_dims
    if trained is None or num_positions <= trained:
        return config.rope_base
    return config.rope_base * (num_positions / trained) ** (width / (width - 2))
