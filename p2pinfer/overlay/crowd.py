"""Strangers who are half-way in: so many of one network at once, and so many in all; who came first gives way.

Whoever means it is through in a moment. Who opens connections and waits would otherwise hold everybody's place.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

import trio

from p2pinfer.core.source import Scope, Source
from p2pinfer.core.units import PeerKey

K = TypeVar("K")


class Seats:
    """So many at once: of one peer, of one network, and in all; who finds none is refused.

    Peers on this machine count for themselves and for the total.
    """

    def __init__(self, peer: int, network: int, total: int) -> None:
        self._peer = peer
        self._network = network
        self._total = total
        self._peers: Counter[PeerKey] = Counter()
        self._networks: Counter[str] = Counter()
        self._taken = 0

    def take(self, peer: PeerKey, source: Source) -> bool:
        """True if there was one; `leave` gives it back."""
        local = source.scope is Scope.LOOPBACK
        if self._taken >= self._total or self._peers[peer] >= self._peer:
            return False
        if not local and self._networks[source.key] >= self._network:
            return False
        self._count(peer, source, 1)
        return True

    def leave(self, peer: PeerKey, source: Source) -> None:
        self._count(peer, source, -1)

    def _count(self, peer: PeerKey, source: Source, change: int) -> None:
        self._taken += change
        _change(self._peers, peer, change)
        _change(self._networks, source.key, change)


def _change(counter: Counter[K], key: K, change: int) -> None:
    counter[key] += change
    if not counter[key]:
        del counter[key]


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
