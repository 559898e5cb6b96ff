"""Makes protocols/vectors/codecs.json and sampler.json: python -m tests.vectors.make_engine

Rows as a model has them (a few values far above the others), every way of spoiling one, and draws over vocabularies of
hundreds. They come from the same plain Python as the smaller ones of inference.json, and not from the engine.
"""

import json
import random
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from p2pinfer.core.records.draw import MILLIONTHS, Sampling
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.units import Codec, row_bytes
from tests.vectors.make_inference import decode_row, encode_row, float32, sample

SEED: Final = 3
FOLDER: Final = Path(__file__).parents[2] / "protocols" / "vectors"
ROW_CODECS: Final = (Codec.F32, Codec.BF16, Codec.Q8O4)

Case = dict[str, Any]


def codecs() -> dict[str, Any]:
    rng = random.Random(SEED)
    good = list(good_rows(rng))
    return _file([*good, *bad_rows(rng)])


def sampler() -> dict[str, Any]:
    rng = random.Random(SEED)
    return _file(list(draws(rng)))


def render(vectors: dict[str, Any]) -> str:
    return json.dumps(vectors, indent=1) + "\n"


def _file(cases: list[Case]) -> dict[str, Any]:
    return {"spec": "inference.md", "seed": SEED, "made_by": "tests/vectors/make_engine.py", "cases": cases}


def good_rows(rng: random.Random) -> Iterator[Case]:
    for width in (4, 63, 80, 128, 576):
        for spread in (0.02, 1.0, 40.0):
            rows = [_row(rng, width, spread) for _ in range(1 if width > 200 else 2)]
            for codec in ROW_CODECS:
                data = [encode_row(codec, row) for row in rows]
                yield {
                    "name": f"{len(rows)} of width {width}, spread {spread}, {codec.label}",
                    "codec": codec.label,
                    "width": width,
                    "count": len(rows),
                    "values": _written(rows).hex(),
                    "rows": b"".join(data).hex(),
                    "decodes": _written([decode_row(codec, one, width) for one in data]).hex(),
                    "expect": "ok",
                }


def _row(rng: random.Random, width: int, spread: float) -> list[float]:
    """Normal values, and every fortieth a hundred times larger."""
    return [float32(rng.gauss(0, spread) * (100 if rng.random() < 1 / 40 else 1)) for _ in range(width)]


def _written(rows: Sequence[Sequence[float]]) -> bytes:
    return b"".join(struct.pack(f"<{len(row)}f", *row) for row in rows)


def bad_rows(rng: random.Random) -> Iterator[Case]:
    """Good rows with one thing wrong."""
    width = 80
    rows = [_row(rng, width, 1.0), _row(rng, width, 1.0)]
    good = {codec: b"".join(encode_row(codec, row) for row in rows) for codec in ROW_CODECS}
    for codec, data in good.items():
        for size in (0, 1, row_bytes(codec, width) - 1, row_bytes(codec, width) + 1, len(data) - 1):
            yield _refused(f"{codec.label}: {size} bytes", codec, width, data[:size], Code.BAD_VALUES)
    for name, bits in (("infinity", 0x7F80), ("minus infinity", 0xFF80), ("NaN", 0x7FC0), ("minus NaN", 0xFFFF)):
        for at in (0, 79, 80, 159):
            for codec, item in ((Codec.F32, struct.pack("<I", bits << 16)), (Codec.BF16, struct.pack("<H", bits))):
                data = _put(good[codec], at * len(item), item)
                yield _refused(f"{codec.label}: {name} at value {at}", codec, width, data, Code.BAD_VALUES)
    data, row = good[Codec.Q8O4], row_bytes(Codec.Q8O4, width)
    for first in (0, row):
        for name, at, item in _spoils(width):
            spoilt = _put(data, first + at, item)
            yield _refused(f"q8o4: row {first // row}, {name}", Codec.Q8O4, width, spoilt, Code.BAD_VALUES)


def _spoils(width: int) -> Iterator[tuple[str, int, bytes]]:
    """What may be wrong in a row of q8o4: a name, where, and the bytes there."""
    scales = width
    places = scales + 2 * -(-width // 64)
    outliers = places + 8
    for at in (0, 41, width - 1):
        yield f"value {at} is -128", at, b"\x80"
    for group in (0, 1):
        for name, bits in (("infinite", 0x7C00), ("NaN", 0x7E01), ("negative", 0x9C00), ("minus zero", 0x8000)):
            yield f"scale {group} is {name}", scales + 2 * group, struct.pack("<H", bits)
    for name, chosen in (
        ("two places are one", (3, 9, 9, 20)),
        ("places descend", (20, 9, 4, 3)),
        ("the last place is below the others", (5, 6, 7, 4)),
        ("the last place is outside", (1, 2, 3, width)),
        ("all places are zero", (0, 0, 0, 0)),
    ):
        yield name, places, struct.pack("<4H", *chosen)
    for at in range(4):
        for name, bits in (("infinite", 0xFC00), ("NaN", 0x7FFF)):
            yield f"outlier {at} is {name}", outliers + 2 * at, struct.pack("<H", bits)


def _put(data: bytes, at: int, item: bytes) -> bytes:
    return data[:at] + item + data[at + len(item) :]


def _refused(name: str, codec: Codec, width: int, data: bytes, code: Code) -> Case:
    return {
        "name": name,
        "codec": codec.label,
        "width": width,
        "count": 2,
        "rows": data.hex(),
        "expect": code.label,
    }


def draws(rng: random.Random) -> Iterator[Case]:
    for size in (2, 211, 500):
        for kind in ("spread", "in steps"):
            logits = _logits(rng, size, kind)
            for sampling in _samplings(rng):
                position = rng.randrange(1, 8192)
                parameters = sampling.temperature, sampling.top_k, sampling.top_p, sampling.seed
                yield {
                    "name": f"{size} {kind}, temperature {sampling.temperature}, top_k {sampling.top_k}, "
                    f"top_p {sampling.top_p}, position {position}",
                    "logits": struct.pack(f"<{size}f", *logits).hex(),
                    "temperature": sampling.temperature,
                    "top_k": sampling.top_k,
                    "top_p": sampling.top_p,
                    "seed": sampling.seed,
                    "position": position,
                    "id": sample(logits, *parameters, position),
                }


def _logits(rng: random.Random, size: int, kind: str) -> Sequence[float]:
    """In steps, as bfloat16 gives them: many are equal."""
    values = [float32(rng.gauss(0, 4)) for _ in range(size)]
    return values if kind == "spread" else [round(value * 2) / 2 for value in values]


def _samplings(rng: random.Random) -> Iterator[Sampling]:
    yield Sampling(seed=rng.randrange(1 << 53))
    for temperature in (300_000, MILLIONTHS, 2_500_000):
        for top_k, top_p in ((0, MILLIONTHS), (40, MILLIONTHS), (0, 900_000), (40, 500_000)):
            yield Sampling(temperature, top_k, top_p, rng.randrange(1 << 53))


def main() -> None:
    (FOLDER / "codecs.json").write_text(render(codecs()), encoding="utf-8")
    (FOLDER / "sampler.json").write_text(render(sampler()), encoding="utf-8")


if __name__ == "__main__":
    main()
