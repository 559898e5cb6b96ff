"""A check that tensors hold numbers only: one infinite value or NaN reaches others through masks and sums."""

from math import isfinite

import torch
from torch import Tensor


def are_finite(values: Tensor) -> bool:
    """Return True if all values are finite.

    One sum says so. It may also overflow where no value does, and then each value is looked at.
    """
    return isfinite(values.sum(dtype=torch.float32).item()) or bool(torch.isfinite(values).all())
