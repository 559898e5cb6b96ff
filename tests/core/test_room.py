"""Who finds room at a full node, and who gives it up."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pinfer.core.codes import Code
from p2pinfer.core.errors import Refused
from p2pinfer.core.room import FIRST_ROWS_S, KEY_PART, RESTING_S, HeldSession, give_way
from p2pinfer.core.units import PeerKey


def key(number: int) -> PeerKey:
    return PeerKey(number.to_bytes(32, "big"))


ASKS = HeldSession(slot=0, client=key(99), newcomer=True, started=False, idle_s=0.0, pages=2)


def idle(slot: int, client: int = 0, idle_s: float = FIRST_ROWS_S, started: bool = False) -> HeldSession:
    return HeldSession(slot, key(client or slot), True, started, idle_s, 2)


def test_where_there_is_room_nobody_gives_way() -> None:
    held = [idle(slot, idle_s=100) for slot in range(1, 4)]
    assert give_way(held, ASKS, sessions=4, free_pages=2) == []


def test_the_longest_idle_newcomer_gives_its_place() -> None:
    held = [idle(1, idle_s=3), idle(2, idle_s=5), idle(3, idle_s=4)]
    assert give_way(held, ASKS, sessions=3, free_pages=9) == [2]


def test_who_holds_most_gives_first() -> None:
    held = [idle(1, idle_s=50), idle(2, client=7, idle_s=3), idle(3, client=7, idle_s=4)]
    assert give_way(held, ASKS, sessions=3, free_pages=9) == [3]


def test_as_many_give_way_as_pages_need() -> None:
    held = [idle(1, idle_s=3), idle(2, idle_s=5), idle(3, idle_s=4)]
    assert give_way(held, replace(ASKS, pages=5), sessions=9, free_pages=1) == [2, 3]


@pytest.mark.parametrize(
    "held",
    [
        idle(1, idle_s=FIRST_ROWS_S - 0.1),
        idle(1, idle_s=RESTING_S - 0.1, started=True),
        replace(idle(1, idle_s=1000), newcomer=False),
    ],
)
def test_who_has_begun_or_has_credit_or_just_came_keeps_its_place(held: HeldSession) -> None:
    with pytest.raises(Refused) as refusal:
        give_way([held], ASKS, sessions=1, free_pages=9)
    assert (refusal.value.code, refusal.value.retry_s) == (Code.BUSY, 1.0)


def test_nobody_gives_way_for_one_who_would_not_fit_even_so() -> None:
    with pytest.raises(Refused):
        give_way([idle(1), idle(2)], replace(ASKS, pages=9), sessions=9, free_pages=1)


def test_a_newcomer_has_a_part_of_the_sessions_at_most() -> None:
    held = [replace(idle(slot, client=99), idle_s=0.0) for slot in range(1, 5)]
    with pytest.raises(Refused) as refusal:
        give_way(held, ASKS, sessions=4 * KEY_PART, free_pages=9)
    assert refusal.value.code is Code.BUSY
    assert give_way(held, replace(ASKS, newcomer=False), sessions=4 * KEY_PART, free_pages=9) == []
    assert give_way([], ASKS, sessions=1, free_pages=9) == []


HELD = st.lists(st.builds(idle, st.integers(1, 9), st.integers(1, 3), st.floats(0, 60), st.booleans()), max_size=9)


@given(HELD, st.integers(1, 9), st.integers(0, 9))
def test_room_is_found_or_nothing_happens(held: list[HeldSession], sessions: int, free_pages: int) -> None:
    held = [replace(one, slot=slot) for slot, one in enumerate(held, 1)]
    try:
        going = give_way(held, replace(ASKS, newcomer=False), sessions=sessions, free_pages=free_pages)
    except Refused:
        return
    leaves = [one for one in held if one.slot in going]
    assert all(one.may_give_way for one in leaves)
    assert len(held) - len(leaves) < sessions
    assert free_pages + sum(one.pages for one in leaves) >= ASKS.pages
