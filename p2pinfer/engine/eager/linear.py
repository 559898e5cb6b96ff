"""Linear layers: weights laid out once for the kernel that reads them fastest."""

from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from p2pinfer.core.values.units import Numerics

ONEDNN: Final = "onednn"  # weights prepacked: bf16 takes half the time of aten's on CPU
ATEN: Final = "aten"


def best_kernel(device: torch.device, numerics: Numerics) -> str:
    """The kernel for a device and a numerics class."""
    return ONEDNN if device.type == "cpu" and numerics is Numerics.BF16_1 and _prepacks_bf16() else ATEN


def _prepacks_bf16() -> bool:
    """oneDNN's operators are not in every build of torch, and take bf16 on CPUs with AVX-512 or its like alone."""
    there = hasattr(torch.ops.mkldnn, "_linear_pointwise") and torch._C._has_mkldnn
    return bool(there and torch.ops.mkldnn._is_mkldnn_bf16_supported())


class Linear:
    """y = x · weightᵀ + bias, for rows x, in the dtype of the weight.

    bytes: of memory held for weights
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, kernel: str) -> None:
        """weight: (outputs, inputs), on the device and in the dtype that is computed in"""
        self.bytes = weight.nbytes + (0 if bias is None else bias.nbytes)
        self._onednn = kernel == ONEDNN
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, 1) if self._onednn else weight.contiguous()
        self._bias = bias

    def __call__(self, rows: Tensor) -> Tensor:
        """(rows, inputs) -> (rows, outputs)"""
        if self._onednn:
            result: Tensor = torch.ops.mkldnn._linear_pointwise.default(rows, self._weight, self._bias, "none", [], "")
            return result
        return F.linear(rows, self._weight, self._bias)
