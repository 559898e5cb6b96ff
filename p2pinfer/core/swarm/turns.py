"""Turns of those who wait: one of each network, then a second of each, so that no crowd keeps others waiting. Pure."""

from collections import Counter
from collections.abc import Iterable
from operator import itemgetter
from typing import Final, TypeVar

KEPT: Final = 1024  # networks whose last turn is known

T = TypeVar("T")


class Turns:
    """Of one kind of thing. The network comes first whose last turn was longest ago."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}  # number of the last turn of each network, in this order
        self._count = 0

    def take(self, waiting: Iterable[tuple[str, T]], most: int) -> list[T]:
        """Return those whose turn it is, `most` of them; of one network the first one.

        waiting: each with its network
        """
        counts = Counter[str]()
        places: list[tuple[int, int, str, T]] = []
        for network, one in waiting:
            places.append((counts[network], self._last.get(network, 0), network, one))
            counts[network] += 1
        first = sorted(places, key=itemgetter(0, 1))[:most]
        for _, _, network, _ in first:
            self._count += 1
            self._last.pop(network, None)
            self._last[network] = self._count
        while len(self._last) > KEPT:
            del self._last[next(iter(self._last))]
        return [one for _, _, _, one in first]
