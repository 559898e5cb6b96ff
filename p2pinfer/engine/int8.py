"""Linear layers in int8: one scale for each row of the weights and of what goes in (protocols/README.md, i8h64-1).

`torch._int_mm` multiplies on every device. What it demands on CUDA is met on CPU too, so that the same code runs there:
more than 16 rows, inputs and outputs in multiples of 8, and the second factor stored by columns.
"""

from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from p2pinfer.core.values.errors import ModelError
from p2pinfer.engine.hadamard import group_of, hadamard, turn
from p2pinfer.engine.linear import Linear

LARGEST: Final = 127  # of an int8 value; -128 is not used, so that both signs are alike
ROWS: Final = 32  # rows of a product come in multiples: CUDA takes no fewer than 17, and its tiles are 32
SIZES: Final = 8  # inputs and outputs come in multiples
SLICE: Final = 4096  # rows of a weight that are turned at once: in float32 a whole head would be gigabytes


def check_products(device: torch.device) -> None:
    """Raises ModelError for a device that does not multiply int8, as GPUs before Turing do not."""
    try:
        torch._int_mm(*(torch.zeros(ROWS, ROWS, dtype=torch.int8, device=device) for _ in range(2)))
    except RuntimeError as error:
        raise ModelError(f"{device} does not multiply int8, use another numerics class: {error}") from None


class Int8Linear(Linear):
    """Turns and rounds its rows, multiplies integers, and scales the sums in float32."""

    def __init__(self, weight: Tensor, bias: Tensor | None, device: torch.device) -> None:
        """weight: (outputs, inputs), wherever it is stored; inputs in a multiple of SIZES"""
        outputs, inputs = weight.shape
        assert inputs % SIZES == 0, f"{inputs} inputs"
        self._matrix = hadamard(group_of(inputs), device)
        slices = [round_rows(turn(rows.to(device, torch.float32), self._matrix)) for rows in torch.split(weight, SLICE)]
        self._weight = F.pad(torch.cat([whole for whole, _ in slices]), (0, 0, 0, -outputs % SIZES))
        self._scales = torch.cat([scales for _, scales in slices]).T.contiguous()  # (1, outputs)
        self._bias = None if bias is None else bias.to(device, torch.float32)
        held = (self._weight, self._scales, self._matrix, self._bias)
        self.bytes = sum(tensor.nbytes for tensor in held if tensor is not None)

    def __call__(self, rows: Tensor) -> Tensor:
        whole, scales = round_rows(turn(rows.float(), self._matrix))
        padded = F.pad(whole, (0, 0, 0, -len(rows) % ROWS))
        sums = torch._int_mm(padded, self._weight.T)[: len(rows), : self._scales.shape[1]]
        result = sums * scales * self._scales
        return (result if self._bias is None else result + self._bias).to(rows.dtype)


def round_rows(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Float rows as int8 rows and a scale for each, (rows, 1).

    The scale of a row that holds a value that is not finite is not finite either, and so is whatever it scales.
    """
    scales = (rows.abs().amax(1, keepdim=True) / LARGEST).clamp_min(torch.finfo(torch.float32).tiny)
    return (rows / scales).round().to(torch.int8), scales
