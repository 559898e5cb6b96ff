"""The place and the time that a client is told which waits for room."""

from collections.abc import Sequence
from random import Random

import pytest

from p2pinfer.core.money.budget import RETRY_S
from p2pinfer.core.room.queue import LATE_S, MAX_RETRY_S, MAX_TOLD_S, USUAL_S
from p2pinfer.core.room.room import Room

from .room_crowd import Crowd, busy_room
from .test_room import FEW, FULL, HELD_S, PAGES, called, refused, session, ticket_of

SOME_S = 3.0  # a session
SHORT_S = 2.0  # who waits for less than this is told the least that anybody is told


def some(lots: Random) -> float:
    return lots.uniform(2 / 3, 4 / 3) * SOME_S


def alike(count: int, streams: int = 1) -> list[Crowd]:
    return [Crowd(f"n{number}", streams, some) for number in range(count)]


MANY = Crowd("many", 30, some)


@pytest.mark.parametrize(
    ("sessions", "crowds", "until_s"),
    [
        (1, alike(5), 120),
        (4, alike(12), 100),
        (16, alike(40), 50),
        (8, alike(2, 10), 100),
        (4, [MANY], 100),
        (4, [MANY, *alike(4)], 300),
    ],
)
def test_a_wait_is_as_long_as_was_told(sessions: int, crowds: Sequence[Crowd], until_s: float) -> None:
    """Once all have come: nobody knows of those who come later, nor how long sessions last before any has ended."""
    room = busy_room(sessions)
    room.run(crowds, until_s)
    told = [(told_s, waited_s) for _, told_s, waited_s in room.waits if told_s is not None and waited_s > SHORT_S]
    ratios = sorted(waited_s / told_s for told_s, waited_s in told[len(told) // 3 :])
    assert len(ratios) > 15
    assert 2 / 3 < ratios[len(ratios) // 2] < 3 / 2
    assert ratios[len(ratios) // 10] > 1 / 2
    assert ratios[-1 - len(ratios) // 10] < 2


def ended(room: Room, *lasted_s: float) -> None:
    for each_s in lasted_s:
        room.note_end(FEW, ticket_of(FEW), 0.0, held_s=each_s, worked=True)


def test_it_follows_from_how_long_sessions_lasted() -> None:
    room = Room(8, PAGES)
    assert refused(room, FULL, session(20, 90, "a")).retry_s == max(RETRY_S, USUAL_S / 8)
    ended(room, 20.0, 60.0)
    told = refused(room, FULL, session(21, 91, "b"))
    assert (told.before, told.retry_s) == (1, 2 * 40.0 / 8)


def test_it_follows_from_how_much_of_all_room_one_gets_who_has_others_of_its_own_before_it() -> None:
    room = Room(8, PAGES)
    for number in range(4):
        refused(room, FULL, session(20 + number, 90, "a"))
    for number in range(16):
        one = session(60 + number, 90, "a") if number % 8 == 0 else session(60 + number, 200 + number, f"net {number}")
        room.note_end(one, ticket_of(one), 0.0, held_s=16.0, worked=True)
    assert refused(room, FULL, session(30, 90, "a")).retry_s == 4 * 8 * 16.0 / 8


def test_there_are_bounds() -> None:
    room = Room(8, PAGES)
    ended(room, HELD_S)
    assert refused(room, FULL, session(20, 90, "a")).retry_s == RETRY_S
    ended(room, *[1e6] * 8)
    assert refused(room, FULL, session(21, 91, "b")).retry_s == MAX_TOLD_S


def test_a_place_lasts_until_its_client_has_to_come_back_however_long_the_wait() -> None:
    room = Room(8, PAGES)
    ended(room, 1e6)
    refused(room, FULL, FEW)
    assert called(room, FULL, now=MAX_RETRY_S + LATE_S - 0.1) == []
    assert room.is_awaited
    assert called(room, FULL, now=MAX_RETRY_S + LATE_S) == []
    assert not room.is_awaited


def test_those_who_have_fewer_turns_come_between_those_of_one_with_many_requests() -> None:
    room = Room(8, PAGES)
    for number in range(3):
        refused(room, FULL, session(20 + number, 90, "a"))
    refused(room, FULL, session(40, 91, "b"))
    assert refused(room, FULL, session(41, 92, "c")).before == 2  # the first of each
    assert refused(room, FULL, session(42, 91, "b")).before == 4  # and the second of the first one
    assert refused(room, FULL, session(43, 90, "a")).before == 6
