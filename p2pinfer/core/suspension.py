"""For how long a session waits for a client whose link broke (protocols/inference.md, 4.4).

Pure: `now` is a monotonic clock in seconds.
"""

from math import inf
from typing import Final

RETURN_S: Final = 30.0  # for a client to come back, each time that its link breaks
RETURN_ALL_S: Final = 60.0  # of one session, in all: the whole ring stands still meanwhile


class Suspension:
    """Of one session. ends: when it waits no longer; inf while the client is there."""

    def __init__(self) -> None:
        self.ends = inf
        self._left_s = RETURN_ALL_S
        self._began = 0.0

    def begin(self, now: float) -> None:
        """The link broke. Again before `end`, it changes nothing."""
        if self.ends == inf:
            self._began = now
            self.ends = now + min(RETURN_S, self._left_s)

    def end(self, now: float) -> None:
        """The client is back."""
        if self.ends < inf:
            self._left_s -= now - self._began
            self.ends = inf
