"""The time after which the size of a client that asks for much room counts no more against it.

It needs the room of many at once, so those who ask for little come before it, until so many of them have ended. Then
nobody else is let in before it fits: that may be in vain, so it costs a node a bounded part of its time.
"""

from math import inf
from typing import Final

PASSED: Final = 4  # times as many sessions as there are now may end before one that asks for much has its turn
HOLD_BACK_PART: Final = 4  # others are kept back for one part in so many of the time that those kept the node busy


class Overdue:
    """Times are seconds of a monotonic clock."""

    def __init__(self) -> None:
        self.begin_anew()

    def begin_anew(self) -> None:
        """One had its turn, or found no room in time."""
        self._passed = 0  # sessions that have ended since
        self._lasted_s = 0.0  # all of them together
        self._until_s = inf  # others are kept back so long

    def note_end(self, lasted_s: float) -> None:
        """A session that had worked gave its room up."""
        self._passed += 1
        self._lasted_s += lasted_s

    def is_due(self, held: int, now: float) -> bool:
        """Asked while one waits that asks for much. held: sessions now"""
        if self._until_s == inf and self._passed >= PASSED * max(1, held):
            self._until_s = now + self._lasted_s / max(1, held) / HOLD_BACK_PART
        elif now >= self._until_s:
            self.begin_anew()
        return self._until_s < inf
