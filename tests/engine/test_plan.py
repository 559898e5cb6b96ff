"""Which steps of a batch are looked at together."""

from collections.abc import Iterable
from dataclasses import replace

import torch

from p2pinfer.core.models.config_json import parse_config
from p2pinfer.core.sessions.pages import Table
from p2pinfer.engine.backend import NOTHING, Asked, Part
from p2pinfer.engine.eager.attention import Reading, Together
from p2pinfer.engine.eager.plan import plan_batch
from p2pinfer.engine.eager.rope import Rope

from .test_loading import PLAIN

POOL = 640  # positions


def readings(*parts: Part, window: int | None = None) -> list[tuple[int, ...]]:
    """(rows, start, stop) of steps looked at alone, (rows, start, distance, length) of those together."""
    config = replace(parse_config(PLAIN), window=window)
    plan = plan_batch(config, Rope(config, config.shape.context, torch.device("cpu"), torch.float32), POOL, parts)
    return [_numbers(reading) for reading in plan.readings]


def _numbers(reading: Reading | Together) -> tuple[int, ...]:
    if isinstance(reading, Together):
        return reading.count, reading.start, reading.distance, reading.length
    if isinstance(reading.place, slice):
        return reading.count, reading.place.start, reading.place.stop
    return reading.count, *reading.place.tolist()


def decode(first_page: int, position: int, pages: int = 4) -> Part:
    return part(range(first_page, first_page + pages), range(position, position + 1))


def part(pages: Iterable[int], positions: range) -> Part:
    """A plan looks neither at the slot nor at what is computed."""
    return Part(0, Table(tuple(pages)), positions, NOTHING, Asked.NOTHING)


def test_sessions_of_one_size_are_looked_at_together() -> None:
    assert readings(decode(0, 40), decode(4, 50), decode(8, 45)) == [(3, 0, 64, 51)]


def test_a_hole_between_sessions_parts_them() -> None:
    parts = [decode(at, 50) for at in (0, 4, 8, 20, 24, 36)]
    assert readings(*parts) == [(3, 0, 64, 51), (2, 320, 64, 51), (1, 576, 627)]


def test_lengths_too_different_are_not_looked_at_together() -> None:
    assert readings(decode(0, 9), decode(4, 9), decode(8, 60)) == [(2, 0, 64, 10), (1, 128, 189)]


def test_a_view_past_the_end_of_the_pool_is_not_taken() -> None:
    assert readings(decode(34, 60), decode(38, 20, pages=2)) == [(1, 544, 605), (1, 608, 629)]


def test_a_chunk_is_looked_at_alone() -> None:
    chunk = part((8, 9), range(3, 20))
    assert readings(decode(0, 20), decode(4, 20), chunk) == [(2, 0, 64, 21), (17, 128, 148)]


def test_scattered_pages_are_read_one_by_one() -> None:
    scattered = part((5, 2), range(17, 18))
    assert readings(scattered) == [(1, *range(80, 96), 32, 33)]


def test_a_window_leaves_out_what_lies_before_it() -> None:
    assert readings(decode(0, 40), decode(4, 50), window=8) == [(2, 33, 74, 8)]


def test_a_session_shorter_than_the_window_is_seen_whole() -> None:
    assert readings(part((0, 1), range(5)), window=8) == [(5, 0, 5)]
