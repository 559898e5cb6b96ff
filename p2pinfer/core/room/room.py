"""Room at a node: one session finds it, others give it up to those who ask (protocols/inference.md, 7.1 and 7.2).

Room is nobody's right. Keys cost nothing, credit is had for a few seconds of work that is paid with promises, and to
hold a session open costs nothing either. So whatever is idle gives way once somebody asks, and whatever was held too
long. What becomes free goes to those who hold least, of them to those who had no more than their share of the time, and
of them to whose last turn is longest ago. A client that is alone may have everything.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from heapq import heapify, heappop, heapreplace
from itertools import islice
from math import inf
from typing import Final

from p2pinfer.core.room.excess import Excess
from p2pinfer.core.room.free_room import ROOM_PART, FreeRoom
from p2pinfer.core.room.holdings import HeldSession, Holder, Holdings
from p2pinfer.core.room.last_turns import LastTurns
from p2pinfer.core.room.overdue import Overdue
from p2pinfer.core.room.queue import Before, Place, Queue, Visit, came
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import Refused
from p2pinfer.core.values.units import PeerKey, SessionId

FIRST_ROWS_S: Final = 2.0  # without a prompt or rows, before a session may have to give way
UNBEGUN_PART: Final = 2  # while more than one part in so many of all are such sessions, those
MAX_UNBEGUN: Final = 4  # of a client with more of them may have to give way at once
RESTING_S: Final = 10.0  # with nothing to compute since, likewise
POSITION_S: Final = 2.0  # a position keeps its session in use for so long: the slowest routes have two a second
MAX_CALLED: Final = 16  # turns at once: each has room kept for it, which everybody's Open has to count

Rank = tuple[bool, float, int, float, float, int, float, bytes]


def is_at_rest(idle_s: float, *, started: bool) -> bool:
    """True if a session was not in use for so long that it may have to give way. started: rows or ids have come"""
    return idle_s >= (RESTING_S if started else FIRST_ROWS_S)


def _with_crowd_at_rest(held: Collection[HeldSession], sessions: int) -> Collection[HeldSession]:
    """The sessions; where those without a prompt or rows are most of the room, those of one who has many are at rest.

    To hold such sessions costs nothing: renewed again and again, they would fill a node for FIRST_ROWS_S each time.
    """
    unbegun = [one for one in held if not one.begun and not one.own]
    if UNBEGUN_PART * len(unbegun) <= sessions:
        return held
    counts = Counter(holder for one in unbegun for holder in one.holders)
    resting = {one.slot for one in unbegun if any(counts[holder] > MAX_UNBEGUN for holder in one.holders)}
    return [replace(one, rests=True) if one.slot in resting else one for one in held]


class Room:
    """Of one node: so many sessions and pages in all. Times are seconds of a monotonic clock."""

    def __init__(self, sessions: int, pages: int) -> None:
        self._sessions = sessions
        self._pages = pages
        self._empty = Holdings((), sessions, pages)  # by which sessions are weighed
        self._queue = Queue(self._empty.weigh)
        self._overdue = Overdue()
        self._excess = Excess(sessions)

    @property
    def is_awaited(self) -> bool:
        """Somebody waits for room."""
        return bool(self._queue)

    def find(
        self, held: Collection[HeldSession], asks: HeldSession, free_pages: int, now: float, visit: Visit
    ) -> list[int]:
        """Return the slots of the sessions that have to end, so that one more finds room.

        Raises Refused (BUSY), with its place, where there is no room even so, or others come before it.
        """
        self._queue.forget(now)
        place = self._queue.take_over(self._queue.find(visit.ticket, asks, now))
        came_s = came(visit.ticket, now) if place is None else place.came_s
        free = self._free(held, free_pages)
        others = [one for one in self._queue.called() if one != place and not one.tried]
        for turn in () if asks.own else others:
            free.take(turn.asks, now - turn.came_s)
        if asks.own or _is_turn(place):
            going, before = free.take(asks, now - came_s), Before(0 if asks.own else len(others), 0)
        else:
            order = self._order(free, [one for one in self._queue.waiting() if one != place], len(held), now)
            rank = order.ranks.rank_of(asks, came_s, visit.ticket)
            before = order.before(asks, rank, len(others))
            for _ in order.take(now, rank):
                pass
            going = None if order.is_held_up else free.take(asks, now - came_s)
        if going is None:
            raise self._refusal(held, asks, free_pages, now, visit, before)
        return free.real(going, asks)

    def let_in(self, held: Collection[HeldSession], asks: HeldSession, ticket: bytes, now: float) -> None:
        """One who found room has taken it. held: by whom, before"""
        if (place := self._queue.find(ticket, asks, now)) is not None:
            self._choose(held, asks, now)
            self._queue.let_in(place, now)

    def call(self, held: Collection[HeldSession], free_pages: int, now: float) -> list[Place]:
        """Those whose turn has come, who are to be told so. Asked soon after every change, and while somebody waits."""
        self._queue.forget(now)
        self._excess.look(held, self._queue.asking(), self._holdings(held), now)
        free, called = self._free(held, free_pages), self._queue.called()
        for turn in called:
            free.take(turn.asks, now - turn.came_s)
        order = self._order(free, self._queue.waiting(), len(held), now)
        first = [*islice(order.take(now), max(0, MAX_CALLED - len(called)))]  # more of them may be back in their turns
        for one in first:
            self._choose(held, one.asks, now)
        return [self._queue.take_turn(one, now) for one in first]

    def pass_over(self, ticket: bytes, client: PeerKey, now: float) -> None:
        """One whose turn it is cannot be told, or cannot be taken for another reason."""
        self._queue.pass_over(ticket, client, now)

    def pass_over_away(self, is_there: Callable[[PeerKey], bool], now: float) -> None:
        """Nobody waits for those who cannot be told of their turn."""
        self._queue.pass_over_away(is_there, now)

    def leave(self, session: SessionId, client: PeerKey, now: float) -> bool:
        """A client gives up its place; False if it has none."""
        return self._queue.leave_session(session, client, now)

    def note_end(self, held: HeldSession, ticket: bytes, now: float, held_s: float, *, worked: bool) -> None:
        """A session has given its room up, which it had for so long.

        worked: something was done in it, so that its client waits no more
        """
        if worked:
            self._queue.leave(ticket, held.client)
            self._queue.note_end(held, held_s)
            self._queue.turns.note(held, held_s, now)
            self._overdue.note_end(held_s)
        else:
            self._queue.turns.note_wasted(held, self._empty.weigh(held) * held_s, now)
            self._queue.let_back(ticket, held.client, now)

    def _free(self, held: Collection[HeldSession], free_pages: int) -> FreeRoom:
        """Room as it is, with that of those who may have to give way."""
        givers = _with_crowd_at_rest(held, self._sessions)
        return FreeRoom(self._holdings(held), self._excess, givers, self._sessions - len(held), free_pages)

    def _holdings(self, held: Collection[HeldSession]) -> Holdings:
        return Holdings(held, self._sessions, self._pages)

    def _order(self, free: FreeRoom, waiting: Sequence[Place], held: int, now: float) -> "_Order":
        """Return the order; a client that asks for much is passed while it does not fit, unless it is due."""
        ranks = _Ranks(free.holdings, self._queue.turns, self._excess)
        large = [place for place in waiting if self._is_much(place.asks)]
        due = min(large, key=ranks.rank) if large and self._overdue.is_due(held, now) else None
        return _Order(free, ranks, waiting, [place for place in large if place is not due])

    def _is_much(self, asks: HeldSession) -> bool:
        return asks.pages * min(ROOM_PART, self._sessions) > self._pages

    def _choose(self, held: Collection[HeldSession], asks: HeldSession, now: float) -> None:
        """One has its turn: where that was for its waiting, and not for its size, the next one has to wait as long."""
        if self._is_much(asks) and self._overdue.is_due(len(held), now):
            self._overdue.begin_anew()

    def _refusal(
        self,
        held: Collection[HeldSession],
        asks: HeldSession,
        free: int,
        now: float,
        visit: Visit,
        before: Before,
    ) -> Refused:
        retry_s = self._queue.expected_s(asks, before, len(held))
        ticket = self._queue.wait(visit, asks, retry_s, now)
        words = f"{len(held)} of {self._sessions} sessions are open, {asks.pages} pages of KV cache are asked for and "
        words += f"{free} free"
        words += f"; {before.all} wait before" if before.all else ""
        return Refused(words, Code.BUSY, retry_s, ticket, before.all)


def _is_turn(place: Place | None) -> bool:
    return place is not None and place.turn_s > -inf


class _Ranks:
    """The order of those who ask: the owner; who holds least; who had least beyond its share; whose turn is long ago.

    Networks are compared first, then keys; tickets only where nothing else tells.
    """

    def __init__(self, holdings: Holdings, turns: LastTurns, excess: Excess) -> None:
        self._holdings = holdings
        self._turns = turns
        self._excess = excess

    def rank(self, place: Place) -> Rank:
        return self.rank_of(place.asks, place.came_s, place.ticket)

    def rank_of(self, asks: HeldSession, came_s: float, ticket: bytes) -> Rank:
        since_s = max(self._turns.of_network(asks), came_s)
        network = self._holdings.part_of(asks), self._excess.steps(asks.holders[-1]), since_s
        key_since_s = max(self._turns.of_key(asks), came_s)
        key = self._holdings.part(asks.client), self._excess.steps(asks.client), key_since_s
        return not asks.own, *network, *key, ticket

    def after(self, rank: Rank, turns: int) -> Rank:
        """The rank of one whose network has had so many turns more."""
        return rank[0], rank[1] + turns * self._holdings.session_part, *rank[2:]


class _Order:
    """Those who wait, as one after the other takes room: by that ranks only grow.

    passed: those of them who are passed by others while they do not fit
    """

    def __init__(self, free: FreeRoom, ranks: _Ranks, waiting: Iterable[Place], passed: Iterable[Place]) -> None:
        self.ranks = ranks
        self._free = free
        self._passed = {place.name for place in passed}
        self._heap = [(ranks.rank(place), place.name, place) for place in waiting]
        heapify(self._heap)
        self.is_held_up = False  # by the first that does not fit

    def before(self, asks: HeldSession, rank: Rank, called: int) -> Before:
        """Return how many come before one with this rank: each holds more with each turn. called: they do anyway"""
        network, turns, count = asks.holders[-1], Counter[Holder](), 0
        own = sum(other < rank for other, _, place in self._heap if place.asks.holders[-1] == network)
        rank = self.ranks.after(rank, own)
        for other, _, place in sorted(self._heap):
            whose = place.asks.holders[-1]
            count += self.ranks.after(other, turns[whose]) < rank
            turns[whose] += 1
        return Before(called + count, own)

    def take(self, now: float, own: Rank | None = None) -> Iterator[Place]:
        """Those who come before this rank, if one is named, each with its room; they end with one who finds none."""
        heap = self._heap
        while heap:
            before, name, first = heap[0]
            rank = self.ranks.rank(first)
            if rank > before:
                heapreplace(heap, (rank, name, first))
            elif own is not None and rank >= own:
                return
            elif self._free.take(first.asks, now - first.came_s) is not None:
                heappop(heap)
                yield first
            elif name in self._passed:
                heappop(heap)
            else:
                self.is_held_up = True
                return
