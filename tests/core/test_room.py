"""Who finds room at a full node, and who gives it up."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pinfer.core.room.free_room import ROOM_PART
from p2pinfer.core.room.holdings import HeldSession
from p2pinfer.core.room.last_turns import LEAST_WASTE_S, MOST_WASTE_S, TURN_S, WASTE, LastTurns
from p2pinfer.core.room.overdue import HOLD_BACK_PART, PASSED
from p2pinfer.core.room.queue import (
    BACK_S,
    CAME_S,
    KEY_PLACES,
    LATE_S,
    NETWORK_PLACES,
    NO_TICKET,
    PLACES,
    Visit,
    new_ticket,
)
from p2pinfer.core.room.room import FIRST_ROWS_S, MAX_CALLED, RESTING_S, Room, is_at_rest
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import Refused
from p2pinfer.core.values.units import PeerKey, SessionId

PAGES = 640
NOW_MS = 1_700_000_000_000
HELD_S = 0.1  # a session that ends at once


def key(number: int) -> PeerKey:
    return PeerKey(number.to_bytes(32, "big"))


def session(slot: int, client: int, network: str | None = None) -> HeldSession:
    """In use, and of a client with credit."""
    return HeldSession(slot, key(client), network, newcomer=False, own=False, rests=False, idle_s=0.0, pages=2)


def idle(slot: int, client: int = 0, network: str | None = None, idle_s: float = RESTING_S) -> HeldSession:
    return replace(session(slot, client or slot, network), rests=True, idle_s=idle_s)


ASKS = session(0, 99)


def visit(asks: HeldSession, ticket: bytes = b"") -> Visit:
    """An Open; its ticket names its slot, and says that the lower slots wait for longer."""
    return Visit(SessionId(asks.slot.to_bytes(16, "big")), 0, ticket or ticket_of(asks))


def ticket_of(asks: HeldSession) -> bytes:
    return new_ticket(NOW_MS - 5_000 + asks.slot, bytes(8))


def found(held: Sequence[HeldSession], asks: HeldSession = ASKS, *, sessions: int = 0, free: int = 9) -> list[int]:
    """Who gives way at a node of so many sessions, or that is full."""
    return Room(sessions or len(held), PAGES).find(held, asks, free, 0.0, visit(asks))


def refused(
    room: Room,
    held: Sequence[HeldSession],
    asks: HeldSession,
    free: int = 9,
    now: float = 0.0,
    ticket: bytes = b"",
) -> Refused:
    with pytest.raises(Refused) as refusal:
        room.find(held, asks, free, now, visit(asks, ticket))
    assert refusal.value.code is Code.BUSY
    assert refusal.value.retry_s is not None
    return refusal.value


def let_in(
    room: Room,
    held: Sequence[HeldSession],
    asks: HeldSession,
    free: int = 9,
    now: float = 0.0,
    ticket: bytes = b"",
) -> None:
    """It finds room, and nobody has to give way."""
    assert room.find(held, asks, free, now, visit(asks, ticket)) == []
    room.let_in(held, asks, ticket or ticket_of(asks), now)


def called(room: Room, held: Sequence[HeldSession], free: int = 9, now: float = 0.0) -> list[int]:
    return [place.asks.slot for place in room.call(held, free, now)]


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


def unbegun(slot: int, client: int, network: str | None = None) -> HeldSession:
    return replace(session(slot, client, network), begun=False)


@pytest.mark.parametrize("network", [None, "a"])
def test_who_fills_most_of_a_node_with_sessions_without_a_prompt_gives_some_of_them_way_at_once(
    network: str | None,
) -> None:
    """Be it with one key, or with many behind one address."""
    hog = [unbegun(slot, 7 if network is None else slot, network) for slot in range(1, 6)]
    others = [unbegun(6, 6), session(7, 8), session(8, 8), session(9, 8)]
    [slot] = found([*hog, *others])
    assert slot in range(1, 6)
    begun = session(10, 9)
    refused(Room(10, PAGES), [*hog, *(replace(one, begun=True) for one in others), begun], ASKS)  # half of them
    refused(Room(5, PAGES), [*hog[1:], begun], ASKS)  # four of one client
    refused(Room(9, PAGES), [replace(one, own=True) for one in hog] + others, ASKS)


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


def test_of_one_network_the_key_that_holds_most_gives_way_first() -> None:
    held = [idle(1, network="a", idle_s=50), idle(2, 7, "a"), idle(3, 7, "a"), session(4, 8, "b")]
    assert found(held) == [3]


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
FEW = session(30, 99, "few")  # asks
MANY = session(31, 50, "many")  # likewise


def test_who_holds_less_has_its_turn_first() -> None:
    room = Room(8, PAGES)
    refused(room, FULL, MANY)
    assert refused(room, FULL, FEW).before == 0
    assert called(room, FULL[:-1]) == [FEW.slot]
    assert called(room, FULL[:-2]) == [MANY.slot]


def test_of_those_who_hold_as_much_the_first_has_its_turn_first() -> None:
    room = Room(8, PAGES)
    asking = [session(20 + number, 90 + number, f"net {number}") for number in range(5)]
    assert [refused(room, FULL, one).before for one in asking] == [0, 1, 2, 3, 4]
    for number, one in enumerate(asking):
        assert called(room, FULL[:-1], now=0.1 + number / 10) == [one.slot]
        let_in(room, FULL[:-1], one, now=0.1 + number / 10, ticket=ticket_of(one))


def test_room_is_kept_for_whose_turn_it_is_and_for_nobody_else() -> None:
    room = Room(8, PAGES)
    refused(room, FULL, MANY)
    assert called(room, FULL[:-1]) == [MANY.slot]
    refused(room, FULL[:-1], FEW, now=TURN_S - 0.1)
    let_in(room, FULL[:-1], MANY, now=TURN_S - 0.1, ticket=ticket_of(MANY))


def test_who_does_not_come_loses_the_turn_and_not_the_place() -> None:
    room = Room(8, PAGES)
    first, second, third = session(20, 90, "a"), session(21, 91, "b"), session(22, 92, "c")
    refused(room, FULL, first)
    refused(room, FULL, second)
    assert called(room, FULL[:-1]) == [first.slot]
    assert called(room, FULL[:-1], now=TURN_S) == [second.slot]
    assert refused(room, FULL, first, now=TURN_S, ticket=ticket_of(first)).ticket == ticket_of(first)
    refused(room, FULL, third, now=TURN_S)
    assert called(room, FULL[:-1], now=2 * TURN_S) == [first.slot]


def test_who_misses_turns_has_its_next_one_after_all_others() -> None:
    """Two of them have kept as much room as a session had."""
    room = Room(8, PAGES)
    idler, honest = session(20, 90, "a"), session(21, 91, "b")
    refused(room, FULL, idler)
    for now in range(0, int(LEAST_WASTE_S), int(TURN_S)):
        assert called(room, FULL[:-1], now=now) == [idler.slot]
        refused(room, FULL, honest, now=now + TURN_S)
        refused(room, FULL, idler, now=now + TURN_S, ticket=ticket_of(idler))
    assert called(room, FULL[:-1], now=LEAST_WASTE_S) == [honest.slot]


def waste(room: Room, idler: HeldSession, way: str, now: float, times_s: float) -> None:
    """It has a turn of so many seconds, and no use of it."""
    assert called(room, FULL[:-1], now=now) == [idler.slot]
    after = now + times_s
    match way:
        case "asks for more":
            refused(room, FULL, replace(idler, pages=10), now=after)
            assert room.leave(visit(idler).session, idler.client, after)
        case "gives its place up":
            assert room.leave(visit(idler).session, idler.client, after)
        case "cuts its link":
            room.pass_over_away(lambda client: client != idler.client, after)
        case "comes late, and ends at once":
            let_in(room, FULL[:-1], idler, now=after)
            room.note_end(idler, ticket_of(idler), after, held_s=0.0, worked=False)
            room.pass_over(ticket_of(idler), idler.client, after)
        case "has a session without work":
            let_in(room, FULL[:-1], idler, now=now)
            room.note_end(idler, ticket_of(idler), after, held_s=times_s, worked=False)
            room.pass_over(ticket_of(idler), idler.client, after)


@pytest.mark.parametrize(
    "way",
    [
        "asks for more",
        "gives its place up",
        "cuts its link",
        "comes late, and ends at once",
        "has a session without work",
    ],
)
def test_room_that_was_kept_for_nothing_is_a_turn_whatever_the_way(way: str) -> None:
    """Of a network, with whatever keys and tickets. Who finds no room at another stage gives it back much sooner."""
    room, honest = Room(8, PAGES), session(60, 99, "b")
    idlers = [session(20 + number, 90 + number, "a") for number in range(4)]
    for one in (*idlers, honest):
        refused(room, FULL, one)
    for number in range(3):
        waste(room, idlers[number], way, 1.5 * number, 1.5)
    assert called(room, FULL[:-1], now=5.0) == [honest.slot]


def test_what_makes_a_turn_follows_from_how_long_sessions_lasted() -> None:
    """A client that needs several stages keeps room at one while another has none, without malice."""
    for lasted_s, wasted_s in ((1.0, LEAST_WASTE_S), (5.0, WASTE * 5.0), (1_000.0, MOST_WASTE_S)):
        turns, one = LastTurns(), session(1, 90, "a")
        turns.note(session(2, 91, "b"), lasted_s, 0.0)
        turns.note_wasted(one, wasted_s - 0.1, 1.0)
        assert turns.of_network(one) == -inf
        turns.note_wasted(one, 0.1, 2.0)
        assert turns.of_network(one) == turns.of_key(one) == 2.0


def test_a_fresh_key_comes_after_those_who_wait_longer() -> None:
    """Keys cost nothing: who never had a turn waits since it came."""
    room = Room(8, PAGES)
    regular = session(20, 90, "a")
    room.note_end(regular, NO_TICKET, 0.0, held_s=1.0, worked=True)
    refused(room, FULL, regular, ticket=new_ticket(NOW_MS, bytes(8)))
    refused(room, FULL, fresh := session(21, 91, "b"), now=2.0, ticket=new_ticket(NOW_MS, bytes(8)))
    refused(room, FULL, session(22, 92, "a"), now=2.0, ticket=new_ticket(NOW_MS, bytes(8)))
    assert called(room, FULL[:-3], now=2.0) == [regular.slot, fresh.slot, 22]


@pytest.mark.parametrize("sessions", [1, 2, 3])
def test_many_requests_of_one_client_do_not_go_before_another_s_one(sessions: int) -> None:
    room = Room(sessions, PAGES)
    held = [session(slot, 90, "a") for slot in range(1, sessions + 1)]
    for slot in range(20, 20 + KEY_PLACES):
        refused(room, held, session(slot, 90, "a"))
    room.note_end(held[0], NO_TICKET, 1.2, held_s=1.0, worked=True)
    refused(room, held, late := session(60, 91, "b"), now=1.5)
    assert called(room, held[1:], now=1.5) == [late.slot]


@pytest.mark.parametrize("claimed_ms", [1, NOW_MS])
def test_clients_with_one_request_after_the_other_have_equal_shares_whatever_they_claim(claimed_ms: int) -> None:
    room, served, now = Room(1, PAGES), Counter[int](), 0.0
    asking = {number: session(20 + number, 90 + number, f"net {number}") for number in range(7)}

    def ask(number: int, held: Sequence[HeldSession]) -> None:
        ticket = new_ticket(claimed_ms if not number else NOW_MS + round(now * 1000), bytes(8))
        with pytest.raises(Refused):
            room.find(held, asking[number], 9, now, Visit(SessionId(bytes(16)), 0, ticket))

    held = [session(1, 1, "other")]
    for number in asking:
        ask(number, held)
    for _ in range(70):
        (place,) = room.call([], 9, now)
        number = place.asks.slot - 20
        room.let_in([], place.asks, place.ticket, now)
        now += 1.0
        room.note_end(place.asks, place.ticket, now, held_s=1.0, worked=True)
        served[number] += 1
        ask(number, [place.asks])
    assert set(served.values()) == {10}


def test_so_many_have_their_turn_at_once_and_no_more() -> None:
    room = Room(64, PAGES)
    full = [session(slot, slot, f"net {slot}") for slot in range(1, 65)]
    for slot in range(100, 120):
        refused(room, full, session(slot, slot, f"net {slot}"))
    assert len(called(room, full[:20], free=PAGES)) == MAX_CALLED
    assert called(room, full[:20], free=PAGES) == []


def test_those_who_are_back_in_their_turns_may_be_more() -> None:
    """Somebody was called in place of one whose other stage had no room."""
    room, full = Room(64, PAGES), [session(slot, slot, f"net {slot}") for slot in range(1, 65)]
    asking = [session(slot, slot, f"net {slot}") for slot in range(100, 120)]
    for one in asking:
        refused(room, full, one)
    assert len(called(room, full[:20], free=PAGES)) == MAX_CALLED
    let_in(room, full[:20], asking[0], free=PAGES, ticket=ticket_of(asking[0]))
    assert len(called(room, full[:21], free=PAGES)) == 1
    room.note_end(asking[0], ticket_of(asking[0]), 0.1, held_s=HELD_S, worked=False)
    assert called(room, full[:20], free=PAGES, now=0.1) == []


def test_nobody_waits_for_one_who_cannot_be_told() -> None:
    room = Room(8, PAGES)
    gone, there = replace(session(20, 90, "a"), pages=60), session(21, 91, "b")
    refused(room, FULL[:2], gone)
    refused(room, FULL[:2], there)
    assert called(room, FULL[:2]) == []
    room.pass_over_away(lambda client: client == there.client, 0.0)
    assert called(room, FULL[:2]) == [there.slot]
    refused(room, FULL[:2], gone, ticket=ticket_of(gone))
    refused(room, FULL[:2], session(22, 92, "c"))  # it is back, and is waited for again


def test_who_found_no_room_at_another_stage_is_back_in_its_place() -> None:
    room = Room(8, PAGES)
    first, second = session(20, 90, "a"), session(21, 91, "b")
    refused(room, FULL, first)
    refused(room, FULL, second)
    assert called(room, FULL[:-1]) == [first.slot]
    let_in(room, FULL[:-1], first, now=0.1, ticket=ticket_of(first))
    room.note_end(first, ticket_of(first), 0.2, held_s=HELD_S, worked=False)
    assert called(room, FULL[:-1], now=0.3) == []  # the room is kept for the rest of the turn
    let_in(room, FULL[:-1], first, now=0.4)
    room.note_end(first, ticket_of(first), TURN_S + 1, held_s=HELD_S, worked=False)
    assert called(room, FULL[:-1], now=TURN_S + 1) == [first.slot]


def test_who_found_no_room_at_another_stage_keeps_its_place_until_that_one_has_some() -> None:
    """The other stage says when to come back, and that may take a while."""
    room = Room(8, PAGES)
    first, second = session(20, 90, "a"), session(21, 91, "b")
    refused(room, FULL, first)
    assert called(room, FULL[:-1]) == [first.slot]
    let_in(room, FULL[:-1], first, now=0.1, ticket=ticket_of(first))
    room.note_end(first, ticket_of(first), 0.2, held_s=HELD_S, worked=False)
    refused(room, FULL, second, now=BACK_S - 1)
    assert refused(room, FULL, first, now=BACK_S, ticket=ticket_of(first)).before == 0
    assert called(room, FULL[:-1], now=BACK_S) == [first.slot]


def test_who_comes_after_one_that_found_no_room_at_another_stage_has_its_room() -> None:
    """Two clients need the same two stages, and each is called at one: who comes second goes, or neither ever would."""
    stages = {name: Room(1, PAGES) for name in "xy"}
    first, second = session(20, 90, "a"), session(21, 91, "b")
    refused(stages["x"], [FULL[0]], first)
    refused(stages["y"], [FULL[0]], second)
    assert (called(stages["x"], []), called(stages["y"], [])) == ([first.slot], [second.slot])
    let_in(stages["x"], [], first, now=0.2)
    refused(stages["y"], [], first, now=0.2)
    stages["x"].note_end(first, ticket_of(first), 0.3, held_s=HELD_S, worked=False)
    let_in(stages["x"], [], second, now=0.4)
    let_in(stages["y"], [], second, now=0.4)


def test_a_request_takes_the_turn_of_another_one_of_its_client_which_waits_instead() -> None:
    """Another stage of their route has called it, and not the other."""
    room = Room(8, PAGES)
    first, second, other = session(20, 90, "a"), session(21, 90, "a"), session(22, 91, "b")
    for one in (first, second, other):
        refused(room, FULL, one)
    assert called(room, FULL[:-1]) == [first.slot]
    refused(room, FULL[:-1], other, now=0.1)
    let_in(room, FULL[:-1], second, now=0.1)
    held = [*FULL[:-1], second]
    refused(room, held, first, now=0.1)
    assert called(room, held, now=0.1) == []
    assert called(room, held[1:], now=0.1) == [other.slot]
    assert called(room, held[2:], now=0.1) == [first.slot]


def test_but_not_for_more_than_is_kept() -> None:
    room = Room(8, PAGES)
    first, longer = session(20, 90, "a"), replace(session(21, 90, "a"), pages=3)
    refused(room, FULL, first)
    refused(room, FULL, longer)
    assert called(room, FULL[:-1]) == [first.slot]
    refused(room, FULL[:-1], longer, now=0.1)
    let_in(room, FULL[:-1], first, now=0.1)


def test_who_waits_for_less_time_overtakes_nobody_who_holds_as_little() -> None:
    room = Room(8, PAGES)
    refused(room, FULL, session(20, 90, "a"))
    refused(room, FULL[:-1], session(21, 91, "b"))
    refused(room, FULL[:-1], session(22, 92, "c"), ticket=NO_TICKET)
    let_in(room, FULL[:-1], session(20, 90, "a"))


def test_one_who_holds_less_overtakes_those_who_hold_more() -> None:
    room = Room(8, PAGES)
    refused(room, FULL, MANY)
    let_in(room, FULL[:-1], FEW)


def test_who_says_that_it_waits_for_ever_comes_after_those_who_came_before() -> None:
    room, honest, liar = Room(8, PAGES), session(20, 90, "a"), session(21, 91, "b")
    refused(room, FULL, honest)
    refused(room, FULL, liar, now=CAME_S, ticket=new_ticket(1, bytes(8)))
    assert called(room, FULL[:-1], now=CAME_S) == [honest.slot]


def test_all_stages_have_those_who_wait_in_one_order() -> None:
    asking = [session(20 + number, 90 + number, f"net {number}") for number in range(5)]
    for order in (asking, asking[::-1]):
        room = Room(8, PAGES)
        for one in order:
            refused(room, FULL, one)
        assert called(room, FULL[:-3]) == [20, 21, 22]


def test_a_ticket_is_of_no_use_to_others() -> None:
    room = Room(8, PAGES)
    first, thief = session(20, 90, "a"), session(21, 91, "b")
    refused(room, FULL, first)
    assert called(room, FULL[:-1]) == [first.slot]
    refused(room, FULL[:-1], thief, ticket=ticket_of(first))
    let_in(room, FULL[:-1], first)


def test_who_brings_no_ticket_has_no_place() -> None:
    room = Room(8, PAGES)
    assert refused(room, FULL, FEW, ticket=NO_TICKET).ticket == NO_TICKET
    assert not room.is_awaited


def test_who_does_not_come_back_is_forgotten() -> None:
    room = Room(8, PAGES)
    retry_s = refused(room, FULL, FEW).retry_s or 0.0
    assert room.is_awaited
    assert called(room, FULL[:-1], now=retry_s + LATE_S) == []
    assert not room.is_awaited


def test_who_gives_its_place_up_is_called_no_more() -> None:
    room = Room(8, PAGES)
    refused(room, FULL, FEW)
    assert not room.leave(visit(FEW).session, MANY.client, 0.0)
    assert room.is_awaited
    assert room.leave(visit(FEW).session, FEW.client, 0.0)
    assert called(room, FULL[:-1]) == []


def test_the_owner_waits_for_nobody() -> None:
    room = Room(8, PAGES)
    refused(room, FULL, FEW)
    assert called(room, FULL[:-1]) == [FEW.slot]
    let_in(room, FULL[:-1], replace(MANY, own=True))


def test_one_who_asks_for_much_keeps_nothing_from_those_who_hold_little() -> None:
    room = Room(8, PAGES)
    refused(room, FULL[:2], replace(FEW, pages=PAGES))
    let_in(room, FULL[:2], MANY, now=1.0)
    assert called(room, FULL[:2]) == []


LARGE = replace(session(20, 90, "a"), pages=PAGES)


def ended(room: Room, times: int, each_s: float, began_s: float = 0.0) -> float:
    """So many sessions work and end, one after the other; when the last does."""
    for number in range(times):
        room.note_end(FEW, NO_TICKET, began_s + (number + 1) * each_s, held_s=each_s, worked=True)
    return began_s + times * each_s


def test_one_who_asks_for_much_is_next_once_many_have_passed_it() -> None:
    room, others = Room(8, PAGES), FULL[:2]
    refused(room, others, LARGE)
    now = ended(room, 2 * PASSED - 1, 1.0)
    let_in(room, others, MANY, now=now)
    now = ended(room, 1, 1.0, now)
    refused(room, others, LARGE, now=now, ticket=ticket_of(LARGE))
    refused(room, others, MANY, now=now)
    assert called(room, [], free=PAGES, now=now) == [LARGE.slot]
    refused(room, others, replace(LARGE, slot=22), now=now)
    let_in(room, others, FEW, now=now)  # the next one waits as long


@pytest.mark.parametrize("each_s", [1.0, 60.0])
def test_one_who_does_not_fit_is_waited_for_during_a_part_of_the_time_that_others_had(each_s: float) -> None:
    """Somebody may hold what it needs for long; and it may be held for just that."""
    room, others = Room(8, PAGES), FULL[:2]
    refused(room, others, LARGE)
    now = ended(room, 2 * PASSED, each_s, began_s=3_600.0)
    refused(room, others, LARGE, now=now, ticket=ticket_of(LARGE))
    assert called(room, others, now=now) == []
    until = now + PASSED * each_s / HOLD_BACK_PART
    for moment in (now, until - 0.01):
        refused(room, others, LARGE, now=moment, ticket=ticket_of(LARGE))
        refused(room, others, MANY, now=moment, ticket=NO_TICKET)
    let_in(room, others, MANY, now=until)


def test_a_session_that_comes_meanwhile_does_not_end_the_wait() -> None:
    room = Room(8, PAGES)
    refused(room, FULL[:2], LARGE)
    now = ended(room, 2 * PASSED, 8.0)
    refused(room, FULL[:2], LARGE, now=now, ticket=ticket_of(LARGE))
    refused(room, FULL[:2], MANY, now=now, ticket=NO_TICKET)
    refused(room, FULL[:3], MANY, now=now + 1.0, ticket=NO_TICKET)


def test_a_longer_session_than_there_is_room_for_waits_before_those_who_came_later() -> None:
    room = Room(8, PAGES)
    longer = replace(session(20, 90, "a"), pages=PAGES // ROOM_PART)
    refused(room, FULL[:2], longer)
    refused(room, FULL[:2], session(21, 91, "b"))
    assert called(room, FULL[:1], free=longer.pages) == [longer.slot]


def test_those_at_rest_are_there_for_whose_turn_it_is() -> None:
    room = Room(8, PAGES)
    refused(room, FULL, FEW)
    resting = [replace(FULL[0], rests=True), *FULL[1:]]
    assert called(room, resting) == [FEW.slot]
    refused(room, resting, MANY)
    assert room.find(resting, FEW, 9, 0.0, visit(FEW, ticket_of(FEW))) == [FULL[0].slot]


def test_one_who_opens_and_closes_all_the_time_keeps_nobody_out() -> None:
    """His sessions are never at rest, and he asks for each place as soon as it is free."""
    room = Room(8, PAGES)
    refused(room, held := [session(slot, 7, "a") for slot in range(1, 9)], FEW)
    refused(room, held[1:], session(10, 7, "a"), now=0.5)
    let_in(room, held[1:], FEW, now=0.7, ticket=ticket_of(FEW))


# Bounds


def test_keys_and_networks_have_so_many_places_and_no_more() -> None:
    room = Room(8, PAGES)
    tickets = [refused(room, FULL, session(20 + number, 90, "a")).ticket for number in range(KEY_PLACES + 1)]
    assert [ticket != NO_TICKET for ticket in tickets] == [True] * KEY_PLACES + [False]
    tickets = [refused(room, FULL, session(99 + number, 91 + number, "a")).ticket for number in range(NETWORK_PLACES)]
    assert sum(ticket != NO_TICKET for ticket in tickets) == NETWORK_PLACES - KEY_PLACES


def test_networks_that_fill_all_places_shut_nobody_out() -> None:
    room = Room(8, PAGES)
    for number in range(PLACES):
        refused(room, FULL, session(20 + number, 90 + number, f"net {number % 4}"))
    newcomer = session(1_000, 2_000, "newcomer")
    assert refused(room, FULL, newcomer).ticket == ticket_of(newcomer)
    assert refused(room, FULL, session(1_001, 2_001, "net 1")).ticket == NO_TICKET


def test_a_network_that_had_its_turn_loses_its_only_place_to_one_that_had_none() -> None:
    room = Room(8, PAGES)
    crowd = [session(20 + number, 90 + number, f"net {number}") for number in range(PLACES)]
    for one in crowd:
        refused(room, FULL, one)
    late = session(1_000, 2_000, "late")
    assert refused(room, FULL, late).ticket == NO_TICKET
    room.note_end(crowd[0], NO_TICKET, 1.0, held_s=1.0, worked=True)
    assert refused(room, FULL, late, now=1.0).ticket == ticket_of(late)
    assert refused(room, FULL, crowd[0], now=1.0, ticket=ticket_of(crowd[0])).ticket == NO_TICKET


def test_a_thousand_keys_that_never_come_hold_up_an_honest_one_as_long_as_one_session_at_rest_would() -> None:
    """Each loses its turn, and is called no more until it asks again; others of its network hold more meanwhile."""
    room, now = Room(8, PAGES), 0.0
    for number in range(1_000):
        room_is_full = [session(slot, slot, f"net {slot}") for slot in range(1, 9)]
        with pytest.raises(Refused):
            ghost = session(100 + number, 90 + number, "ghosts")
            room.find(room_is_full, ghost, 9, now, visit(ghost))
    late = replace(FEW, slot=2_000)
    refused(room, room_is_full, late, now=now)
    assert called(room, room_is_full[:-1], now=now) == [100]
    assert called(room, room_is_full[:-2], now=now) == [late.slot]


# What holds of all


@dataclass
class Client:
    """It wants one session after the other, each for a while, in so many streams."""

    key: int
    network: str | None
    streams: int
    pages: int


@given(
    st.lists(
        st.builds(Client, st.integers(1, 4), st.sampled_from([None, "a", "b"]), st.integers(1, 3), st.integers(1, 4)),
        min_size=2,
        max_size=4,
        unique_by=lambda client: client.key,
    ),
    st.integers(1, 6),
    st.randoms(use_true_random=False),
)
@settings(max_examples=25, deadline=None)
def test_everybody_who_asks_has_its_share_and_nobody_waits_for_ever(
    clients: list[Client], sessions: int, lots: Random
) -> None:
    """Everybody is on the own machine or alone in its network, asks again in time, and comes in its turn."""
    clients = [replace(one, network=None if one.network is None else f"{one.network}{one.key}") for one in clients]
    room, pages = Room(sessions, 4 * sessions), 4 * sessions
    held: dict[int, tuple[HeldSession, float]] = {}
    served: Counter[PeerKey] = Counter()
    streams = {
        10 * client.key + number: replace(session(0, client.key, client.network), pages=client.pages)
        for client in clients
        for number in range(client.streams)
    }
    tickets = dict.fromkeys(streams, NO_TICKET)
    again = dict.fromkeys(streams, 0.0)
    now = 0.0
    for step in range(80 * len(streams)):
        now, wall_ms = now + 0.1, NOW_MS + 100 * step
        for slot in [slot for slot, (_, ends) in held.items() if ends <= now]:
            room.note_end(held[slot][0], tickets[slot], now, held_s=HELD_S, worked=True)
            tickets[slot], again[slot] = NO_TICKET, now
            del held[slot]
        holding = [one for one, _ in held.values()]
        for place in room.call(holding, pages - sum(one.pages for one in holding), now):
            again[place.asks.slot] = now
        asking = [slot for slot in streams if slot not in held and again[slot] <= now]
        lots.shuffle(asking)
        for slot in asking:
            asks = replace(streams[slot], slot=slot)
            holding = [one for one, _ in held.values()]
            if tickets[slot] == NO_TICKET:
                tickets[slot] = new_ticket(wall_ms, slot.to_bytes(8, "big"))
            asked = Visit(SessionId(tickets[slot]), 0, tickets[slot])
            try:
                room.find(holding, asks, pages - sum(one.pages for one in holding), now, asked)
            except Refused as refusal:
                assert refusal.retry_s is not None
                again[slot] = now + refusal.retry_s
            else:
                room.let_in(holding, asks, tickets[slot], now)
                held[slot] = asks, now + 1.0
                served[asks.client] += 1
        assert len(held) <= sessions
        assert sum(one.pages for one, _ in held.values()) <= pages
    equal = {client.streams for client in clients} == {clients[0].streams}
    assert all(served[key(client.key)] > 0 for client in clients)
    if equal and len({client.pages for client in clients}) == 1:
        assert max(served.values()) <= 1.5 * min(served.values()) + 1


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
        going = Room(sessions, PAGES).find(held, ASKS, free_pages, 0.0, visit(ASKS))
    except Refused:
        return
    leaves = [one for one in held if one.slot in going]
    assert all(one.rests and not one.own for one in leaves)
    assert len(held) - len(leaves) < sessions
    assert free_pages + sum(one.pages for one in leaves) >= ASKS.pages
