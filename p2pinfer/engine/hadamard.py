"""The rotation before int8: each group of a row's values is turned by a Hadamard matrix (QuaRot, section 4).

A row's scale is its largest value, and rows of transformers have a few that are far larger than the others. Turned,
what was one value's is spread over its group, and the scale falls. Both factors of a product are turned, and as the
matrix is orthogonal the product stays what it was: (x R) · (w R)ᵀ = x · wᵀ.
"""

from math import gcd
from typing import Final

import torch
from torch import Tensor

GROUP: Final = 64  # values turned together; sizes of models are multiples of it, but not of 128


def group_of(size: int) -> int:
    """Values turned together in rows of this size: the largest power of two that divides it, at most GROUP."""
    return gcd(size, GROUP)


def hadamard(group: int, device: torch.device) -> Tensor:
    """Sylvester's matrix of a power of two, made orthogonal: (group, group), its own inverse."""
    signs = torch.ones(1, 1)
    while len(signs) < group:
        signs = torch.cat([torch.cat([signs, signs], 1), torch.cat([signs, -signs], 1)])
    return torch.div(signs, group**0.5).to(device)


def turn(rows: Tensor, matrix: Tensor) -> Tensor:
    """Turn every group of each row: (rows, size) in float32, size a multiple of the matrix's."""
    return torch.mm(rows.reshape(-1, len(matrix)), matrix).view(rows.shape)
