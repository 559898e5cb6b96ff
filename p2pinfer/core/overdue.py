"""Whether one who asks for much room has waited so long that its size counts no more against it.

It needs the room of many at once, so those who ask for little come before it, until so many of them have ended. Then
nobody else is let in before it fits: that may be in vain, so it costs a node a bounded part of its time.
"""

from math import inf
from typing import Final

PASSED: Final = 4  # times as many sessions as there are now may end before one that asks for much has its turn
HOLD_BACK_PART: Final = 4  # others are kept back for one part in so many of the time that this took,
HOLD_BACK_S: Final = 30.0  # and for so long at most


class Overdue:
    """Times are seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._passed = 0  # sessions that have ended since one of its kind had its turn, or was waited for in vain
        self._began_s = -inf  # when the first of them ended
        self._until_s = inf  # others are kept back so long

    def note_end(self, now: float) -> None:
        """A session that had worked gave its room up."""
        self._began_s = self._began_s if self._passed else now
        self._passed += 1

    def is_due(self, held: int, now: float) -> bool:
        """Asked while one waits that asks for much. held: sessions now"""
        if self._passed < PASSED * max(1, held):
            return False
        if self._until_s == inf:
            self._until_s = now + min(HOLD_BACK_S, (now - self._began_s) / HOLD_BACK_PART)
        if now >= self._until_s:
            self.begin_anew()
        return self._passed > 0

    def begin_anew(self) -> None:
        """One had its turn, or found no room in time."""
        self._passed, self._until_s = 0, inf
