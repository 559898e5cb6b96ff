"""Those who wait for room at a node: their places, and how long each may have to wait (protocols/inference.md, 7.2).

A place costs its client one refused Open, and keys are free: so places are bounded for a key, for a network and in all,
and last no longer than their clients come back. Whose turn it is, is `room.py`'s.
"""

from collections import Counter, deque
from dataclasses import dataclass, replace
from math import inf
from typing import Final

from p2pinfer.core.budget import RETRY_S
from p2pinfer.core.holdings import HeldSession
from p2pinfer.core.units import PeerKey, SessionId

KEY_PLACES: Final = 32  # of one client, as many as it asks for at once
NETWORK_PLACES: Final = 64  # of one network
PLACES: Final = 256  # in all; beyond it the network with most of them loses its last one
TURN_S: Final = 2.0  # room is kept for whose turn it is, and was told so
TURN_MS: Final = 1  # `retry_ms` for whose turn it is, and for nobody else
LATE_S: Final = 10.0  # after the time that a client was told, its place is kept for it
MAX_RETRY_S: Final = 30.0  # however long the wait: who missed that its turn was told asks again by then
FREED_KEPT: Final = 16  # sessions that ended last, which tell how fast room becomes free
PASSED: Final = 4  # times as many sessions as there are now may end before one that asks for much has its turn
HEAD_START_MS: Final = 10_000  # who says that it waits for longer counts as if it did for so long
NO_TICKET: Final = bytes(16)


@dataclass(frozen=True, slots=True)
class Visit:
    """An Open that asks for room.

    ticket: of its request, the same at every stage: since when it waits, and random bytes; zeros: it does not wait
    wall_ms: our wall clock
    """

    session: SessionId
    epoch: int
    ticket: bytes
    wall_ms: int

    @property
    def number(self) -> tuple[float, bytes]:
        """Lower for those who wait longer, as they say: so all stages of a route have them in one order."""
        if self.ticket == NO_TICKET:
            return inf, self.ticket
        since_ms = int.from_bytes(self.ticket[:8], "big")
        return max(self.wall_ms - HEAD_START_MS, min(since_ms, self.wall_ms)), self.ticket


def new_ticket(wall_ms: int, lots: bytes) -> bytes:
    """The ticket of a request that begins now. lots: 8 random bytes"""
    return wall_ms.to_bytes(8, "big") + lots


@dataclass(frozen=True, slots=True)
class Place:
    """A client's place among those who wait.

    asks:    the session that it wants
    session: of its latest Open; whose turn it is, is told in that one's name
    number:  those who wait longer have lower ones
    until_s: when it is forgotten, unless it asks again
    turn_s:  until when room is kept for it; -inf where it is not its turn
    is_away: it has room, or has missed its turn: it has none until it asks again
    ends_s:  while it has room: the end of the turn in which it came
    """

    ticket: bytes
    asks: HeldSession
    session: SessionId
    epoch: int
    number: tuple[float, bytes]
    until_s: float
    turn_s: float = -inf
    is_away: bool = False
    ends_s: float = -inf

    @property
    def name(self) -> bytes:
        return self.asks.client + self.ticket


class Queue:
    """The places at one node. Times are seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._places: dict[bytes, Place] = {}  # by name, in the order they came
        self.passed = 0  # sessions that have ended since one that had waited for its size had its turn
        self._freed: deque[float] = deque(maxlen=FREED_KEPT)

    def __len__(self) -> int:
        return len(self._places)

    def find(self, ticket: bytes, asks: HeldSession) -> Place | None:
        """The place of a ticket, which is of its client alone; who was away is back with it."""
        place = self._places.get(asks.client + ticket)
        if place is not None:
            place = self._places[place.name] = replace(place, asks=asks, is_away=False)
        return place

    def turns(self) -> list[Place]:
        """Places that room is kept for."""
        return [place for place in self._places.values() if place.turn_s > -inf]

    def waiting(self) -> list[Place]:
        """Places whose turn is still to come."""
        return [place for place in self._places.values() if place.turn_s == -inf and not place.is_away]

    # What happens to a place

    def wait(self, visit: Visit, asks: HeldSession, retry_s: float, now: float) -> bytes:
        """Give one who found no room a place, or keep it its place; return its ticket, zeros where it has none."""
        place = self.find(visit.ticket, asks)
        if visit.ticket == NO_TICKET or (place is None and not self._makes_way(asks)):
            return NO_TICKET
        number = visit.number if place is None else place.number
        kept = Place(visit.ticket, asks, visit.session, visit.epoch, number, now + retry_s + LATE_S)
        self._places[kept.name] = kept
        return visit.ticket

    def take_turn(self, place: Place, now: float) -> Place:
        """From now on room is kept for this one."""
        taken = replace(place, turn_s=now + TURN_S, until_s=max(place.until_s, now + TURN_S + LATE_S))
        self._places[place.name] = taken
        return taken

    def take_over(self, place: Place | None) -> Place | None:
        """Give it the turn of another request of its client, which waits instead; unless it has one itself.

        At two stages of one route two requests of one client may be called: neither could go, and both would be called
        again.
        """
        if place is None or place.turn_s > -inf:
            return place
        for turn in self.turns():
            if turn.asks.client == place.asks.client and turn.asks.pages >= place.asks.pages:
                self._places[turn.name] = replace(turn, turn_s=-inf)
                place = self._places[place.name] = replace(place, turn_s=turn.turn_s)
                break
        return place

    def let_in(self, place: Place, now: float) -> None:
        """It has found room. now: its turn, where it has one, is not over"""
        ends_s = max(place.turn_s, now)
        self._places[place.name] = replace(place, turn_s=-inf, is_away=True, ends_s=ends_s, until_s=now + LATE_S)

    def let_back(self, ticket: bytes, client: PeerKey, now: float) -> None:
        """Its room came to nothing, for another stage of its route has none: it has the rest of its turn, or waits."""
        if (place := self._places.get(client + ticket)) is not None:
            turn_s = place.ends_s if place.ends_s > now else -inf
            self._places[place.name] = replace(place, turn_s=turn_s, is_away=False, until_s=now + LATE_S)

    def pass_over(self, ticket: bytes, client: PeerKey) -> None:
        """It does not come in its turn: the next one has it, until this one asks again."""
        if (place := self._places.get(client + ticket)) is not None:
            self._places[place.name] = replace(place, turn_s=-inf, is_away=True)

    def leave(self, ticket: bytes, client: PeerKey) -> None:
        """It does not wait any more."""
        self._places.pop(client + ticket, None)

    def leave_session(self, session: SessionId, client: PeerKey) -> bool:
        """The client gives up the place that it was given in this session; False if it has none."""
        left = [one.name for one in self._places.values() if (one.session, one.asks.client) == (session, client)]
        for name in left:
            del self._places[name]
        return bool(left)

    def forget(self, now: float) -> None:
        """Let go of those who do not come back; who does not come in its turn loses that, and not its place."""
        for place in [*self._places.values()]:
            if place.until_s <= now:
                del self._places[place.name]
            elif -inf < place.turn_s <= now:
                self.pass_over(place.ticket, place.asks.client)

    # How long it lasts

    def note_freed(self, now: float) -> None:
        """A session that had worked gave its room up."""
        self._freed.append(now)
        self.passed += 1

    def has_passed(self, held: int) -> bool:
        """So many have ended that size counts no more against the one who waits longest. held: sessions now"""
        return self.passed >= PASSED * max(1, held)

    def expected_s(self, before: int, now: float) -> float:
        """How long one has to wait before whom so many are, by how fast room became free lately."""
        each_s = (now - self._freed[0]) / len(self._freed) if len(self._freed) > 1 else RETRY_S
        return min(max((before + 1) * each_s, RETRY_S), MAX_RETRY_S)

    # Bounds

    def _makes_way(self, asks: HeldSession) -> bool:
        """True if one more place is there for this client, perhaps that of a network which has more of them."""
        places = [place.asks for place in self._places.values()]
        if sum(one.client == asks.client for one in places) >= KEY_PLACES:
            return False
        counts = Counter(one.holders[-1] for one in places)
        ours = counts[asks.holders[-1]]
        if asks.network is not None and ours >= NETWORK_PLACES:
            return False
        if len(places) < PLACES:
            return True
        [(most, its)] = counts.most_common(1)
        if its <= ours + 1:
            return False
        del self._places[next(name for name, one in reversed(self._places.items()) if one.asks.holders[-1] == most)]
        return True
