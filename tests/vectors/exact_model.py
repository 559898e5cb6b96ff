"""The exact numerics classes in plain Python, written from the text of protocols/inference.md 5.1 and 5.2, and slow.

Numbers are Python floats that hold binary32 values; `single` rounds a binary64 result once more, which is right for a
sum, a product, a quotient and a root of binary32 values (Figueroa 1995), and `fused` is exact by fractions.
"""

import math
import struct
from collections.abc import Mapping, Sequence
from decimal import Context, Decimal
from fractions import Fraction
from typing import Any, Final

GROUP: Final = 32
LANES: Final = 16
TURN: Final = Decimal("6.283185307179586476925286766559005768394")
EXP: Final = (
    *(1.535336188319500e-4, 1.339887440266574e-3, 9.618437357674640e-3, 5.550332471162809e-2),
    *(2.402264791363012e-1, 6.931472028550421e-1, 1.0),
)

Vector = list[float]
Matrix = list[tuple[list[int], Vector]]  # outputs: their int8 weights and the scales of their groups


def single(x: float) -> float:
    """The nearest binary32."""
    return float(struct.unpack("<f", struct.pack("<f", x))[0])


def half(x: float) -> float:
    """The nearest binary16."""
    return float(struct.unpack("<e", struct.pack("<e", x))[0])


def fused(a: float, b: float, c: float) -> float:
    """a x b + c, rounded once to binary32."""
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    if not exact:
        return a * b + c  # the sign of a zero
    near = single(float(exact))  # twice rounded: right but for a tie that the first rounding made
    below, above = (_next(near, way) for way in (-1, 1))
    return min((near, below, above), key=lambda one: (abs(Fraction(one) - exact), _bits(one) & 1))


def _bits(x: float) -> int:
    return int(struct.unpack("<I", struct.pack("<f", x))[0])


def _next(x: float, way: int) -> float:
    """The binary32 beside x."""
    bits = _bits(x)
    if not bits & 0x7FFFFFFF:
        return way * 2.0**-149
    bits += way if not bits >> 31 else -way
    return float(struct.unpack("<f", struct.pack("<I", bits))[0])


def lane_sum(lanes: Vector) -> float:
    while len(lanes) > 1:
        middle = len(lanes) // 2
        lanes = [single(a + b) for a, b in zip(lanes[:middle], lanes[middle:], strict=True)]
    return lanes[0]


def weights(rows: Sequence[Vector]) -> Matrix:
    """1."""
    return [_weights(row) for row in rows]


def _weights(row: Vector) -> tuple[list[int], Vector]:
    values: list[int] = []
    scales: Vector = []
    for at in range(0, len(row), GROUP):
        group = row[at : at + GROUP]
        scale = half(min(single(max(map(abs, group)) / 127), 65504.0))
        scales.append(scale)
        values += [_integer(x, scale) for x in group]
    return values, scales


def _integer(x: float, scale: float) -> int:
    return max(-127, min(127, round(single(x / scale)))) if scale else 0


def quantised(row: Vector) -> tuple[list[int], Vector]:
    """2."""
    values: list[int] = []
    scales: Vector = []
    for at in range(0, len(row), GROUP):
        most = max(map(abs, row[at : at + GROUP]))
        if most < single(1e-30):
            values += [0] * GROUP
            scales.append(0.0)
            continue
        steps = single(127 / most)
        values += [round(single(x * steps)) for x in row[at : at + GROUP]]
        scales.append(single(most / 127))
    return values, scales


def product(matrix: Matrix, row: Vector) -> Vector:
    """2 and 3, without bias."""
    activations, steps = quantised(row)
    outputs = []
    for values, scales in matrix:
        total = 0.0
        for group, (scale, step) in enumerate(zip(scales, steps, strict=True)):
            part = slice(group * GROUP, (group + 1) * GROUP)
            dot = sum(w * x for w, x in zip(values[part], activations[part], strict=True))
            total = fused(float(dot), single(scale * step), total)
        outputs.append(total)
    return outputs


def normed(row: Vector, weight: Vector, eps: float) -> Vector:
    """4."""
    lanes = [0.0] * LANES
    for at, x in enumerate(row):
        lanes[at % LANES] = fused(x, x, lanes[at % LANES])
    mean = single(single(lane_sum(lanes) / len(row)) + single(eps))
    factor = single(1 / single(math.sqrt(mean)))
    return [single(single(x * factor) * w) for x, w in zip(row, weight, strict=True)]


def angle(
    theta: float, size: int, pair: int, position: int, scaling: Mapping[str, Any] | None = None
) -> tuple[float, float]:
    """5: cosine and sine. scaling: `rope_scaling` of the model's config.json"""
    digits = Context(prec=40)
    log = digits.ln(Decimal(theta))
    frequency = digits.exp(digits.multiply(log, digits.divide(Decimal(-2 * pair), Decimal(size))))
    if scaling is not None:
        frequency = _stretched(digits, frequency, {name: Decimal(x) for name, x in scaling.items() if type(x) is float})
    turns = digits.multiply(digits.divide(frequency, TURN), Decimal(1 << 64))
    whole = position * int(turns.to_integral_value(rounding="ROUND_HALF_EVEN")) % (1 << 64)
    quarter = (whole + (1 << 61)) >> 62
    rest = float(whole - (quarter << 62)) * (2.0**-64 * 6.283185307179586)
    square = rest * rest
    sine = rest * _horner([(-1) ** n / math.factorial(2 * n + 1) for n in range(8)], square)
    cosine = _horner([(-1) ** n / math.factorial(2 * n) for n in range(9)], square)
    turned = [(cosine, sine), (-sine, cosine), (-cosine, -sine), (sine, -cosine)][quarter % 4]
    return single(turned[0]), single(turned[1])


def _stretched(digits: Context, w: Decimal, scaling: Mapping[str, Decimal]) -> Decimal:
    slow = digits.divide(w, scaling["factor"])
    if "low_freq_factor" not in scaling:
        return slow
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    turns = digits.divide(digits.multiply(scaling["original_max_position_embeddings"], w), TURN)
    k = digits.divide(digits.subtract(turns, low), digits.subtract(high, low))
    k = min(max(k, Decimal(0)), Decimal(1))
    return digits.add(digits.multiply(k, w), digits.multiply(digits.subtract(Decimal(1), k), slow))


def _horner(coefficients: Vector, x: float) -> float:
    value = coefficients[-1]
    for coefficient in reversed(coefficients[:-1]):
        value = value * x + coefficient
    return value


def rotated(head: Vector, theta: float, position: int, factor: float) -> Vector:
    """6."""
    middle = len(head) // 2
    low, high = [], []
    for pair, (x, y) in enumerate(zip(head[:middle], head[middle:], strict=True)):
        cosine, sine = angle(theta, len(head), pair, position)
        low.append(single(single(single(x * cosine) - single(y * sine)) * factor))
        high.append(single(single(single(y * cosine) + single(x * sine)) * factor))
    return low + high


def halves(head: Vector) -> Vector:
    """6: what is read of a key or value in i8g32-1."""
    return [half(x) for x in head]


def integers(head: Vector) -> tuple[list[int], Vector]:
    """5.2, 1 and 2: a key or value, and the scales of its groups. Raises OverflowError where INF-31 says it fails."""
    values: list[int] = []
    scales: Vector = []
    for at in range(0, len(head), GROUP):
        group = head[at : at + GROUP]
        scales.append(half(single(max(map(abs, group)) / 127)))
        values += [_integer(x, scales[-1]) for x in group]
    return values, scales


def widened(head: Vector) -> Vector:
    """5.2, 3: what is read of a key or value in i8g32k8-1."""
    values, scales = integers(head)
    return [single(value * scales[at // GROUP]) for at, value in enumerate(values)]


def exp(x: float) -> float:
    """8."""
    twos = single(max(-86.0, min(86.0, x)) * single(1.44269504))
    whole = float(round(twos))
    rest = single(twos - whole)
    value = single(EXP[0])
    for coefficient in EXP[1:]:
        value = fused(value, rest, single(coefficient))
    return single(value * 2.0**whole)


def silu(x: float) -> float:
    return single(x / single(1 + exp(-x)))


def attention(query: Vector, keys: Sequence[Vector], values: Sequence[Vector], first: int = 0) -> Vector:
    """7. keys and values: of the positions from `first` on, the query's own last"""
    scores = []
    for key in keys:
        even = odd = 0.0
        for d in range(0, len(query), 2):
            even = fused(key[d], query[d], even)
            odd = fused(key[d + 1], query[d + 1], odd)
        scores.append(single(even + odd))
    shares = [exp(single(score - max(scores))) for score in scores]
    lanes = [0.0] * LANES
    for position, share in enumerate(shares, first):
        lanes[position % LANES] = single(lanes[position % LANES] + share)
    seen = [0.0] * len(query)
    for share, value in zip(shares, values, strict=True):
        seen = [fused(share, x, total) for x, total in zip(value, seen, strict=True)]
    return [single(total * single(1 / lane_sum(lanes))) for total in seen]
