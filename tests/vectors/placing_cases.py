"""Cases of offer.json for what is passed on, how old, and for layers that a node must not leave (OFF-10, OFF-13)."""

from collections.abc import Iterable
from typing import Any, Final

from p2pinfer.core.values.units import ModelId, Numerics, Roles, Span
from tests.core.paid_route import MODEL, NODES, key, offer_of

Vector = dict[str, Any]
LAYERS: Final = 30
MINE: Final = (0, 10)


def passed() -> Iterable[Vector]:
    """An offer that came with an age, or was just signed here, and how old it is told, or not at all."""
    body = offer_of(NODES[0], Span(0, 10), Roles.HEAD).body.hex()
    for name, age_ms, after_ms, told_ms in (
        ("one's own, at once", None, 0, 50),
        ("one's own, until the next", None, 20_000, 20_050),
        ("one's own, in its last millisecond", None, 59_999, 60_049),
        ("one's own, past its life", None, 60_000, None),
        ("one's own, after a night", None, 28_800_000, None),
        ("another's, at once", 50, 0, 100),
        ("another's that came over many, later", 1_250, 10_000, 11_300),
        ("another's, in its last millisecond", 30_000, 29_999, 60_049),
        ("another's, past its life", 30_000, 30_000, None),
        ("another's that came in its last millisecond", 59_999, 1, None),
    ):
        yield {"name": name, "body": body, "age_ms": age_ms, "after_ms": after_ms, "told_ms": told_ms}


def leaving() -> Iterable[Vector]:
    """A node of layers 0 to 9 whose model lacks others, offers of other nodes, and what it must keep."""
    for name, others, keeps in (
        ("nobody else is there", [], MINE),
        ("another serves the same layers", [_other(0, 10)], None),
        ("another serves the same layers, in the last second of its offer", [_other(0, 10, age_s=59)], None),
        ("another's offer is past its life", [_other(0, 10, age_s=60)], MINE),
        ("another is only joining", [_other(0, 10, state=1)], MINE),
        ("another leaves", [_other(0, 10, state=2)], MINE),
        ("another serves them in another class", [_other(0, 10, numerics=Numerics.BF16_1)], MINE),
        ("another serves them of another model", [_other(0, 10, model=ModelId(bytes(32)))], MINE),
        ("two others serve half of the layers each", [_other(0, 5), _other(5, 10, number=2)], None),
        ("another serves all but the last one", [_other(0, 9)], (9, 10)),
        ("two others leave two in the middle", [_other(0, 4), _other(6, 10, number=2)], (4, 6)),
        ("two others are joining and serving", [_other(0, 10, state=1), _other(3, 10, number=2)], (0, 3)),
    ):
        rest = _other(10, 24, number=3)
        yield {
            "name": name,
            "layers": LAYERS,
            "model": MODEL.hex(),
            "numerics": Numerics.F32_1.value,
            "span": MINE,
            "offers": [*others, rest],
            "keeps": keeps,
        }


def _other(first: int, last: int, /, age_s: int = 0, number: int = 1, **changes: object) -> Vector:
    signed = offer_of(key(f"other {number}"), Span(first, last), Roles.MIDDLE, **changes)
    return {"body": signed.body.hex(), "age_s": age_s}
