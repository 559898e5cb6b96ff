"""Pages and how far sessions have come."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pinfer.core.sessions.pages import PAGE, Pages, Table, pages_for
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import EngineError, RemoteProtocolError


@pytest.mark.parametrize(("positions", "pages"), [(0, 0), (1, 1), (16, 1), (17, 2)])
def test_a_page_holds_16_positions(positions: int, pages: int) -> None:
    assert pages_for(positions) == pages


def test_pages_are_consecutive_where_they_can_be() -> None:
    pool = Pages(10)
    pool.reserve(3)
    assert pool.reserve(4) == (3, 4, 5, 6)
    assert pool.free == 3


def test_the_smallest_run_that_is_enough_is_taken() -> None:
    pool = Pages(10)
    first, _, third, _ = pool.reserve(4), pool.reserve(1), pool.reserve(2), pool.reserve(1)
    pool.release(first)
    pool.release(third)
    assert pool.reserve(2) == third


def test_scattered_pages_are_joined_when_no_run_is_enough() -> None:
    pool = Pages(6)
    owned = [pool.reserve(1) for _ in range(6)]
    for pages in owned[::2]:
        pool.release(pages)
    assert sorted(pool.reserve(3)) == [0, 2, 4]


def test_too_many_pages_are_refused_and_none_is_taken() -> None:
    pool = Pages(4)
    pool.reserve(3)
    with pytest.raises(EngineError, match="2 pages of KV cache wanted, 1 of 4 are free"):
        pool.reserve(2)
    assert pool.free == 1


def test_a_shared_page_is_free_when_its_last_holder_lets_go() -> None:
    pool = Pages(2)
    pages = pool.reserve(2)
    pool.share(pages)
    pool.release(pages)
    assert pool.free == 0
    pool.release(pages)
    assert pool.free == 2


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 6)), max_size=60))
def test_no_page_has_two_owners_and_none_is_lost(moves: list[tuple[bool, int]]) -> None:
    pool = Pages(20)
    held: list[tuple[int, ...]] = []
    for take, count in moves:
        if take and count <= pool.free:
            held.append(pool.reserve(count))
        elif not take and held:
            pool.release(held.pop(count % len(held)))
        owned = [page for pages in held for page in pages]
        assert len(owned) == len(set(owned))
        assert pool.free == 20 - len(owned)


def test_positions_are_written_in_order() -> None:
    table = Table((4, 9))
    table.write(0, 20)
    assert table.held == 20
    assert table.rows(14, 18) == [4 * PAGE + 14, 4 * PAGE + 15, 9 * PAGE, 9 * PAGE + 1]


def test_writing_at_an_earlier_position_ends_what_came_after() -> None:
    table = Table((0, 1), held=20)
    table.write(5, 1)
    assert table.held == 6


@pytest.mark.parametrize(("position", "count", "why"), [(21, 1, "after a gap"), (20, 13, "do not fit the 32")])
def test_a_gap_or_a_position_past_the_pages_is_refused_and_not_noted(position: int, count: int, why: str) -> None:
    table = Table((0, 1), held=20)
    with pytest.raises(RemoteProtocolError, match=why) as caught:
        table.write(position, count)
    assert caught.value.code is Code.BAD_POSITION
    assert table.held == 20


@pytest.mark.parametrize(
    ("pages", "positions", "start"),
    [((3, 4, 5), 48, 48), ((3, 4, 9), 32, 48), ((3, 4, 9), 33, None), ((5, 4, 6), 20, None), ((), 0, None)],
)
def test_a_run_is_found_where_the_pages_in_use_are_consecutive(
    pages: tuple[int, ...], positions: int, start: int | None
) -> None:
    assert Table(pages).run(positions) == start
