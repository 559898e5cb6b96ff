"""bfloat16: the upper half of a binary32, rounded to nearest, ties to even (protocols/manifest.md, 5.2).

In integers, so that it is the same on every machine.
"""

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.uint16]  # values in bfloat16, as the integers their bits are


def to_bf16(values: NDArray[np.float32]) -> Bits:
    """The nearest of each value, the even one of two; what is no number stays none."""
    bits = values.view(np.uint32)
    rounded = bits + (0x7FFF + ((bits >> 16) & 1))  # may turn a NaN's bits into something else
    rounded = np.where(np.isnan(values), np.uint32(0x7FC00000), rounded)
    return (rounded >> 16).astype(np.uint16)


def widened(bits: Bits) -> NDArray[np.float32]:
    """The same values in binary32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)
