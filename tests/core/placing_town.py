"""Nodes that place themselves, simulated: pure decisions, and offers that take their time to be heard.

Each node does what `node/placement.py` does: it chooses, says that it joins, waits, decides once more, loads, serves,
and looks again; before it moves it says so, waits, and decides once more.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count

from p2pinfer.core.swarm.moving import is_right, move_of, odds, swarm_of
from p2pinfer.core.swarm.placement import JOIN_WAIT_S, OfferedSpan, choose_span, gaps, reconsider_span
from p2pinfer.core.values.units import Span

LOOK_S = 10.0
MOVE_WAIT_S = 1.0  # at least, and as much again: longer than an offer is on its way to those who hold the same layers
LOAD_S = 5.0
REST_S = 30.0


@dataclass(eq=False)
class Citizen:
    """A node. span: that it says it serves or will; held: layers it has loaded."""

    number: int
    length: int
    moves_never: bool = False
    span: Span | None = None
    held: Span | None = None
    seq: int = 0
    rests_until: float = 0.0
    fruitless: int = 0
    moves: int = 0
    known: dict[int, tuple[int, OfferedSpan]] = field(default_factory=dict)

    @property
    def served(self) -> list[OfferedSpan]:
        return [served for _, served in self.known.values()]


class Town:
    """delay_s: how long an offer is on its way, at most. deaf: the part of offers that some node hears 20 s later."""

    def __init__(self, layers: int, seed: int, delay_s: float = 0.25, deaf: float = 0.0) -> None:
        self.layers = layers
        self.citizens: list[Citizen] = []
        self.lost: list[tuple[float, Span]] = []  # layers that were held, and by a move are not
        self.now = 0.0
        self._delay_s = delay_s
        self._deaf = deaf
        self._draw = random.Random(seed)
        self._events: list[tuple[float, int, object, tuple[object, ...]]] = []
        self._order = count()

    def start(self, lengths: Sequence[int], at_s: Sequence[float]) -> None:
        for length, when in zip(lengths, at_s, strict=True):
            citizen = Citizen(len(self.citizens), length)
            self.citizens.append(citizen)
            self._at(when, self._choose, citizen)

    def settle(self, span: Span, *, moves_never: bool = False) -> Citizen:
        """A node that serves already."""
        citizen = Citizen(len(self.citizens), len(span), moves_never, span, span)
        for other in self.citizens:
            if other.held is not None:
                citizen.known[other.number] = other.seq, OfferedSpan(other.held, 20.0)
        self.citizens.append(citizen)
        self._say(citizen)
        self._at(self.now + self._draw.uniform(1, LOOK_S), self._look, citizen)
        return citizen

    def leave(self, citizen: Citizen) -> None:
        self.citizens.remove(citizen)
        for other in self.citizens:
            other.known.pop(citizen.number, None)

    def run(self, until_s: float) -> None:
        while self._events and self._events[0][0] <= until_s:
            self.now, _, act, arguments = heappop(self._events)
            act(*arguments)  # type: ignore[operator]
        self.now = until_s

    @property
    def holes(self) -> list[Span]:
        """Layers that nobody has loaded."""
        return gaps(self.layers, [citizen.held for citizen in self.citizens if citizen.held is not None])

    @property
    def moves(self) -> int:
        return sum(citizen.moves for citizen in self.citizens)

    def _at(self, when: float, act: object, *arguments: object) -> None:
        heappush(self._events, (when, next(self._order), act, arguments))

    def _say(self, citizen: Citizen, linked: Span | None = None) -> None:
        """An offer: heard by each other node after a while, and soon by those who hold a layer of `linked`."""
        citizen.seq += 1
        served = _offer(citizen)
        for other in self.citizens:
            if other is not citizen:
                late_s = 20.0 if self._draw.random() < self._deaf and not _meet(other.span, linked) else 0.0
                when = self.now + late_s + self._draw.uniform(0, self._delay_s)
                self._at(when, self._hear, other, citizen.number, citizen.seq, served)

    @staticmethod
    def _hear(citizen: Citizen, number: int, seq: int, served: OfferedSpan) -> None:
        if seq > citizen.known.get(number, (0, served))[0]:
            citizen.known[number] = seq, served

    def _choose(self, citizen: Citizen) -> None:
        citizen.span = choose_span(self.layers, citizen.length, citizen.served, self._draw.random())
        self._say(citizen)
        self._at(self.now + self._draw.random() * JOIN_WAIT_S, self._choose_again, citizen)

    def _choose_again(self, citizen: Citizen) -> None:
        assert citizen.span is not None
        again = reconsider_span(self.layers, citizen.span, citizen.served, self._draw.random())
        if again != citizen.span:
            citizen.span = again
            self._say(citizen)
        self._at(self.now + self._draw.random() * LOAD_S, self._serve, citizen)

    def _serve(self, citizen: Citizen) -> None:
        citizen.held = citizen.span
        self._say(citizen)
        self._at(self.now + self._draw.uniform(1, 4), self._look, citizen)

    def _look(self, citizen: Citizen) -> None:
        mine = citizen.held
        assert mine is not None
        if citizen not in self.citizens or citizen.moves_never:
            return
        swarm = swarm_of(self.layers, citizen.served)
        if not swarm.holes(mine):
            citizen.fruitless = 0
        if self.now >= citizen.rests_until and self._draw.random() < odds(swarm, mine):
            new = move_of(swarm, mine, self._draw.random())
            if new is not None:
                citizen.span = new
                self._say(citizen, mine)
                for other in self.citizens:  # it links to those that hold its layers: they are told, and tell
                    if other is not citizen and other.span is not None and _meet(other.span, mine):
                        citizen.known[other.number] = other.seq, _offer(other)
                self._at(self.now + self._draw.uniform(MOVE_WAIT_S, 2 * MOVE_WAIT_S), self._go, citizen, mine)
                return
        self._at(self.now + self._draw.uniform(0.5, 1.5) * LOOK_S, self._look, citizen)

    def _go(self, citizen: Citizen, mine: Span) -> None:
        assert citizen.span is not None
        if citizen not in self.citizens:
            return
        if not is_right(swarm_of(self.layers, citizen.served), mine, citizen.span):
            citizen.span = mine
            self._say(citizen)
            self._rest(citizen)
            self._at(self.now + self._draw.uniform(0.5, 1.5) * LOOK_S, self._look, citizen)
            return
        before, citizen.held = self.holes, None
        kept = gaps(self.layers, [*self._held(), citizen.span])
        self.lost += [(self.now, hole) for hole in kept if not any(old.covers(hole) for old in before)]
        citizen.moves += 1
        self._rest(citizen)
        self._at(self.now + self._draw.random() * LOAD_S, self._serve, citizen)

    def _rest(self, citizen: Citizen) -> None:
        citizen.rests_until = self.now + REST_S * 2**citizen.fruitless
        citizen.fruitless = min(citizen.fruitless + 1, 5)

    def _held(self) -> list[Span]:
        return [citizen.held for citizen in self.citizens if citizen.held is not None]


def _offer(citizen: Citizen) -> OfferedSpan:
    assert citizen.span is not None
    return OfferedSpan(citizen.span, 20.0, loaded=citizen.held == citizen.span)


def _meet(one: Span | None, other: Span | None) -> bool:
    return one is not None and other is not None and one.first < other.last and other.first < one.last
