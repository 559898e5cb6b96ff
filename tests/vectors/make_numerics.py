"""Makes protocols/vectors/numerics.json: python -m tests.vectors.make_numerics

One layer and a head of the exact classes, small enough to print: weights follow from a seed, and what comes out is
computed by the plain Python of `exact_model.py`. The engine is held to it by test_numerics_vectors.py.
"""

import json
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.vectors import exact_model as exact

FILE: Final = Path(__file__).parents[2] / "protocols" / "vectors" / "numerics.json"
SEED: Final = 11
HIDDEN: Final = 32
FEED_FORWARD: Final = 96
HEADS: Final = 4
KV_HEADS: Final = 2
HEAD_SIZE: Final = 48  # 32 and 16: groups of keys and values
VOCABULARY: Final = 40
EPS: Final = 1e-5
THETA: Final = 10_000.0
WINDOW: Final = 7  # positions, where there is a sliding one
SCALINGS: Final[tuple[dict[str, Any], ...]] = (
    {"rope_type": "linear", "factor": 3.0},
    {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64.0,
    },
)
POSITIONS: Final = 19  # past the first 16 of a page and of the lanes

Values = list[float]
Keep = Callable[[Values], Values]  # a key or value, and what will be read of it
CLASSES: Final[dict[str, Keep]] = {"i8g32-1": exact.halves, "i8g32k8-1": exact.widened}
SHAPES: Final = {
    "attention_norm": (HIDDEN,),
    "q": (HEADS * HEAD_SIZE, HIDDEN),
    "k": (KV_HEADS * HEAD_SIZE, HIDDEN),
    "v": (KV_HEADS * HEAD_SIZE, HIDDEN),
    "o": (HIDDEN, HEADS * HEAD_SIZE),
    "mlp_norm": (HIDDEN,),
    "gate": (FEED_FORWARD, HIDDEN),
    "up": (FEED_FORWARD, HIDDEN),
    "down": (HIDDEN, FEED_FORWARD),
    "norm": (HIDDEN,),
    "head": (VOCABULARY, HIDDEN),
}


@dataclass(frozen=True)
class Tensor:
    """bfloat16 values, row by row."""

    shape: tuple[int, ...]
    bits: list[int]

    @property
    def values(self) -> Values:
        return [struct.unpack("<f", struct.pack("<I", one << 16))[0] for one in self.bits]

    @property
    def rows(self) -> list[Values]:
        width, values = self.shape[-1], self.values
        return [values[at : at + width] for at in range(0, len(values), width)]


def tensors(rng: random.Random) -> dict[str, Tensor]:
    return {name: _tensor(rng, shape) for name, shape in SHAPES.items()}


def _tensor(rng: random.Random, shape: tuple[int, ...]) -> Tensor:
    count = shape[0] * (shape[1] if len(shape) > 1 else 1)
    middle, spread = (1.0, 0.25) if len(shape) == 1 else (0.0, 0.4)
    return Tensor(shape, [_bfloat16(rng.uniform(middle - spread, middle + spread)) for _ in range(count)])


def _bfloat16(x: float) -> int:
    return int(struct.unpack("<I", struct.pack("<f", x))[0]) >> 16


def given(rng: random.Random) -> list[Values]:
    """The rows that come in; one value far above the others, as models have it."""
    rows = [[exact.single(rng.gauss(0, 1)) for _ in range(HIDDEN)] for _ in range(POSITIONS)]
    for row in rows:
        row[5] = exact.single(row[5] * 60)
    return rows


@dataclass(frozen=True)
class Cache:
    """Keys and values of every key head, a position after the other."""

    keep: Keep
    window: int | None
    keys: list[list[Values]] = field(default_factory=lambda: [[] for _ in range(KV_HEADS)])
    values: list[list[Values]] = field(default_factory=lambda: [[] for _ in range(KV_HEADS)])


def layer(weights: dict[str, Tensor], rows: list[Values], keep: Keep, window: int | None = None) -> list[Values]:
    """inference.md, 5.1, 9."""
    matrices = {name: exact.weights(one.rows) for name, one in weights.items() if len(one.shape) == 2}
    cache = Cache(keep, window)
    return [_row(weights, matrices, row, at, cache) for at, row in enumerate(rows)]


def _row(
    weights: dict[str, Tensor], matrices: dict[str, exact.Matrix], row: Values, position: int, cache: Cache
) -> Values:
    hidden = exact.normed(row, weights["attention_norm"].values, EPS)
    queries, new_keys, new_values = (_heads(exact.product(matrices[name], hidden)) for name in "qkv")
    for head in range(KV_HEADS):
        cache.keys[head].append(cache.keep(exact.rotated(new_keys[head], THETA, position, 1.0)))
        cache.values[head].append(cache.keep(new_values[head]))
    seen: Values = []
    first = 0 if cache.window is None else max(0, position + 1 - cache.window)
    for number, query in enumerate(queries):
        head = number * KV_HEADS // HEADS
        factor = exact.single(1 / exact.single(HEAD_SIZE**0.5))
        turned = exact.rotated(query, THETA, position, factor)
        seen += exact.attention(turned, cache.keys[head][first:], cache.values[head][first:], first)
    row = _added(row, exact.product(matrices["o"], seen))
    hidden = exact.normed(row, weights["mlp_norm"].values, EPS)
    gate, up = (exact.product(matrices[name], hidden) for name in ("gate", "up"))
    fed = [exact.single(exact.silu(g) * u) for g, u in zip(gate, up, strict=True)]
    return _added(row, exact.product(matrices["down"], fed))


def _heads(values: Values) -> list[Values]:
    return [values[at : at + HEAD_SIZE] for at in range(0, len(values), HEAD_SIZE)]


def _added(a: Values, b: Values) -> Values:
    return [exact.single(x + y) for x, y in zip(a, b, strict=True)]


def logits(weights: dict[str, Tensor], row: Values) -> Values:
    return exact.product(exact.weights(weights["head"].rows), exact.normed(row, weights["norm"].values, EPS))


def results(weights: dict[str, Tensor], rows: list[Values], keep: Keep, window: int | None = None) -> dict[str, Any]:
    after = layer(weights, rows, keep, window)
    return {"after": [floats(row) for row in after], "logits": floats(logits(weights, after[-1]))}


def kept(rng: random.Random) -> list[dict[str, Any]]:
    """Keys or values in int8 (inference.md, 5.2), and those whose scale binary16 cannot hold."""
    normal = [rng.gauss(0, 1) for _ in range(HEAD_SIZE)]
    heads = {
        "usual values": normal,
        "a last group of 16 with larger values": normal[:32] + [100 * x for x in normal[32:]],
        "a group of zeros": [0.0] * 32 + normal[32:],
        "halves between integers go to the even one": [127.0, 0.5, 1.5, -2.5, -0.5, 126.5] + [0.0] * 10,
        "a scale that is subnormal": [2e-5 * x for x in normal],
        "values beyond 127 steps of a scale that was rounded down": [127 * 1.49 * 2.0**-24, -(2.0**-17)] + [0.0] * 14,
        "a scale that is just above zero": [127 * 1.001 * 2.0**-25, 2.0**-24] + [0.0] * 14,
        "a scale that rounds to zero": [127 * 2.0**-25, -(2.0**-19)] + [0.0] * 14,
        "the largest scale": [8_321_039.0, -65_504.0, 1.0] + [0.0] * 13,
        "a scale that is one too large": [0.0] * 15 + [-8_321_040.0],
        "a scale that is far too large": [3e38, *normal[1:]],
    }
    return [{"name": name, "rule": "INF-31", **_kept([exact.single(x) for x in head])} for name, head in heads.items()]


def failing() -> list[dict[str, Any]]:
    """Steps of the layer, in any exact class, that fail for a row (inference.md, INF-30)."""
    usual, rows = [1.0, -1.0] * (HIDDEN // 2), []
    for name, bad in (
        ("a sum of squares that is not finite", [2e19] * HIDDEN),
        ("one value whose square is not finite", [2e19, *usual[1:]]),
        ("a row after one that is well", [3e38] * HIDDEN),
    ):
        step = [bad] if "after" not in name else [usual, bad]
        rows.append({"name": name, "rule": "INF-30", "rows": [floats(row) for row in step], "expect": "engine"})
    return rows


def _kept(head: Values) -> dict[str, Any]:
    given = {"values": floats(head)}
    try:
        integers, scales = exact.integers(head)
    except OverflowError:
        return given | {"expect": "engine"}
    packed = struct.pack(f"<{len(integers)}b", *integers), struct.pack(f"<{len(scales)}e", *scales)
    return given | {"expect": "ok", "integers": packed[0].hex(), "scales": packed[1].hex()}


def floats(values: Values) -> str:
    return struct.pack(f"<{len(values)}f", *values).hex()


def make() -> dict[str, Any]:
    rng = random.Random(SEED)
    weights, rows = tensors(rng), given(rng)
    return {
        "spec": "inference.md",
        "seed": SEED,
        "made_by": "tests/vectors/make_numerics.py",
        "sizes": {
            "hidden": HIDDEN,
            "feed_forward": FEED_FORWARD,
            "heads": HEADS,
            "kv_heads": KV_HEADS,
            "head_size": HEAD_SIZE,
            "vocabulary": VOCABULARY,
            "norm_eps": EPS,
            "rope_theta": THETA,
        },
        "tensors": {
            name: {"shape": one.shape, "bf16": struct.pack(f"<{len(one.bits)}H", *one.bits).hex()}
            for name, one in weights.items()
        },
        "rows": [floats(row) for row in rows],
        "classes": {name: results(weights, rows, keep) for name, keep in CLASSES.items()},
        "window": {
            "sliding_window": WINDOW,
            "classes": {name: results(weights, rows, keep, WINDOW) for name, keep in CLASSES.items()},
        },
        "kept": kept(rng),
        "tiny": tiny(weights),
        "failing": failing(),
        "exp": [
            [x, floats([exact.exp(exact.single(x))])] for x in (-100.0, -86.0, -1.5, -0.1, 0.0, 0.3, 2.0, 86.0, 99.0)
        ],
        "angles": [
            [pair, position, floats(list(exact.angle(THETA, HEAD_SIZE, pair, position)))]
            for pair in (0, 1, 7)
            for position in (0, 1, 2, 100, 8191, 131071)
        ],
        "stretched": [{"rope_scaling": scaling, "angles": stretched(scaling)} for scaling in SCALINGS],
    }


def stretched(scaling: dict[str, Any]) -> list[list[Any]]:
    """Angles of short waves, of long ones and of those between."""
    return [
        [pair, position, floats(list(exact.angle(THETA, HEAD_SIZE, pair, position, scaling)))]
        for pair in (0, 2, 5, 7, 12)
        for position in (1, 100, 131071)
    ]


def tiny(weights: dict[str, Tensor]) -> list[dict[str, Any]]:
    """Rows whose normed values are about the magnitude below which all of a group are 0 (inference.md, 5.1, 2)."""
    below, above = 0, 0x3F800000  # bits of the row's largest magnitude: with the first all logits are 0
    while above - below > 1:
        middle = (below + above) // 2
        if any(logits(weights, _row_of(middle))):
            above = middle
        else:
            below = middle
    cases = {"the largest magnitude of the products' row is below 1e-30": below, "and not below": above}
    return [
        {"name": name, "row": floats(_row_of(bits)), "logits": floats(logits(weights, _row_of(bits)))}
        for name, bits in cases.items()
    ]


def _row_of(bits: int) -> Values:
    (most,) = struct.unpack("<f", struct.pack("<I", bits))
    return [exact.single(most * part / HIDDEN) for part in range(1, HIDDEN)] + [-most]


def render(vectors: dict[str, Any]) -> str:
    return json.dumps(vectors, indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(render(make()), encoding="utf-8")
