"""Room at a node as one after the other takes it: what is free, and who gives way (protocols/inference.md, 7.1)."""

from collections.abc import Iterable, Sequence
from heapq import heapify, heappop, heappush
from typing import Final

from p2pinfer.core.room.excess import SLICE_S, Excess
from p2pinfer.core.room.holdings import HeldSession, Holdings

ROOM_PART: Final = 8  # whose key or network holds more than one part in so many gives way first

_GivesWay = tuple[bool, bool, bool, bool, float, float, float, float]
_Giver = tuple[_GivesWay, int, HeldSession]


class FreeRoom:
    """Room that is free, or that others give up, as it is given to one after the other."""

    def __init__(
        self, holdings: Holdings, excess: Excess, held: Iterable[HeldSession], sessions: int, pages: int
    ) -> None:
        """sessions, pages: that nobody holds"""
        self.holdings = holdings
        self._excess = excess
        self._sessions = self._real_sessions = sessions
        self._pages = self._real_pages = pages
        self._gone: list[HeldSession] = []  # in the order in which they were chosen
        self._givers = [(self._order(one), -one.slot, one) for one in held if self._is_giver(one)]
        heapify(self._givers)

    def take(self, asks: HeldSession, waited_s: float = 0.0) -> list[HeldSession] | None:
        """Give it room; return those who go for it. None, and nothing changes, where there is none."""
        is_patient = waited_s >= SLICE_S
        sessions, pages, going = self._sessions, self._pages, list[HeldSession]()
        kept: list[_Giver] = []
        while sessions < 1 or pages < asks.pages:
            if (giver := self._next_giver(asks, is_patient, kept)) is None:
                break
            going.append(giver)
            sessions, pages = sessions + 1, pages + giver.pages
        for other in kept:
            heappush(self._givers, other)
        if sessions < 1 or pages < asks.pages:
            for one in going:
                heappush(self._givers, (self._order(one), -one.slot, one))
            return None
        for one in going:
            self.holdings.remove(one)
        self.holdings.add(asks)
        self._gone += going
        self._sessions, self._pages = sessions - 1, pages - asks.pages
        return going

    def real(self, going: Sequence[HeldSession], asks: HeldSession) -> list[int]:
        """The slots of those who have to end for the one that took room last.

        What others give up for those whose turn it is, is no room yet.
        """
        sessions, pages = self._real_sessions + len(going), self._real_pages + sum(one.pages for one in going)
        slots = [one.slot for one in going]
        for one in self._gone:
            if sessions >= 1 and pages >= asks.pages:
                break
            if one.slot not in slots:
                slots.append(one.slot)
                sessions, pages = sessions + 1, pages + one.pages
        return slots

    def _next_giver(self, asks: HeldSession, is_patient: bool, kept: list[_Giver]) -> HeldSession | None:
        """Return the session that gives way to this one first, of those that may; kept: those that may not."""
        while self._givers:
            giver = heappop(self._givers)
            before, slot, one = giver
            if (order := self._order(one)) > before:
                heappush(self._givers, (order, slot, one))
            elif self._may_go(one, asks, is_patient):
                return one
            else:
                kept.append(giver)
        return None

    def _is_giver(self, one: HeldSession) -> bool:
        return not one.own and (one.rests or self._excess.is_much(one, self.holdings.weigh(one)))

    def _may_go(self, one: HeldSession, asks: HeldSession, is_patient: bool) -> bool:
        if self.holdings.exceed(asks, one) and not asks.own:
            return False
        return one.rests or (is_patient and self._excess.may_end(one, asks, self.holdings))

    def _order(self, one: HeldSession) -> _GivesWay:
        """Lowest for who gives way first."""
        part, key_part = self.holdings.part_of(one), self.holdings.part(one.client)
        at_rest = not one.rests, not one.alone
        return *at_rest, part * ROOM_PART <= 1, not one.newcomer, -part, -key_part, -one.idle_s, -one.held_s
