"""Room at a node: one session finds it, others give it up to those who ask (protocols/inference.md, 7.1 and 7.2).

Room is nobody's right. Keys cost nothing, credit is had for a few seconds of work that is paid with promises, and to
hold a session open costs nothing either. So whatever is idle gives way once somebody asks, and what becomes free goes
to those who hold least, and of them to whose last turn is longest ago. Who is alone may have everything.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from heapq import heapify, heappop, heapreplace
from math import inf
from typing import Final

from p2pinfer.core.codes import Code
from p2pinfer.core.errors import Refused
from p2pinfer.core.holdings import HeldSession, Holdings
from p2pinfer.core.last_turns import LastTurns
from p2pinfer.core.overdue import Overdue
from p2pinfer.core.queue import Place, Queue, Visit
from p2pinfer.core.units import PeerKey, SessionId

FIRST_ROWS_S: Final = 2.0  # without a prompt or rows, before a session may have to give way
RESTING_S: Final = 10.0  # with nothing to compute since, likewise
POSITION_S: Final = 1.0  # a position keeps its session in use for so long: one every ten seconds is no use
MAX_CALLED: Final = 16  # turns at once: each has room kept for it, which everybody's Open has to count
ROOM_PART: Final = 8  # whose key or network holds more than one part in so many gives way first

Rank = tuple[bool, float, float, float, float, tuple[float, bytes]]


def is_at_rest(idle_s: float, *, started: bool) -> bool:
    """True if a session was not in use for so long that it may have to give way. started: rows or ids have come"""
    return idle_s >= (RESTING_S if started else FIRST_ROWS_S)


class Room:
    """Of one node: so many sessions and pages in all. Times are seconds of a monotonic clock."""

    def __init__(self, sessions: int, pages: int) -> None:
        self._sessions = sessions
        self._pages = pages
        self._queue = Queue()
        self._overdue = Overdue()

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
        place = self._queue.find(visit.ticket, asks)
        free = self._free(held, free_pages, now)
        others = [one for one in self._queue.called() if one != place]
        for turn in () if asks.own else others:
            free.take(turn.asks)
        if asks.own or _is_turn(place):
            going, before = free.take(asks), 0 if asks.own else len(others)
        else:
            order = _Order(free, [one for one in self._queue.waiting() if one != place])
            before = len(others) + order.before(asks, place or visit)
            going = _take_after_others(free, asks, place or visit, order)
        if going is None:
            raise self._refusal(held, asks, free_pages, now, visit, before)
        return going

    def let_in(self, held: Collection[HeldSession], asks: HeldSession, ticket: bytes, now: float) -> None:
        """One who found room has taken it. held: by whom, before"""
        if (place := self._queue.find(ticket, asks)) is not None:
            self._choose(held, asks, now)
            self._queue.let_in(place, now)

    def call(self, held: Collection[HeldSession], free_pages: int, now: float) -> list[Place]:
        """Those whose turn has come, who are to be told so."""
        self._queue.forget(now)
        free, called = self._free(held, free_pages, now), self._queue.called()
        for turn in called:
            free.take(turn.asks)
        more: list[Place] = []
        for first in _Order(free, self._queue.waiting()):
            if len(called) + len(more) == MAX_CALLED or free.take(first.asks) is None:
                break
            self._choose(held, first.asks, now)
            more.append(self._queue.take_turn(first, now))
        return more

    def pass_over(self, ticket: bytes, client: PeerKey, now: float) -> None:
        """One whose turn it is cannot be told, or cannot be taken for another reason."""
        self._queue.pass_over(ticket, client, now)

    def pass_over_away(self, is_there: Callable[[PeerKey], bool]) -> None:
        """Nobody waits for those who cannot be told of their turn."""
        self._queue.pass_over_away(is_there)

    def leave(self, session: SessionId, client: PeerKey, now: float) -> bool:
        """A client gives up its place; False if it has none."""
        return self._queue.leave_session(session, client, now)

    def note_end(self, held: HeldSession, ticket: bytes, now: float, held_s: float, *, worked: bool) -> None:
        """A session has given its room up, which it had for so long.

        worked: something was done in it, so that its client waits no more
        """
        if worked:
            self._queue.leave(ticket, held.client)
            self._queue.note_freed(now)
            self._queue.turns.note(held, now)
            self._overdue.note_end(now)
        else:
            self._queue.turns.note_wasted(held, held_s, now)
            self._queue.let_back(ticket, held.client, now)

    def _free(self, held: Collection[HeldSession], free_pages: int, now: float) -> "_Free":
        """Room as it is, with that of those at rest."""
        large = [place for place in self._queue.waiting() if _is_much(place.asks, self._pages)]
        overdue = large if large and self._overdue.is_due(len(held), now) else ()
        return _Free(held, free_pages, self._sessions, self._pages, self._queue.turns, overdue)

    def _choose(self, held: Collection[HeldSession], asks: HeldSession, now: float) -> None:
        """One has its turn: where that was for its waiting, and not for its size, the next one has to wait as long."""
        if _is_much(asks, self._pages) and self._overdue.is_due(len(held), now):
            self._overdue.begin_anew()

    def _refusal(
        self, held: Collection[HeldSession], asks: HeldSession, free_pages: int, now: float, visit: Visit, before: int
    ) -> Refused:
        retry_s = self._queue.expected_s(before, now)
        ticket = self._queue.wait(visit, asks, retry_s, now)
        words = f"{len(held)} of {self._sessions} sessions are open, {asks.pages} pages of KV cache are asked for and "
        words += f"{free_pages} free"
        return Refused(f"{words}; {before} wait before" if before else words, Code.BUSY, retry_s, ticket, before)


def _is_turn(place: Place | None) -> bool:
    return place is not None and place.turn_s > -inf


def _is_much(asks: HeldSession, pages: int) -> bool:
    return asks.pages * ROOM_PART > pages


def _take_after_others(free: "_Free", asks: HeldSession, place: Place | Visit, order: "_Order") -> list[int] | None:
    """As `_Free.take`, once all who come before it had their room; None where one of them finds none."""
    for first in order:
        if free.rank(first) >= free.rank_of(asks, place):
            break
        if free.take(first.asks) is None:
            return None
    return free.take(asks)


class _Ranks:
    """The order of those who ask: the owner, then who holds least, then whose last turn is longest ago.

    Networks are compared first, then keys; tickets only where neither ever had a turn, or of one key. To ask for much
    counts as to hold it: else who asks for everything would keep a node empty until it is there.

    overdue: those of whom one has waited for so long that this does not count for it any more
    """

    def __init__(
        self,
        held: Iterable[HeldSession],
        sessions: int,
        pages: int,
        turns: LastTurns,
        overdue: Iterable[Place] = (),
    ) -> None:
        self.holdings = Holdings(held, sessions, pages)
        self._pages = pages
        self._turns = turns
        self._overdue = b""  # its name
        if large := [*overdue]:
            self._overdue = min(large, key=lambda place: self._rank(place.asks, place, 0.0)).name

    def rank(self, place: Place) -> Rank:
        return self.rank_of(place.asks, place)

    def rank_of(self, asks: HeldSession, place: Place | Visit) -> Rank:
        is_overdue = isinstance(place, Place) and place.name == self._overdue
        much = 0.0 if is_overdue or not _is_much(asks, self._pages) else asks.pages / self._pages
        return self._rank(asks, place, much)

    def _rank(self, asks: HeldSession, place: Place | Visit, much: float) -> Rank:
        network, key = self._turns.last_of_network(asks), self._turns.last_of_key(asks)
        return not asks.own, self.holdings.part(asks) + much, network, self.holdings.key_part(asks), key, place.number


class _Order:
    """Those who wait, in their order, while one after the other takes room: by that ranks only grow."""

    def __init__(self, ranks: _Ranks, waiting: Sequence[Place]) -> None:
        self._ranks = ranks
        self._heap = [(ranks.rank(place), place.name, place) for place in waiting]
        heapify(self._heap)

    def before(self, asks: HeldSession, place: Place | Visit) -> int:
        """How many come before this one, as things are."""
        own = self._ranks.rank_of(asks, place)
        return sum(rank < own for rank, _, _ in self._heap)

    def __iter__(self) -> Iterator[Place]:
        heap = self._heap
        while heap:
            before, name, first = heap[0]
            if (rank := self._ranks.rank(first)) > before:
                heapreplace(heap, (rank, name, first))
            else:
                heappop(heap)
                yield first


class _Free(_Ranks):
    """Room that is free, or that sessions at rest give up, as it is given to one after the other."""

    def __init__(
        self,
        held: Collection[HeldSession],
        free_pages: int,
        sessions: int,
        pages: int,
        turns: LastTurns,
        overdue: Iterable[Place] = (),
    ) -> None:
        super().__init__(held, sessions, pages, turns, overdue)
        self._resting = [one for one in held if one.rests and not one.own]
        self._free_sessions = sessions - len(held)
        self._free_pages = free_pages

    def take(self, asks: HeldSession) -> list[int] | None:
        """Give it room; return the slots of those who go for it. None, and nothing changes, where there is none."""
        sessions, pages, going = self._free_sessions, self._free_pages, list[HeldSession]()
        giving = self._giving(asks) if sessions < 1 or pages < asks.pages else []
        while sessions < 1 or pages < asks.pages:
            if not giving:
                return None
            going.append(leaves := giving.pop())
            sessions, pages = sessions + 1, pages + leaves.pages
        for one in going:
            self._resting.remove(one)
            self.holdings.remove(one)
        self.holdings.add(asks)
        self._free_sessions, self._free_pages = sessions - 1, pages - asks.pages
        return [one.slot for one in going]

    def _giving(self, asks: HeldSession) -> list[HeldSession]:
        """Those who give way to one who asks; who gives way first stands last."""
        holdings = self.holdings

        def order(one: HeldSession) -> tuple[bool, bool, bool, float, float]:
            part = holdings.part(one)
            return one.alone, part * ROOM_PART > 1, one.newcomer, part, one.idle_s

        return sorted((one for one in self._resting if asks.own or not holdings.exceed(asks, one)), key=order)
