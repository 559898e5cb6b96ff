"""Room shared by time: who had more than its share comes later, and gives way in the end."""

from dataclasses import replace
from random import Random

import pytest

from p2pinfer.core.room.excess import EXCESS_STEP_S, MOST_EXCESS_S, SLICE_S, Excess
from p2pinfer.core.room.holdings import HeldSession, Holdings
from p2pinfer.core.values.units import PeerKey

from .room_crowd import Crowd, Lasts, busy_room

SHORT_S = 10.0
LONG_S = 900.0
PAGES = 640


def short(lots: Random) -> float:
    return lots.uniform(0.7, 1.3) * SHORT_S


def long(lots: Random) -> float:
    return lots.uniform(0.9, 1.0) * LONG_S


def steady(seconds: float) -> Lasts:
    return lambda lots: lots.uniform(0.7, 1.3) * seconds


def crowds(count: int, lasts: Lasts = short, streams: int = 1, from_s: float = 0.0) -> list[Crowd]:
    return [Crowd(f"n{number}", streams, lasts, from_s) for number in range(count)]


@pytest.mark.parametrize(
    ("sessions", "others", "until_s", "waits_s"),
    [
        (1, 1, 900, 2 * MOST_EXCESS_S),
        (1, 4, 900, 1.3 * MOST_EXCESS_S),
        (4, 20, 400, 2 * SLICE_S),
        (16, 20, 150, SLICE_S),
    ],
)
def test_who_took_an_empty_node_with_sessions_that_never_rest_does_not_keep_it(
    sessions: int, others: int, until_s: float, waits_s: float
) -> None:
    """It holds everything, and asks for as much again."""
    room = busy_room(sessions)
    room.run([Crowd("hog", 2 * sessions, long), *crowds(others, streams=2, from_s=5.0)], until_s)
    hog_s = room.had_s["hog"] - room.had_s.total() / (others + 1)
    assert hog_s <= MOST_EXCESS_S + sessions * 2 * SLICE_S
    assert min(waited_s for who, _, waited_s in room.waits if who != "hog") <= waits_s + 5


def test_time_is_shared_where_turns_would_not_share_it() -> None:
    """One whose sessions are ten times as long as others' has no more than they; and none is cut short."""
    room = busy_room(2)
    room.run([*crowds(5), Crowd("long", 1, steady(10 * SHORT_S))], 3_000)
    shares = {who: had_s / room.had_s.total() for who, had_s in room.had_s.items()}
    assert shares["long"] == pytest.approx(1 / 6, abs=0.04)
    assert not room.cut


def test_sessions_of_one_length_are_never_ended_for_others() -> None:
    for sessions, others in ((1, 5), (4, 12)):
        room = busy_room(sessions)
        room.run(crowds(others), 900)
        assert not room.cut
        assert max(room.had_s.values()) <= 1.2 * min(room.had_s.values())


def test_a_long_answer_at_a_node_with_room_for_all_but_one_is_not_ended_for_minutes() -> None:
    room = busy_room(8)
    room.run([*crowds(8, long), Crowd("late", 1, short, from_s=5.0)], 600)
    assert not room.cut


def test_who_asks_for_much_at_once_loses_no_session_to_one_that_finds_room_soon() -> None:
    """Its sessions end all the time, and none of them has to be cut short for that."""
    room = busy_room(16)
    room.run([Crowd("many", 32, steady(60.0)), *crowds(3)], 300)
    assert not room.cut


# What is counted


def key(number: int) -> PeerKey:
    return PeerKey(number.to_bytes(32, "big"))


def session(client: int, network: str | None = None, held_s: float = SLICE_S) -> HeldSession:
    return HeldSession(client, key(client), network, False, False, False, 0.0, 2, held_s=held_s)


def looked(excess: Excess, held: list[HeldSession], waiting: list[HeldSession], now: float) -> Holdings:
    holdings = Holdings(held, 4, PAGES)
    excess.look(held, waiting, holdings, now)
    return holdings


def test_what_one_holds_beyond_its_share_counts_while_others_wait_and_is_taken_off_again() -> None:
    excess, hog, other = Excess(4), session(1, "a"), session(2, "b")
    held = [hog] * 4
    looked(excess, held, [], 0.0)
    looked(excess, held, [other], 100.0)
    assert excess.steps("a") == 0  # nobody waited
    looked(excess, [hog, hog], [other], 110.0)
    assert excess.steps("a") == excess.steps(key(1)) == 2 * 10.0 / EXCESS_STEP_S
    looked(excess, [hog], [other], 120.0)  # it held its share
    assert excess.steps("a") == 2
    looked(excess, [], [], 130.0)
    assert excess.steps("a") == 1
    looked(excess, [], [], 131.0)
    looked(excess, [], [], 135.0)
    assert excess.steps("a") == 0


@pytest.mark.parametrize(
    ("after_s", "held_s", "left", "may"),
    [
        (MOST_EXCESS_S / 2, SLICE_S, 4, True),
        (MOST_EXCESS_S / 2 - 1, SLICE_S, 4, False),
        (MOST_EXCESS_S / 2, SLICE_S - 1, 4, False),
        (MOST_EXCESS_S / 2, SLICE_S, 2, False),
    ],
    ids=["enough", "too little", "a young session", "no more than its share"],
)
def test_a_session_in_use_gives_way_when_its_client_had_much(
    after_s: float, held_s: float, left: int, may: bool
) -> None:
    excess, hog, other = Excess(4), session(1, "a", held_s), session(2, "b")
    looked(excess, [hog] * 4, [other], 0.0)
    looked(excess, [hog] * 4, [other], after_s)
    holdings = looked(excess, [hog] * left, [other], after_s)
    assert (excess.is_much(hog, 1.0) and excess.may_end(hog, other, holdings)) == may


def test_keys_of_one_network_share_what_it_has() -> None:
    """And a crowd of keys in one network takes nothing from another."""
    excess, alone = Excess(4), session(1, "a")
    crowd = [session(10 + number, "b") for number in range(40)]
    held = [alone, alone, crowd[0], crowd[0]]
    for now in (0.0, 1_000.0):
        holdings = looked(excess, held, crowd[1:], now)
    assert (excess.steps("a"), excess.steps(key(1)), excess.steps("b")) == (0, 0, 0)
    assert excess.may_end(crowd[0], crowd[1], holdings)
    assert not excess.may_end(crowd[0], crowd[0], holdings)
    assert not excess.may_end(crowd[0], alone, holdings)


def test_on_the_own_machine_keys_share() -> None:
    excess, hog, other = Excess(4), replace(session(1), network=None), session(2)
    for now in (0.0, MOST_EXCESS_S):
        holdings = looked(excess, [hog] * 4, [other], now)
    assert excess.may_end(hog, other, holdings)


def test_what_the_owner_holds_is_not_shared() -> None:
    excess, owner, hog, other = Excess(4), replace(session(3, "c"), own=True), session(1, "a"), session(2, "b")
    looked(excess, [owner, owner, hog, hog], [other], 0.0)
    looked(excess, [owner, owner, hog, hog], [other], 2 * EXCESS_STEP_S)
    assert (excess.steps("a"), excess.steps("c")) == (2, 0)


def test_a_large_session_has_as_long_as_a_small_one() -> None:
    """It has three sessions' room, and is beyond its share by one."""
    excess, large, other = Excess(4), replace(session(1, "a"), pages=3 * PAGES // 4), session(2, "b")
    looked(excess, [large], [other], 0.0)
    for now, much in ((3 * MOST_EXCESS_S - 1, False), (3 * MOST_EXCESS_S, True)):
        holdings = looked(excess, [large], [other], now)
        assert holdings.weigh(large) == 3
        assert excess.is_much(large, 3.0) == much
        assert excess.may_end(large, other, holdings) == much
