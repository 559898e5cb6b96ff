"""Room at a node: one session finds it, others give it up to those who ask (protocols/inference.md, 7.1 and 7.2).

Room is nobody's right. Keys cost nothing, credit is had for a few seconds of work that is paid with promises, and to
hold a session open costs nothing either. So whatever is idle gives way once somebody asks, and what becomes free goes
to those who hold least: to whom of them came first. Who is alone may have everything.
"""

from collections.abc import Collection, Iterable
from math import inf
from typing import Final

from p2pinfer.core.codes import Code
from p2pinfer.core.errors import Refused
from p2pinfer.core.holdings import HeldSession, Holdings
from p2pinfer.core.queue import Place, Queue, Visit
from p2pinfer.core.units import PeerKey, SessionId

FIRST_ROWS_S: Final = 2.0  # without a prompt or rows, before a session may have to give way
RESTING_S: Final = 10.0  # with nothing to compute since, likewise
POSITION_S: Final = 1.0  # a position keeps its session in use for so long: one every ten seconds is no use
Rank = tuple[bool, float, float, tuple[float, bytes]]

ROOM_PART: Final = 8  # whose key or network holds more than one part in so many gives way first


def is_at_rest(idle_s: float, *, started: bool) -> bool:
    """True if a session was not in use for so long that it may have to give way. started: rows or ids have come"""
    return idle_s >= (RESTING_S if started else FIRST_ROWS_S)


class Room:
    """Of one node: so many sessions and pages in all. Times are seconds of a monotonic clock."""

    def __init__(self, sessions: int, pages: int) -> None:
        self._sessions = sessions
        self._pages = pages
        self._queue = Queue()

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
        place = self._queue.take_over(self._queue.find(visit.ticket, asks))
        free = self._free(held, free_pages, asks, place)
        going = free.take(asks) if asks.own or _is_turn(place) else self._take_after_others(free, asks, place, visit)
        if going is None:
            raise self._refusal(held, asks, free_pages, now, visit)
        return going

    def let_in(self, held: Collection[HeldSession], asks: HeldSession, ticket: bytes, now: float) -> None:
        """One who found room has taken it. held: by whom, before"""
        if (place := self._queue.find(ticket, asks)) is not None:
            self._choose(held, asks)
            self._queue.let_in(place, now)

    def call(self, held: Collection[HeldSession], free_pages: int, now: float) -> list[Place]:
        """Those whose turn has come, who are to be told so."""
        self._queue.forget(now)
        waiting, free = self._queue.waiting(), self._free(held, free_pages)
        called = []
        while waiting and free.take((first := free.first(waiting)).asks) is not None:
            waiting.remove(first)
            self._choose(held, first.asks)
            called.append(self._queue.take_turn(first, now))
        return called

    def pass_over(self, ticket: bytes, client: PeerKey) -> None:
        """One whose turn it is cannot be told, or cannot be taken for another reason."""
        self._queue.pass_over(ticket, client)

    def leave(self, session: SessionId, client: PeerKey) -> bool:
        """A client gives up its place; False if it has none."""
        return self._queue.leave_session(session, client)

    def note_end(self, held: HeldSession, ticket: bytes, now: float, *, worked: bool) -> None:
        """A session has given its room up. worked: something was done in it, so that its client waits no more"""
        if worked:
            self._queue.leave(ticket, held.client)
            self._queue.note_freed(now)
        else:
            self._queue.let_back(ticket, held.client, now)

    def _free(
        self,
        held: Collection[HeldSession],
        free_pages: int,
        asks: HeldSession | None = None,
        place: Place | None = None,
    ) -> "_Free":
        """Room that is kept for nobody; but for the one who asks, and for nobody else where that is the owner."""
        overdue = self._queue.has_passed(len(held))
        free = _Free(held, free_pages, self._sessions, self._pages, self._queue.waiting() if overdue else ())
        if asks is None or not asks.own:
            for turn in self._queue.turns():
                if turn != place:
                    free.take(turn.asks)
        return free

    def _take_after_others(
        self, free: "_Free", asks: HeldSession, place: Place | None, visit: Visit
    ) -> list[int] | None:
        """As `_Free.take`, once all who come before it had their room; None where one of them finds none."""
        waiting = [one for one in self._queue.waiting() if one != place]
        while waiting and free.rank(first := free.first(waiting)) < free.rank_of(asks, place or visit):
            if free.take(first.asks) is None:
                return None
            waiting.remove(first)
        return free.take(asks)

    def _choose(self, held: Collection[HeldSession], asks: HeldSession) -> None:
        """One has its turn: where that was for its waiting, and not for its size, the next one has to wait as long."""
        if self._queue.has_passed(len(held)) and _is_much(asks, self._pages):
            self._queue.passed = 0

    def _refusal(
        self, held: Collection[HeldSession], asks: HeldSession, free_pages: int, now: float, visit: Visit
    ) -> Refused:
        place = self._queue.find(visit.ticket, asks)
        before = 0 if asks.own else self._before(held, asks, place, visit)
        retry_s = self._queue.expected_s(before, now)
        ticket = self._queue.wait(visit, asks, retry_s, now)
        words = f"{len(held)} of {self._sessions} sessions are open, {asks.pages} pages of KV cache are asked for and "
        words += f"{free_pages} free"
        return Refused(f"{words}; {before} wait before" if before else words, Code.BUSY, retry_s, ticket, before)

    def _before(self, held: Collection[HeldSession], asks: HeldSession, place: Place | None, visit: Visit) -> int:
        """How many have their turn before this one, as things are."""
        overdue = self._queue.has_passed(len(held))
        ranks = _Ranks(held, self._sessions, self._pages, self._queue.waiting() if overdue else ())
        own = ranks.rank_of(asks, place or visit)
        turns, waiting = self._queue.turns(), self._queue.waiting()
        return len(turns) + sum(ranks.rank(one) < own for one in waiting if one != place)


def _is_turn(place: Place | None) -> bool:
    return place is not None and place.turn_s > -inf


def _is_much(asks: HeldSession, pages: int) -> bool:
    return asks.pages * ROOM_PART > pages


class _Ranks:
    """The order of those who ask: the owner, then who holds least, then who came first.

    To ask for much counts as to hold it: else who asks for everything would keep a node empty until it is there.

    overdue: those of whom one has waited for so long that this does not count for it any more
    """

    def __init__(self, held: Iterable[HeldSession], sessions: int, pages: int, overdue: Iterable[Place] = ()) -> None:
        self.holdings = Holdings(held, sessions, pages)
        self._pages = pages
        self._overdue = b""  # its name
        if large := [place for place in overdue if _is_much(place.asks, pages)]:
            self._overdue = min(large, key=lambda place: self._rank(place.asks, place, 0.0)).name

    def first(self, waiting: Iterable[Place]) -> Place:
        return min(waiting, key=self.rank)

    def rank(self, place: Place) -> Rank:
        return self.rank_of(place.asks, place)

    def rank_of(self, asks: HeldSession, place: Place | Visit) -> Rank:
        is_overdue = isinstance(place, Place) and place.name == self._overdue
        much = 0.0 if is_overdue or not _is_much(asks, self._pages) else asks.pages / self._pages
        return self._rank(asks, place, much)

    def _rank(self, asks: HeldSession, place: Place | Visit, much: float) -> Rank:
        return not asks.own, self.holdings.part(asks) + much, self.holdings.key_part(asks), place.number


class _Free(_Ranks):
    """Room that is free, or that sessions at rest give up, as it is given to one after the other."""

    def __init__(
        self,
        held: Collection[HeldSession],
        free_pages: int,
        sessions: int,
        pages: int,
        overdue: Iterable[Place] = (),
    ) -> None:
        super().__init__(held, sessions, pages, overdue)
        self._resting = [one for one in held if one.rests and not one.own]
        self._free_sessions = sessions - len(held)
        self._free_pages = free_pages

    def take(self, asks: HeldSession) -> list[int] | None:
        """Give it room; return the slots of those who go for it. None, and nothing changes, where there is none."""
        sessions, pages, giving = self._free_sessions, self._free_pages, self._giving(asks)
        going = []
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
