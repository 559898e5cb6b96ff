"""Makes protocols/vectors/numerics.json: python -m tests.vectors.make_numerics

One layer and a head of the class i8g32-1, small enough to print: its weights follow from a seed, and what comes out is
computed by the plain Python of `exact_model.py`. The engine is held to it by test_numerics_vectors.py.
"""

import json
import random
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.vectors import exact_model as exact

FILE: Final = Path(__file__).parents[2] / "protocols" / "vectors" / "numerics.json"
SEED: Final = 11
HIDDEN: Final = 64
FEED_FORWARD: Final = 96
HEADS: Final = 4
KV_HEADS: Final = 2
HEAD_SIZE: Final = 16
VOCABULARY: Final = 40
EPS: Final = 1e-5
THETA: Final = 10_000.0
POSITIONS: Final = 19  # past the first 16 of a page and of the lanes

Values = list[float]
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


def layer(weights: dict[str, Tensor], rows: list[Values]) -> list[Values]:
    """inference.md, 5.1, 9."""
    matrices = {name: exact.weights(one.rows) for name, one in weights.items() if len(one.shape) == 2}
    keys: list[list[Values]] = [[] for _ in range(KV_HEADS)]
    values: list[list[Values]] = [[] for _ in range(KV_HEADS)]
    return [_row(weights, matrices, row, at, keys, values) for at, row in enumerate(rows)]


def _row(
    weights: dict[str, Tensor],
    matrices: dict[str, exact.Matrix],
    row: Values,
    position: int,
    keys: list[list[Values]],
    values: list[list[Values]],
) -> Values:
    hidden = exact.normed(row, weights["attention_norm"].values, EPS)
    queries, new_keys, new_values = (_heads(exact.product(matrices[name], hidden)) for name in "qkv")
    for head in range(KV_HEADS):
        keys[head].append([exact.half(x) for x in exact.rotated(new_keys[head], THETA, position, 1.0)])
        values[head].append([exact.half(x) for x in new_values[head]])
    seen: Values = []
    for number, query in enumerate(queries):
        head = number * KV_HEADS // HEADS
        factor = exact.single(1 / exact.single(HEAD_SIZE**0.5))
        seen += exact.attention(exact.rotated(query, THETA, position, factor), keys[head], values[head])
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


def floats(values: Values) -> str:
    return struct.pack(f"<{len(values)}f", *values).hex()


def make() -> dict[str, Any]:
    rng = random.Random(SEED)
    weights, rows = tensors(rng), given(rng)
    after = layer(weights, rows)
    return {
        "spec": "inference.md",
        "seed": SEED,
        "made_by": "tests/vectors/make_numerics.py",
        "class": "i8g32-1",
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
        "after": [floats(row) for row in after],
        "logits": floats(logits(weights, after[-1])),
        "exp": [
            [x, floats([exact.exp(exact.single(x))])] for x in (-100.0, -86.0, -1.5, -0.1, 0.0, 0.3, 2.0, 86.0, 99.0)
        ],
        "angles": [
            [pair, position, floats(list(exact.angle(THETA, HEAD_SIZE, pair, position)))]
            for pair in (0, 1, 7)
            for position in (0, 1, 2, 100, 8191, 131071)
        ],
    }


def render(vectors: dict[str, Any]) -> str:
    return json.dumps(vectors, indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(render(make()), encoding="utf-8")
