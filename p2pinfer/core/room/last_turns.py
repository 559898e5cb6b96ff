"""The last turns of keys and networks at a node: of those who hold as little, who waits longest since then is the next.

Hardly anything that a client says counts here. Room that was kept or given, and came to nothing, is a turn as well once
it sums up to as much: else free keys would take turn after turn and do nothing with them. A client that needs several
stages at once wastes some without malice, until all have room for it (protocols/inference.md, 7.2).
"""

from collections import defaultdict, deque
from collections.abc import Iterable
from math import inf
from typing import Final

from p2pinfer.core.room.holdings import HeldSession, Holder

TURN_S: Final = 2.0  # room is kept for whose turn it is, and was told so
WASTE: Final = 2  # as much room as so many sessions had lately makes a turn, whatever becomes of it,
LEAST_WASTE_S: Final = 4.0  # and no less than this
MOST_WASTE_S: Final = 20.0  # nor more
TURNS_KEPT: Final = 4_096  # of so many keys and networks; those whose turn is longest ago are forgotten first
LASTED_KEPT: Final = 16  # sessions that worked and ended last


class LastTurns:
    """Times are seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._last: dict[Holder, float] = {}  # who had it last stands last
        self._wasted_s: defaultdict[Holder, float] = defaultdict(float)  # since then
        self._lasted_s: deque[float] = deque(maxlen=LASTED_KEPT)

    def of_network(self, one: HeldSession) -> float:
        """Return when its network had its last turn, or its key where that counts alone; -inf: never."""
        return self._last.get(one.holders[-1], -inf)

    def of_key(self, one: HeldSession) -> float:
        """The same of its key."""
        return self._last.get(one.client, -inf)

    def note(self, one: HeldSession, lasted_s: float, now: float) -> None:
        """It had room for so long, and made use of it."""
        self._lasted_s.append(lasted_s)
        self._note(one.holders, now)

    def note_wasted(self, one: HeldSession, wasted_s: float, now: float) -> None:
        """Room was kept or held for it for so long, and nothing was done."""
        for holder in one.holders:
            self._wasted_s[holder] += wasted_s
        self._note([holder for holder in one.holders if self._wasted_s[holder] >= self._turn_s], now)
        while len(self._wasted_s) > TURNS_KEPT:
            del self._wasted_s[next(iter(self._wasted_s))]

    @property
    def _turn_s(self) -> float:
        """So much room makes a turn, by what sessions had lately."""
        lasted_s = WASTE * sum(self._lasted_s) / len(self._lasted_s) if self._lasted_s else LEAST_WASTE_S
        return min(max(lasted_s, LEAST_WASTE_S), MOST_WASTE_S)

    def _note(self, holders: Iterable[Holder], now: float) -> None:
        for holder in holders:
            self._last.pop(holder, None)
            self._last[holder] = now
            self._wasted_s.pop(holder, None)
        while len(self._last) > TURNS_KEPT:
            del self._last[next(iter(self._last))]
