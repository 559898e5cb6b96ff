"""Answers to strangers that are under way: so many at once of one peer, of one network, and in all."""

from collections import Counter
from typing import TypeVar

from p2pinfer.core.swarm.source import Scope, Source
from p2pinfer.core.values.units import PeerKey

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
