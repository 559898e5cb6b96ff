"""Tensors on their way into a store: read a few rows at a time, rounded to bf16, held to be finite.

Rounding is to nearest, ties to even, in integers, so that it is the same on every machine (manifest.md, 5.2).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Final

import numpy as np
from numpy.typing import NDArray

from p2pinfer.core.values.errors import ModelError

CHUNK: Final = 1 << 22  # values rounded at once: 16 MB as float32

Bits = NDArray[np.uint16]  # bf16 values, as the integers their bits are


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of a source.

    rows:  the bits of rows [first, last), finite or not
    heads: of rows that llama.cpp interleaved for its rotary positions; 0 if it did not
    """

    shape: tuple[int, ...]
    rows: Callable[[int, int], Bits]
    heads: int = 0

    def read(self) -> Bits:
        """All of it."""
        result = np.empty(self.shape, dtype=np.uint16)
        for first, last in _chunks(self.shape):
            result[first:last] = self.rows(first, last)
        return unpermute(result, self.heads) if self.heads else result


def to_bf16(values: NDArray[np.float32]) -> Bits:
    """The nearest bf16 of each value, the even one of two; what is no number stays none."""
    bits = values.view(np.uint32)
    rounded = bits + (0x7FFF + ((bits >> 16) & 1))  # may turn a NaN's bits into something else
    rounded = np.where(np.isnan(values), np.uint32(0x7FC00000), rounded)
    return (rounded >> 16).astype(np.uint16)


def check_finite(name: str, bits: Bits) -> None:
    """Raise ModelError if a value is infinite (or became so in rounding) or no number."""
    bad = int(np.count_nonzero((bits & 0x7F80) == 0x7F80))
    if bad:
        raise ModelError(f"{name} has {bad} values that are not finite: the source is damaged")


def unpermute(bits: Bits, heads: int) -> Bits:
    """Rotary halves side by side, as Hugging Face has them, from llama.cpp's interleaved rows."""
    rows = bits.shape[0]
    pairs = bits.reshape(heads, rows // heads // 2, 2, *bits.shape[1:])
    return pairs.swapaxes(1, 2).reshape(bits.shape)


def _chunks(shape: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    step = max(1, CHUNK // prod(shape[1:]))
    for first in range(0, shape[0], step):
        yield first, min(first + step, shape[0])
