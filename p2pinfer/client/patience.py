"""A client's patience with the stages of an answer (protocols/inference.md, INF-42).

Silence is borne for STALL_S. A stage that sends an id now and then would make that hours; so an id gives back a part of
the patience alone: as much as several times what it was to take. Whoever keeps its word has all of it all the time.
Before the first id other nodes may do as well, and it runs on, whatever links do.
Pure: `now` is the caller's monotonic clock in seconds.
"""

from typing import Final

from p2pinfer.core.sessions.suspension import RETURN_S

OPEN_S: Final = 15.0  # from the Open, for every stage to accept, which may link to the next one first (REACH_S)
HELD_UP_S: Final = 1.0  # past the end: our own process was stopped, or its machine slept
STALL_S: Final = 60.0  # without an id, prefill of a long prompt included
CRAWL_S: Final = 8.0  # that an id gives back, at least: a slow node, full of others, takes seconds for one
CRAWL_FACTOR: Final = 10  # and so many times what was to be expected of it: nodes have other work, too


class Patience:
    """The patience with one answer. step_s: what is expected from one id to the next, by promise and by measurement.

    first_id_s, last_id_s: when ids came; None before
    ends: when it is used up; nothing but `was_held_up` and what comes moves it, and only to later
    """

    def __init__(self, step_s: float, now: float) -> None:
        """Its stages are asked to open now; however many dawdle, each accepts by itself."""
        self.step_s = step_s
        self.first_id_s: float | None = None
        self.last_id_s: float | None = None
        self.ends = now + OPEN_S
        self._has_ids = False
        self._left_s: float | None = None  # while it does not run down
        self._moments_s = STALL_S  # that may be given beside it, in all

    def pause(self, now: float) -> None:
        """We are away, for RETURN_S at most: silence is nobody's, where an id has come."""
        if self._has_ids and self._left_s is None:
            self._left_s = self.ends - now
            self.ends += RETURN_S

    def go_on(self, now: float) -> None:
        """We are back, with as much patience as before, and a moment at least: links are silent before they break."""
        if self._left_s is not None:
            moment_s = min(max(0.0, CRAWL_S - self._left_s), self._moments_s)
            self._moments_s -= moment_s
            self.ends, self._left_s = now + self._left_s + moment_s, None

    def note_opened(self, now: float) -> None:
        """All stages have accepted."""
        self.ends = now + STALL_S

    def note_ids(self, count: int, now: float) -> None:
        """So many ids came. All that was there before the first one was prefill's."""
        self.last_id_s = now
        if self.first_id_s is None:
            self.first_id_s = now
        if self._left_s is not None:
            return  # what was under way on other links, while we are away from one
        given = count * max(CRAWL_S, CRAWL_FACTOR * self.step_s)
        self.ends = min(now + STALL_S, self.ends + given) if self._has_ids else now + STALL_S
        self._has_ids = True

    def was_held_up(self, now: float) -> bool:
        """It is used up, but it was we who did nothing: what came meanwhile lies unread, and gets a moment more."""
        if now <= self.ends + HELD_UP_S:
            return False
        self.ends = now + HELD_UP_S
        return True
