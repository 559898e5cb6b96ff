"""The rate at which this machine's line carries parts of files, as several links tell (protocols/wire.md, 5).

A link may be slower than the line, so no link's own speed tells. The rate is tried: it grows while parts wait for the
line and come in time, and falls where something that shares the line came later than it does when the line is free.
Pure: times are arguments; what leaves, and when, is for `overlay/uplink.py`.
"""

from math import inf
from typing import Final

GROWTH: Final = 1 / 8  # by so much in a second, while parts wait: eight times as fast after 17 s
SHRINKING: Final = 0.7  # where something came late
SHRINK_S: Final = 0.5  # between two of these: what is late meanwhile left before
TOGETHER_S: Final = 1.0  # what is late within so much was late together
LATE_S: Final = 0.010  # and half of a part's time: what comes later than usual by less is chance


class LineRate:
    """rate: bytes a second, `least` at the least. Times are seconds of a monotonic clock"""

    def __init__(self, least: float) -> None:
        self.rate = self._least = least
        self._tried_s = self._shrunk_s = self._late_s = -inf
        self._late = ""  # the network to which a part came late last

    def is_late(self, late_s: float, size: int) -> bool:
        """True if something came so much later than usual that it waited for others. size: of a part"""
        return late_s > size / self.rate / 2 + LATE_S

    def note_in_time(self, size: int, now: float, *, waited: bool) -> None:
        """A part came in time. waited: for the line, else the rate was not tried"""
        if waited:
            self.rate *= 1 + GROWTH * min(now - self._tried_s, size / self.rate)
        self._tried_s = now

    def note_late(self, network: str, now: float) -> None:
        """A part came late. Where those of two networks do so, it is for the line, which they share."""
        if self._late not in ("", network) and now <= self._late_s + TOGETHER_S:
            self.shrink(now)
        self._late, self._late_s = network, now

    def shrink(self, now: float) -> None:
        """Something waited for the line."""
        if now >= self._shrunk_s + SHRINK_S:
            self.rate, self._shrunk_s = max(self._least, SHRINKING * self.rate), now
