"""The time that somebody who answers may take for the next step, from the round trips that were seen.

A slow peer is waited for, and a silent one is not: a deadline that is the same for all cannot tell them apart.
"""

from math import inf
from typing import Final

import trio

WORK_S: Final = 1.0  # for what a step costs at the other end, which may be busy
ROUND_TRIPS: Final = 2  # that a step may take: one packet may be lost


def patience_s(rtt_s: float | None) -> float:
    """Seconds in which a peer whose round trip is this should have answered a short question."""
    return WORK_S + ROUND_TRIPS * (rtt_s or 0.0)


class Expecting:
    """The steps of one dial. due_s: when the next one should have come, in trio's time; long past before the first."""

    def __init__(self) -> None:
        self.due_s = -inf
        self._began_s = trio.current_time()
        self._first_s: float | None = None  # that the first step took: a round trip, or more

    def hear(self) -> None:
        """A step was made now."""
        now = trio.current_time()
        if self._first_s is None:
            self._first_s = now - self._began_s
        self.due_s = now + patience_s(self._first_s)
