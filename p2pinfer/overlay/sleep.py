"""Sleep of this machine, in which trio's clock stands still: what is told in seconds is older than it seems afterwards.

Linux and macOS have a clock that goes on meanwhile. Where there is none nobody hears of a sleep, and what was known
before it counts until its time is over awake. A virtual machine that was paused cannot tell either.
"""

import sys
import time
from collections.abc import Callable
from typing import Final

JUMP_S: Final = 1.0  # a shorter sleep makes nothing stale; it counts with the next
CLOCKS: Final = {"linux": "CLOCK_BOOTTIME", "darwin": "CLOCK_MONOTONIC_RAW"}


def asleep_s() -> float:
    """Seconds that this machine slept since it started, beside a constant."""
    if sys.platform == "win32":
        return 0.0
    clock = getattr(time, CLOCKS.get(sys.platform, ""), None)
    return 0.0 if clock is None else time.clock_gettime(clock) - time.monotonic()


class Sleep:
    """The sleep of the machine, for one who lives by trio's clock. asleep_s: as above"""

    def __init__(self, asleep_s: Callable[[], float]) -> None:
        self._asleep_s = asleep_s
        self._told_s = asleep_s()

    def passed_s(self) -> float:
        """Seconds slept since this was asked before, or 0."""
        slept_s = self._asleep_s() - self._told_s
        if slept_s < JUMP_S:
            return 0.0
        self._told_s += slept_s
        return slept_s
