"""Strangers who are half-way in: so many of one network at once, and so many in all; who came first gives way.

A peer that means it is through in a moment. One that opens connections and waits would otherwise hold everybody's
place.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import trio

from p2pinfer.core.swarm.source import Scope, Source


class Crowd:
    """each: of one network; peers on this machine count for `total` alone."""

    def __init__(self, each: int, total: int) -> None:
        self._each: Final = each
        self._total: Final = total
        self._members: dict[trio.CancelScope, Source] = {}  # in the order they came

    @contextmanager
    def entered(self, source: Source) -> Iterator[trio.CancelScope]:
        """Run the block; the scope it is given ends it, should it have to give way to others."""
        if (first := self._who_gives_way(source)) is not None:
            del self._members[first]
            first.cancel()
        scope = trio.CancelScope()
        self._members[scope] = source
        try:
            with scope:
                yield scope
        finally:
            self._members.pop(scope, None)

    def _who_gives_way(self, source: Source) -> trio.CancelScope | None:
        counts = Counter(member.key for member in self._members.values())
        if source.scope is not Scope.LOOPBACK and counts[source.key] >= self._each:
            most = source.key
        elif len(self._members) >= self._total:
            most = counts.most_common(1)[0][0]
        else:
            return None
        return next(scope for scope, member in self._members.items() if member.key == most)
