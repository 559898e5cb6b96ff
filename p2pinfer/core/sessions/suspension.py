"""For how long a session waits for a client whose link broke (protocols/inference.md, 4.4).

Pure: `now` is a monotonic clock in seconds.
"""

from math import inf
from typing import Final

RETURN_S: Final = 30.0  # for a client to come back, each time that its link breaks
RETURN_ALL_S: Final = 60.0  # of one session, in all: the whole ring stands still meanwhile
RESUME_S: Final = 5.0  # for a client that has a new link to say that it comes back; and once it has, for what it owes


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

    def hasten(self, now: float) -> None:
        """The client is there: if it wants the session it says so."""
        self.ends = min(self.ends, now + RESUME_S) if self.is_on else self.ends

    @property
    def is_on(self) -> bool:
        return self.ends < inf

    def end(self, now: float) -> float:
        """The client is back. Returns by how much deadlines move: as long as it was away, and a moment.

        The moment is taken from the time for all returns, so that nobody who comes back again and again is waited for
        without end.
        """
        if not self.is_on:
            return 0.0
        away_s = now - self._began
        moment_s = min(RESUME_S, max(0.0, self._left_s - away_s))
        self._left_s -= away_s + moment_s
        self.ends = inf
        return away_s + moment_s
