"""Those who wait for room at a node: their places, and how long each may have to wait (protocols/inference.md, 7.2).

A place costs its client one refused Open, and keys are free: so places are bounded for a key, for a network and in all,
and last no longer than their clients come back. Whose turn it is, is `room.py`'s.
"""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf
from typing import Final

from p2pinfer.core.money.budget import RETRY_S
from p2pinfer.core.room.holdings import HeldSession, Holder
from p2pinfer.core.room.last_turns import TURN_S, LastTurns
from p2pinfer.core.values.units import PeerKey, SessionId

KEY_PLACES: Final = 32  # of one client, as many as it asks for at once
NETWORK_PLACES: Final = 64  # of one network
PLACES: Final = 256  # in all; beyond it the network with most of them loses its last one
TURN_MS: Final = 1  # `retry_ms` for whose turn it is, and for nobody else
LATE_S: Final = 10.0  # after the time that a client was told, its place is kept for it
MAX_RETRY_S: Final = 30.0  # however long the wait: who missed that its turn was told asks again by then
BACK_S: Final = MAX_RETRY_S + LATE_S  # for one who had room for nothing: another stage may say when to come back
MAX_TOLD_S: Final = 3_600.0  # of a wait; nobody knows more
USUAL_S: Final = 10.0  # of a session, while none has ended
LEAST_ENDED: Final = 2  # of a network, to tell how much of all room it gets
ENDED_KEPT: Final = 64  # sessions that worked and ended last, which tell how fast room becomes free, and for whom
CAME_S: Final = 1.0  # who came within so much of each other came at once: links have different lengths
NO_TICKET: Final = bytes(16)


@dataclass(frozen=True, slots=True)
class Visit:
    """An Open that asks for room.

    ticket: of its request, the same at every stage: since when it waits, and random bytes; zeros: it does not wait
    """

    session: SessionId
    epoch: int
    ticket: bytes


def new_ticket(wall_ms: int, lots: bytes) -> bytes:
    """The ticket of a request that begins now. lots: 8 random bytes"""
    return wall_ms.to_bytes(8, "big") + lots


def came(ticket: bytes, now: float) -> float:
    """Since when one waits that comes now. Those who came at once have one order at all stages, by their tickets."""
    return inf if ticket == NO_TICKET else now - now % CAME_S


@dataclass(frozen=True, slots=True)
class Place:
    """A client's place among those who wait.

    asks:    the session that it wants
    session: of its latest Open; whose turn it is, is told in that one's name
    came_s:  since when it waits
    until_s: when it is forgotten, unless it asks again
    turn_s:  until when room is kept for it; -inf where it is not its turn
    since_s: since when it is
    is_away: it has room, or has missed its turn: it has none until it asks again
    ends_s:  while it has room: the end of the turn in which it came
    tried:   it came in this turn, and another stage of its route had no room
    """

    ticket: bytes
    asks: HeldSession
    session: SessionId
    epoch: int
    came_s: float
    until_s: float
    turn_s: float = -inf
    since_s: float = -inf
    is_away: bool = False
    ends_s: float = -inf
    tried: bool = False

    @property
    def name(self) -> bytes:
        return self.asks.client + self.ticket


@dataclass(frozen=True, slots=True)
class Before:
    """So many wait before a client, and so many of these are of its own network."""

    all: int
    own: int


class Queue:
    """The places at one node. Times are seconds of a monotonic clock."""

    def __init__(self, weigh: Callable[[HeldSession], float]) -> None:
        """weigh: how many sessions' room one has"""
        self._weigh = weigh
        self._places: dict[bytes, Place] = {}  # by name, in the order they came
        self.turns = LastTurns()
        self._ended: deque[tuple[Holder, float]] = deque(maxlen=ENDED_KEPT)  # whose, and how long it lasted

    def __len__(self) -> int:
        return len(self._places)

    def find(self, ticket: bytes, asks: HeldSession, now: float) -> Place | None:
        """The place of a ticket, which is of its client alone; who was away is back with it.

        A client that asks for more than it was called for has no turn any more.
        """
        place = self._places.get(asks.client + ticket)
        if place is None:
            return None
        if asks.pages > place.asks.pages:
            place = self._end_turn(place, now)
        place = self._places[place.name] = replace(place, asks=asks, is_away=False)
        return place

    def asking(self) -> list[HeldSession]:
        """Those who wait for their turn, or come in it."""
        return [place.asks for place in self._places.values() if not place.is_away]

    def called(self) -> list[Place]:
        """Places that room is kept for."""
        return [place for place in self._places.values() if place.turn_s > -inf]

    def waiting(self) -> list[Place]:
        """Places whose turn is still to come."""
        return [place for place in self._places.values() if place.turn_s == -inf and not place.is_away]

    # What happens to a place

    def wait(self, visit: Visit, asks: HeldSession, retry_s: float, now: float) -> bytes:
        """Give one who found no room a place, or keep it its place; return its ticket, zeros where it has none."""
        place = self.find(visit.ticket, asks, now)
        if visit.ticket == NO_TICKET or (place is None and not self._makes_way(asks, now)):
            return NO_TICKET
        if place is not None:
            self._end_turn(place, now)
        came_s = came(visit.ticket, now) if place is None else place.came_s
        kept = Place(visit.ticket, asks, visit.session, visit.epoch, came_s, now + min(retry_s, MAX_RETRY_S) + LATE_S)
        self._places[kept.name] = kept
        return visit.ticket

    def take_turn(self, place: Place, now: float) -> Place:
        """From now on room is kept for this one."""
        taken = replace(
            place, turn_s=now + TURN_S, since_s=now, tried=False, until_s=max(place.until_s, now + TURN_S + LATE_S)
        )
        self._places[place.name] = taken
        return taken

    def take_over(self, place: Place | None) -> Place | None:
        """Give it the turn of another request of its client, which waits instead; unless it has one itself.

        At two stages of one route two requests of one client may be called: neither could go, and both would be called
        again.
        """
        if place is None or place.turn_s > -inf:
            return place
        for turn in self.called():
            if turn.asks.client == place.asks.client and turn.asks.pages >= place.asks.pages:
                self._places[turn.name] = replace(turn, turn_s=-inf)
                has = replace(place, turn_s=turn.turn_s, since_s=turn.since_s, tried=turn.tried)
                place = self._places[place.name] = has
                break
        return place

    def let_in(self, place: Place, now: float) -> None:
        """It has found room."""
        ends_s = max(place.turn_s, now)
        place = self._end_turn(place, now)
        self._places[place.name] = replace(place, is_away=True, ends_s=ends_s, until_s=now + BACK_S)

    def let_back(self, ticket: bytes, client: PeerKey, now: float) -> None:
        """Its room came to nothing, for another stage of its route has none: it has the rest of its turn, or waits."""
        if (place := self._places.get(client + ticket)) is not None and place.is_away:
            turn_s = place.ends_s if place.ends_s > now else -inf
            back = replace(place, turn_s=turn_s, since_s=now, tried=True, is_away=False, until_s=now + BACK_S)
            self._places[place.name] = back

    def pass_over(self, ticket: bytes, client: PeerKey, now: float) -> None:
        """It does not come in its turn: the next one has it, until this one asks again."""
        if (place := self._places.get(client + ticket)) is not None:
            self._places[place.name] = replace(self._end_turn(place, now), is_away=True)

    def pass_over_away(self, is_there: Callable[[PeerKey], bool], now: float) -> None:
        """Pass over clients that cannot be told: nobody waits for them, and they have no turn until they ask again."""
        for place in [*self._places.values()]:
            if not place.is_away and not is_there(place.asks.client):
                self._places[place.name] = replace(self._end_turn(place, now), is_away=True)

    def leave(self, ticket: bytes, client: PeerKey) -> None:
        """It does not wait any more."""
        self._places.pop(client + ticket, None)

    def leave_session(self, session: SessionId, client: PeerKey, now: float) -> bool:
        """The client gives up the place that it was given in this session; False if it has none."""
        left = [one for one in self._places.values() if (one.session, one.asks.client) == (session, client)]
        for one in left:
            self._remove(one, now)
        return bool(left)

    def forget(self, now: float) -> None:
        """Let go of those who do not come back; who does not come in its turn loses that, and not its place."""
        for place in [*self._places.values()]:
            if place.until_s <= now:
                self._remove(place, now)
            elif -inf < place.turn_s <= now:
                self.pass_over(place.ticket, place.asks.client, now)

    def _end_turn(self, place: Place, now: float) -> Place:
        """The place without a turn: where it had one, room was kept for it meanwhile."""
        if place.turn_s > -inf:
            self.turns.note_wasted(place.asks, self._weigh(place.asks) * (min(now, place.turn_s) - place.since_s), now)
            place = self._places[place.name] = replace(place, turn_s=-inf)
        return place

    def _remove(self, place: Place, now: float) -> None:
        self._end_turn(place, now)
        del self._places[place.name]

    # How long it lasts

    def note_end(self, one: HeldSession, lasted_s: float) -> None:
        """A session that had worked gave its room up."""
        self._ended.append((one.holders[-1], lasted_s))

    def expected_s(self, asks: HeldSession, before: Before, held: int) -> float:
        """Return how long a client has to wait that has so many before it, by what ended lately. held: sessions now

        Those who had room come back for more, and are before it again: that a client with several of its own before it
        gets so much of all room, and no more, shows best in what it got.
        """
        lasted_s = sum(lasted_s for _, lasted_s in self._ended) / len(self._ended) if self._ended else USUAL_S
        each_s = lasted_s / max(1, held + len(self.called()))
        turns = before.all + 1.0
        if before.own and (ours := sum(whose == asks.holders[-1] for whose, _ in self._ended)) >= LEAST_ENDED:
            turns = max(turns, before.own * len(self._ended) / ours)
        return min(max(turns * each_s, RETRY_S), MAX_TOLD_S)

    # Bounds

    def _makes_way(self, asks: HeldSession, now: float) -> bool:
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
        if its > ours + 1:
            last = next(one for one in reversed(self._places.values()) if one.asks.holders[-1] == most)
        else:
            last = max(self._places.values(), key=lambda one: self.turns.of_network(one.asks))
            if self.turns.of_network(last.asks) <= self.turns.of_network(asks):
                return False
        self._remove(last, now)
        return True
