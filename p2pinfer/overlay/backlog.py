"""Bytes that wait on links, to be sent or to become whole messages: by link, and of all links together.

A link is ended when too much waits on it. When all together keep too much, the one that keeps most ends for the others.
"""

from collections.abc import Callable


class Backlog:
    """Of all links. limit: bytes"""

    def __init__(self, limit: int) -> None:
        self.size = 0
        self._limit = limit
        self._weights: set[LinkBacklog] = set()

    @property
    def is_over(self) -> bool:
        return self.size > self._limit

    def add(self, weight: "LinkBacklog") -> None:
        self._weights.add(weight)

    def remove(self, weight: "LinkBacklog") -> None:
        """Count it no more; again does nothing."""
        if weight in self._weights:
            self._weights.remove(weight)
            self.size -= weight.size
            weight.counted = False

    def relieve(self) -> None:
        """End links until no more waits than may."""
        while self.is_over and self._weights:
            worst = max(self._weights, key=lambda weight: weight.size)
            self.remove(worst)
            worst.end()


class LinkBacklog:
    """One link's part of a backlog. end: ends the link, whose bytes then go by and by."""

    def __init__(self, backlog: Backlog, end: Callable[[], None]) -> None:
        self.size = 0
        self.end = end
        self.counted = True  # in the backlog, too
        self._backlog = backlog
        backlog.add(self)

    def change(self, by: int) -> None:
        self.size += by
        if self.counted:
            self._backlog.size += by

    def relieve(self) -> None:
        """End links until no more waits than may on all of them, perhaps this one."""
        self._backlog.relieve()

    def leave(self) -> None:
        """The link is gone."""
        self._backlog.remove(self)
