"""Who finds room at a full node, and who gives it up."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pinfer.core.codes import Code
from p2pinfer.core.errors import Refused
from p2pinfer.core.room import FIRST_ROWS_S, RESTING_S, ROOM_PART, WAITING_S, HeldSession, Room, is_at_rest
from p2pinfer.core.units import PeerKey

PAGES = 640


def key(number: int) -> PeerKey:
    return PeerKey(number.to_bytes(32, "big"))


def session(slot: int, client: int, network: str | None = None) -> HeldSession:
    """In use, and of a client with credit."""
    return HeldSession(slot, key(client), network, newcomer=False, own=False, rests=False, idle_s=0.0, pages=2)


def idle(slot: int, client: int = 0, network: str | None = None, idle_s: float = RESTING_S) -> HeldSession:
    return replace(session(slot, client or slot, network), rests=True, idle_s=idle_s)


ASKS = session(0, 99)


def found(held: Sequence[HeldSession], asks: HeldSession = ASKS, *, sessions: int = 0, free: int = 9) -> list[int]:
    """Who gives way at a node of so many sessions, or that is full."""
    return Room(sessions or len(held), PAGES).find(held, asks, free, 0.0)


def refused(room: Room, held: Sequence[HeldSession], asks: HeldSession, free: int = 9, now: float = 0.0) -> Refused:
    with pytest.raises(Refused) as refusal:
        room.find(held, asks, free, now)
    assert (refusal.value.code, refusal.value.retry_s) == (Code.BUSY, 1.0)
    return refusal.value


@pytest.mark.parametrize(
    ("idle_s", "started", "rests"),
    [
        (FIRST_ROWS_S - 0.1, False, False),
        (FIRST_ROWS_S, False, True),
        (RESTING_S - 0.1, True, False),
        (RESTING_S, True, True),
    ],
)
def test_a_session_is_at_rest_after_a_while(idle_s: float, started: bool, rests: bool) -> None:
    assert is_at_rest(idle_s, started=started) == rests


def test_whose_client_is_away_gives_way_before_all_others() -> None:
    """INF-43; but not to one who holds more."""
    away = replace(session(1, 1), rests=True, alone=True)
    hog = [idle(slot, 7) for slot in range(2, 6)]
    assert found([away, *hog, replace(idle(8), newcomer=True)]) == [1]
    assert found([*hog, away]) == [1]
    refused(Room(4, PAGES), [away, session(2, 99), session(3, 99), session(4, 99)], ASKS)


def test_where_there_is_room_nobody_gives_way() -> None:
    assert found([idle(1), idle(2), idle(3)], sessions=4, free=2) == []


def test_one_who_is_alone_may_have_everything() -> None:
    assert found([session(slot, 99, "a") for slot in range(1, 64)], session(64, 99, "a"), sessions=64) == []


@pytest.mark.parametrize("newcomer", [True, False])
def test_idle_sessions_give_way_whoever_they_belong_to(newcomer: bool) -> None:
    held = [replace(idle(slot, client=7), newcomer=newcomer) for slot in range(1, 65)]
    assert found(held) == [64]
    assert found(held, replace(ASKS, newcomer=True)) == [64]


def test_the_longest_idle_gives_its_place() -> None:
    assert found([idle(1, idle_s=13), idle(2, idle_s=15), idle(3, idle_s=14)]) == [2]


def test_newcomers_give_way_first() -> None:
    assert found([replace(idle(1), newcomer=True), idle(2, client=7), idle(3, client=7)]) == [1]


def test_who_holds_most_gives_way_first() -> None:
    assert found([idle(1, idle_s=50), idle(2, client=7), idle(3, client=7)]) == [3]


def test_a_network_that_holds_most_gives_way_first_whatever_its_keys() -> None:
    assert found([idle(1, network="a", idle_s=50), idle(2, network="b"), idle(3, network="b")]) == [3]


def test_who_has_more_than_its_part_gives_way_before_newcomers() -> None:
    hoard = [idle(slot, client=7) for slot in range(1, 16 // ROOM_PART + 2)]
    others = [replace(idle(slot), newcomer=True) for slot in range(20, 20 + 16 - len(hoard))]
    assert found([*hoard, *others]) == [len(hoard)]


def test_much_memory_counts_as_many_sessions_do() -> None:
    large = replace(idle(3, client=7), pages=PAGES // 2)
    assert found([idle(1, client=8), idle(2, client=8), large], replace(ASKS, pages=20), sessions=64) == [3]


def test_as_many_give_way_as_pages_need() -> None:
    held = [idle(1, idle_s=13), idle(2, idle_s=15), idle(3, idle_s=14)]
    assert found(held, replace(ASKS, pages=5), sessions=9, free=1) == [2, 3]


def test_what_is_in_use_or_the_owners_own_stays() -> None:
    held = [session(1, 7), replace(idle(2), own=True)]
    refusal = refused(Room(2, PAGES), held, ASKS)
    assert str(refusal) == "2 of 2 sessions are open, 2 pages of KV cache are asked for and 9 free"


def test_nobody_gives_way_for_one_who_would_not_fit_even_so() -> None:
    refused(Room(9, PAGES), [idle(1), idle(2)], replace(ASKS, pages=9), free=1)


def test_nobody_gives_way_to_one_who_holds_more() -> None:
    held = [idle(1, network="a"), *(session(slot, slot, "b") for slot in range(2, 9))]
    refused(Room(8, PAGES), held, session(9, 99, "b"))
    assert found(held, session(9, 99, "c")) == [1]


def test_the_owner_holds_nothing_against_itself() -> None:
    own = replace(ASKS, own=True)
    assert found([*(replace(own, slot=slot) for slot in range(1, 5)), idle(5)], own) == [5]


def test_keys_of_one_network_are_compared_with_each_other() -> None:
    """A client behind one address with somebody who hoards finds room all the same, and does not give way to him."""
    held = [idle(1, network="a"), *(idle(slot, 7, "a") for slot in range(2, 9))]
    assert found(held, session(9, 99, "a")) == [8]
    held = [idle(1, network="a"), *(session(slot, 7, "a") for slot in range(2, 9))]
    refused(Room(8, PAGES), held, session(9, 7, "a"))


# What becomes free


FULL = [session(slot, slot, "many" if slot > 1 else "one") for slot in range(1, 9)]


@pytest.mark.parametrize("wait_s", [0.0, WAITING_S - 0.1])
def test_what_becomes_free_is_kept_for_the_one_who_was_refused(wait_s: float) -> None:
    room = Room(8, PAGES)
    refused(room, FULL, session(9, 99, "few"))
    refusal = refused(room, FULL[:-1], session(10, 50, "many"), now=wait_s)
    assert str(refusal) == "what is free is kept for a client that holds less"
    assert room.find(FULL[:-1], session(9, 99, "few"), 9, wait_s) == []
    assert room.find(FULL[:-2], session(10, 50, "many"), 9, wait_s) == []  # he waits no more


def test_it_is_not_kept_for_long() -> None:
    room = Room(8, PAGES)
    refused(room, FULL, session(9, 99, "few"))
    assert room.find(FULL[:-1], session(10, 50, "many"), 9, WAITING_S) == []


def test_it_is_kept_from_nobody_who_holds_as_little_and_not_from_the_owner() -> None:
    room = Room(8, PAGES)
    refused(room, FULL, session(9, 99, "few"))
    for asks in (session(10, 50, "third"), replace(session(10, 50, "many"), own=True)):
        assert room.find(FULL[:-1], asks, 9, 1.0) == []


def test_one_who_asks_for_much_keeps_nothing_from_those_who_hold_little() -> None:
    room = Room(8, PAGES)
    refused(room, FULL[:2], replace(session(9, 99, "few"), pages=PAGES))
    assert room.find(FULL[:2], session(10, 50, "many"), 9, 1.0) == []


def test_who_holds_more_does_not_take_the_place_of_one_who_waits() -> None:
    room = Room(8, PAGES)
    refused(room, FULL, session(9, 99, "few"))
    refused(room, FULL, session(10, 50, "many"), now=1.0)
    refused(room, FULL[:-1], session(11, 51, "many"), now=2.0)


def test_one_who_opens_and_closes_all_the_time_keeps_nobody_out() -> None:
    """His sessions are never at rest, and he asks for each place as soon as it is free."""
    room = Room(8, PAGES)
    refused(room, held := [session(slot, 7, "a") for slot in range(1, 9)], session(9, 99, "b"))
    refused(room, held[1:], session(10, 7, "a"), now=0.5)
    assert room.find(held[1:], session(9, 99, "b"), 9, 1.5) == []


HELD = st.lists(
    st.builds(
        HeldSession,
        slot=st.integers(1, 9),
        client=st.integers(1, 3).map(key),
        network=st.sampled_from([None, "a", "b"]),
        newcomer=st.booleans(),
        own=st.booleans(),
        rests=st.booleans(),
        idle_s=st.floats(0, 60),
        pages=st.integers(1, 9),
    ),
    max_size=9,
)


@given(HELD, st.integers(1, 9), st.integers(0, 9))
def test_room_is_found_or_nothing_happens(held: list[HeldSession], sessions: int, free_pages: int) -> None:
    held = [replace(one, slot=slot) for slot, one in enumerate(held, 1)]
    try:
        going = Room(sessions, PAGES).find(held, ASKS, free_pages, 0.0)
    except Refused:
        return
    leaves = [one for one in held if one.slot in going]
    assert all(one.rests and not one.own for one in leaves)
    assert len(held) - len(leaves) < sessions
    assert free_pages + sum(one.pages for one in leaves) >= ASKS.pages
