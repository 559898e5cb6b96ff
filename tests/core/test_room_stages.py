"""A client that needs several stages at once, beside those that need one: nobody holds room while it waits."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from random import Random

import pytest

from p2pinfer.core.room.holdings import HeldSession
from p2pinfer.core.room.last_turns import TURN_S
from p2pinfer.core.room.queue import MAX_RETRY_S, Visit, new_ticket
from p2pinfer.core.room.room import Room
from p2pinfer.core.values.errors import Refused
from p2pinfer.core.values.units import PeerKey, SessionId

TICK_S = 0.1
GATHER_S = 0.4  # from its turn at one stage to a client's Opens at all, at most
MISSED_S = 3.0
PAGES = 1_000  # for each session
FROM_S, TO_S = 6.0, 14.0  # a session


class Stage:
    def __init__(self, sessions: int) -> None:
        self.room, self.pages = Room(sessions, sessions * PAGES), sessions * PAGES
        self.held: dict[PeerKey, HeldSession] = {}

    @property
    def free_pages(self) -> int:
        return self.pages - sum(one.pages for one in self.held.values())


@dataclass
class Visitor:
    """A client that wants one session after the other. turns_s: until when stages keep room for it, by number"""

    asks: HeldSession
    stages: Sequence[int]
    at_s: float
    ends_s: float = inf
    served: int = 0
    turns_s: dict[int, float] = field(default_factory=dict)

    @property
    def visit(self) -> Visit:
        return Visit(SessionId(bytes(16)), 0, new_ticket(self.served + 1, self.asks.client[-8:]))


class Route:
    """So many stages, of so many sessions each."""

    def __init__(self, stages: int, sessions: int) -> None:
        self.stages = [Stage(sessions) for _ in range(stages)]
        self.lots = Random(3)
        self.visitors: dict[PeerKey, Visitor] = {}
        self.now = 0.0

    def add(self, stages: Sequence[int]) -> Visitor:
        number = len(self.visitors) + 1
        client = PeerKey(number.to_bytes(32, "big"))
        asks = HeldSession(number, client, f"net {number}", False, False, False, 0.0, 2)
        one = self.visitors[client] = Visitor(asks, stages, self.lots.uniform(0, 2))
        return one

    def run(self, until_s: float) -> None:
        while self.now < until_s:
            self.now += TICK_S
            for one in self.visitors.values():
                if one.ends_s <= self.now:
                    self._end(one, one.stages, worked=True)
                if one.at_s <= self.now:
                    self._open(one)
            for number, stage in enumerate(self.stages):
                for place in stage.room.call([*stage.held.values()], stage.free_pages, self.now):
                    self._hear_turn(self.visitors[place.asks.client], number)

    def _hear_turn(self, one: Visitor, number: int) -> None:
        one.turns_s[number] = self.now + TURN_S
        has_all = all(one.turns_s.get(stage, 0.0) > self.now for stage in one.stages)
        one.at_s = min(one.at_s, self.now + (0.0 if has_all else self.lots.uniform(0, GATHER_S)))

    def _open(self, one: Visitor) -> None:
        """It takes room at all of its stages, or at none."""
        taken, again_s = [], 0.0
        for number in one.stages:
            stage = self.stages[number]
            held = [*stage.held.values()]
            try:
                stage.room.find(held, one.asks, stage.free_pages, self.now, one.visit)
            except Refused as refusal:
                again_s = max(again_s, min(refusal.retry_s or 0.0, MAX_RETRY_S) + MISSED_S)
            else:
                stage.room.let_in(held, one.asks, one.visit.ticket, self.now)
                stage.held[one.asks.client] = one.asks
                taken.append(number)
        one.turns_s.clear()
        one.at_s, one.ends_s = self.now + again_s, inf
        if again_s:
            self._end(one, taken, worked=False)
        else:
            one.at_s, one.ends_s = inf, self.now + self.lots.uniform(FROM_S, TO_S)

    def _end(self, one: Visitor, stages: Sequence[int], *, worked: bool) -> None:
        lasted_s = (FROM_S + TO_S) / 2 if worked else 0.0
        for number in stages:
            del self.stages[number].held[one.asks.client]
            self.stages[number].room.note_end(one.asks, one.visit.ticket, self.now, lasted_s, worked=worked)
        if worked:
            one.served, one.ends_s, one.at_s = one.served + 1, inf, self.now


@pytest.mark.parametrize(("stages", "sessions", "until_s"), [(2, 4, 240), (4, 8, 120)])
def test_a_client_of_several_stages_has_its_share_where_room_becomes_free_all_the_time(
    stages: int, sessions: int, until_s: float
) -> None:
    """Three wait for each session of a stage."""
    route = Route(stages, sessions)
    others = [route.add([number]) for number in range(stages) for _ in range(3 * sessions)]
    one = route.add(range(stages))
    route.run(until_s)
    mean = sum(other.served for other in others) / len(others)
    assert min(other.served for other in others) >= mean - 2
    assert one.served >= mean / 2


def test_clients_of_the_same_stages_have_equal_shares() -> None:
    route = Route(2, 2)
    for number in range(2):
        for _ in range(4):
            route.add([number])
    several = [route.add(range(2)) for _ in range(3)]
    route.run(240)
    served = [one.served for one in several]
    assert min(served) >= max(2, max(served) - 2)
