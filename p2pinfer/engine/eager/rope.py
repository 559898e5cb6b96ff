"""Rotary positions (RoFormer, section 3.2), with the stretched frequencies of long contexts."""

import math

import torch
from torch import Tensor

from p2pinfer.core.models.model_config import ModelConfig, RopeScaling


class Rope:
    """Cosines and sines for positions from 0 on."""

    def __init__(self, config: ModelConfig, positions: int, device: torch.device, dtype: torch.dtype) -> None:
        frequencies = _frequencies(config.shape.head_size, config.rope_theta, config.rope_scaling)  # (head size / 2)
        angles = torch.arange(positions, dtype=torch.float32)[:, None] * frequencies
        cos, sin = angles.cos(), angles.sin()
        # the halves of a head rotate against each other: the sign goes into the table
        table = torch.stack([torch.cat([cos, cos], 1), torch.cat([-sin, sin], 1)], 1)
        self.table = table.to(device, dtype)  # (positions, cosines and sines, head size)


def rotate(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each head by the angle of its position: (positions, heads, head size); tables (positions, 1, head size)."""
    return torch.addcmul(heads * cos, heads.roll(heads.shape[-1] // 2, -1), sin)


def _frequencies(head_size: int, theta: float, scaling: RopeScaling | None) -> Tensor:
    """Radians per position."""
    plain = 1.0 / theta ** (torch.arange(0, head_size, 2, dtype=torch.int64).float() / head_size)
    if scaling is None:
        return plain
    if scaling.kind == "linear":
        return plain / scaling.factor
    return _llama3(plain, scaling)


def _llama3(plain: Tensor, scaling: RopeScaling) -> Tensor:
    """Long waves are stretched, short ones are not, those between are mixed (Llama 3.1)."""
    turns = scaling.original_context * plain / (2 * math.pi)  # of each frequency over the original context
    width = scaling.high_freq_factor - scaling.low_freq_factor
    keep = ((turns - scaling.low_freq_factor) / width).clamp(0.0, 1.0)
    return keep * plain + (1 - keep) * plain / scaling.factor
