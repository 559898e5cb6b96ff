"""Cosines and sines of every position, the same bits on every machine (protocols/inference.md, "i8g32-1").

Math libraries differ in their last bits, so none is asked. A frequency is a fixed-point fraction of a turn, 64 bits of
it; a position's angle is their product, whole turns dropped, exactly; its sine and cosine are polynomials in binary64.
"""

from decimal import Context, Decimal
from math import factorial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from p2pinfer.core.models.model_config import ModelConfig, RopeScaling

Angles = NDArray[np.float32]  # (positions, head size / 2)

DIGITS: Final = Context(prec=40)  # of a frequency; its exp and ln are correctly rounded
TURN: Final = Decimal("6.283185307179586476925286766559005768394")
QUARTER: Final = np.uint64(1 << 62)
EIGHTH: Final = np.uint64(1 << 61)
RADIANS: Final = 2.0**-64 * 6.283185307179586
SINE: Final = tuple((-1) ** n / factorial(2 * n + 1) for n in range(8))
COSINE: Final = tuple((-1) ** n / factorial(2 * n) for n in range(9))


def rotary_tables(config: ModelConfig, positions: int) -> tuple[Angles, Angles]:
    """Cosines and sines for positions from 0 on."""
    steps = np.array(phases(config), np.uint64)
    angles = np.arange(positions, dtype=np.uint64)[:, None] * steps  # modulo a turn
    quarters = (angles + EIGHTH) // QUARTER
    rest = (angles - quarters * QUARTER).view(np.int64).astype(np.float64) * RADIANS  # within an eighth of a turn
    square = rest * rest
    sine, cosine = rest * _polynomial(SINE, square), _polynomial(COSINE, square)
    turned = quarters % np.uint64(4)
    odd = turned % np.uint64(2) == 1
    cosines = np.where(odd, sine, cosine) * np.where((turned == 1) | (turned == 2), -1.0, 1.0)
    sines = np.where(odd, cosine, sine) * np.where(turned >= 2, -1.0, 1.0)
    return cosines.astype(np.float32), sines.astype(np.float32)


def phases(config: ModelConfig) -> list[int]:
    """Return what a position adds to each angle, in turns x 2^64, whole turns dropped."""
    size, theta = config.shape.head_size, DIGITS.ln(Decimal(config.rope_theta))
    plain = [
        DIGITS.exp(DIGITS.multiply(theta, DIGITS.divide(Decimal(-2 * i), Decimal(size)))) for i in range(size // 2)
    ]
    radians = [_stretched(frequency, config.rope_scaling) for frequency in plain]
    return [_rounded(DIGITS.multiply(DIGITS.divide(one, TURN), Decimal(1 << 64))) % (1 << 64) for one in radians]


def _rounded(value: Decimal) -> int:
    return int(value.to_integral_value(rounding="ROUND_HALF_EVEN"))


def _stretched(frequency: Decimal, scaling: RopeScaling | None) -> Decimal:
    """Radians a position, as a long context wants them (as in `engine/eager/rope.py`)."""
    if scaling is None:
        return frequency
    slow = DIGITS.divide(frequency, Decimal(scaling.factor))
    if scaling.kind == "linear":
        return slow
    low, high = Decimal(scaling.low_freq_factor), Decimal(scaling.high_freq_factor)
    turns = DIGITS.divide(DIGITS.multiply(Decimal(scaling.original_context), frequency), TURN)
    ramp = DIGITS.divide(DIGITS.subtract(turns, low), DIGITS.subtract(high, low))
    keep = min(max(ramp, Decimal(0)), Decimal(1))
    lost = DIGITS.subtract(Decimal(1), keep)
    return DIGITS.add(DIGITS.multiply(keep, frequency), DIGITS.multiply(lost, slow))


def _polynomial(coefficients: tuple[float, ...], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Horner's scheme, each operation rounded."""
    value = np.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        value = value * x + coefficient
    return value
