"""A node's room and clients that want one session after the other, on a clock that a loop moves on."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from random import Random

from p2pinfer.core.room.holdings import HeldSession
from p2pinfer.core.room.queue import MAX_RETRY_S, NO_TICKET, Visit, new_ticket
from p2pinfer.core.room.room import Room
from p2pinfer.core.values.errors import Refused
from p2pinfer.core.values.units import PeerKey, SessionId

TICK_S = 0.25
TRIP_S = 0.1  # from its turn at the node to a client's Open
MISSED_S = 3.0  # after the time that it was told, a client comes by itself
PAGES = 1_000  # for each session; one takes two

Lasts = Callable[[Random], float]


@dataclass(frozen=True)
class Crowd:
    """So many streams of one client, each of which wants a session at once when the one before is over.

    lasts:  seconds of a session
    from_s: when they come
    """

    name: str
    streams: int
    lasts: Lasts
    from_s: float = 0.0


@dataclass(eq=False)
class Stream:
    crowd: Crowd
    asks: HeldSession
    ticket: bytes = NO_TICKET
    at_s: float = 0.0
    since_s: float = 0.0
    told_s: float | None = None
    slot: int = 0
    ends_s: float = inf


@dataclass
class BusyRoom:
    """had_s: session time of each crowd. waits: of each, told at first and true. cut: sessions that others ended"""

    room: Room
    sessions: int
    lots: Random = field(default_factory=lambda: Random(1))
    now: float = 0.0
    had_s: Counter[str] = field(default_factory=Counter)
    waits: list[tuple[str, float | None, float]] = field(default_factory=list)
    cut: Counter[str] = field(default_factory=Counter)
    _live: dict[int, Stream] = field(default_factory=dict)
    _opens: int = 0

    def run(self, crowds: Sequence[Crowd], until_s: float) -> None:
        streams = [
            Stream(one, _asks(number), at_s=one.from_s + self.lots.uniform(0, 1))
            for number, one in enumerate(crowds, 1)
            for _ in range(one.streams)
        ]
        while self.now < until_s:
            self.now += TICK_S
            for stream in [one for one in self._live.values() if one.ends_s <= self.now]:
                self._end(stream, at_s=self.now)
            tickets = {one.ticket: one for one in streams if not one.slot}
            for place in self.room.call(self._held(), self._free_pages, self.now):
                tickets[place.ticket].at_s = self.now + TRIP_S
            asking = [one for one in streams if not one.slot and one.at_s <= self.now]
            self.lots.shuffle(asking)
            for stream in asking:
                self._open(stream)
            for stream in self._live.values():
                self.had_s[stream.crowd.name] += TICK_S

    def longest(self, name: str) -> float:
        """The longest wait of a crowd's streams for room."""
        return max(waited_s for who, _, waited_s in self.waits if who == name)

    def _open(self, stream: Stream) -> None:
        self._opens += 1
        if stream.ticket == NO_TICKET:
            stream.ticket = new_ticket(round(self.now * 1000), self._opens.to_bytes(8, "big"))
            stream.since_s, stream.told_s = self.now, None
        visit = Visit(SessionId(self._opens.to_bytes(16, "big")), 0, stream.ticket)
        try:
            going = self.room.find(self._held(), stream.asks, self._free_pages, self.now, visit)
        except Refused as refusal:
            assert refusal.retry_s is not None
            stream.told_s = refusal.retry_s if stream.told_s is None else stream.told_s
            stream.at_s = self.now + min(refusal.retry_s, MAX_RETRY_S) + MISSED_S
            return
        for slot in going:
            self.cut[self._live[slot].crowd.name] += 1
            self._end(self._live[slot], at_s=self.now + TICK_S)
        self.room.let_in(self._held(), stream.asks, stream.ticket, self.now)
        self.waits.append((stream.crowd.name, stream.told_s, self.now - stream.since_s))
        stream.slot, stream.ends_s = self._opens, self.now + stream.crowd.lasts(self.lots)
        stream.since_s = self.now
        self._live[stream.slot] = stream

    def _end(self, stream: Stream, at_s: float) -> None:
        """It worked; the stream wants the next one."""
        del self._live[stream.slot]
        self.room.note_end(stream.asks, stream.ticket, self.now, self.now - stream.since_s, worked=True)
        stream.slot, stream.ends_s, stream.ticket, stream.at_s = 0, inf, NO_TICKET, at_s

    def _held(self) -> list[HeldSession]:
        return [replace(one.asks, slot=slot, held_s=self.now - one.since_s) for slot, one in self._live.items()]

    @property
    def _free_pages(self) -> int:
        return self.sessions * PAGES - sum(one.asks.pages for one in self._live.values())


def busy_room(sessions: int) -> BusyRoom:
    return BusyRoom(Room(sessions, sessions * PAGES), sessions)


def _asks(number: int) -> HeldSession:
    """Of a client in a network of its own."""
    return HeldSession(0, PeerKey(number.to_bytes(32, "big")), f"net {number}", False, False, False, 0.0, 2)
