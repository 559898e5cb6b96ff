"""Rates of what strangers may have us do at a cost: for each network they come from, and for all together.

Pure: times are arguments. Peers on this machine count for the total alone, for they share one address.
"""

from dataclasses import dataclass
from typing import Final

from p2pinfer.core.swarm.source import Scope, Source

KEPT: Final = 1024  # networks, before those that have used nothing lately are forgotten


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `burst` at once, and `per_s` a second."""

    burst: float
    per_s: float


class Allowance:
    """Of one kind of thing."""

    def __init__(self, each: Rate, total: Rate) -> None:
        self._each = each
        self._total = _Bucket(total)
        self._sources: dict[str, _Bucket] = {}

    def take(self, source: Source, now: float, amount: float = 1, kept: float = 0) -> bool:
        """Use up some of it; False, and nothing is used, where it is not there.

        More than a burst is taken when a full one is there, and missing afterwards: else it would be refused for ever.

        kept: what has to be left of the total, for others
        """
        if not self._total.holds(amount + kept, now):
            return False
        if source.scope is not Scope.LOOPBACK:
            bucket = self._bucket(source.key, now)
            if not bucket.holds(amount, now):
                return False
            bucket.level -= amount
        self._total.level -= amount
        return True

    def owe(self, source: Source, now: float, amount: float) -> None:
        """Use up what was taken already, whether it is there or not: what is missing is had back first."""
        self._total.holds(0, now)
        self._total.level -= amount
        if source.scope is not Scope.LOOPBACK:
            bucket = self._bucket(source.key, now)
            bucket.holds(0, now)
            bucket.level -= amount

    def left(self, source: Source, now: float) -> float:
        """Return what the source may have of its own; below 0 it owes so much."""
        if source.scope is Scope.LOOPBACK:
            return self._each.burst
        bucket = self._bucket(source.key, now)
        bucket.holds(0, now)
        return bucket.level

    def left_in_all(self, now: float) -> float:
        """Return what all sources together may have, likewise."""
        self._total.holds(0, now)
        return self._total.level

    def _bucket(self, key: str, now: float) -> "_Bucket":
        if (bucket := self._sources.get(key)) is None:
            if len(self._sources) >= KEPT:
                self._sources = {key: one for key, one in self._sources.items() if not one.is_full(now)}
            bucket = self._sources[key] = _Bucket(self._each)
        return bucket


class _Bucket:
    def __init__(self, rate: Rate) -> None:
        self.level = rate.burst
        self._rate = rate
        self._filled_s = 0.0

    def holds(self, amount: float, now: float) -> bool:
        self.level = min(self._rate.burst, self.level + (now - self._filled_s) * self._rate.per_s)
        self._filled_s = now
        return self.level >= min(amount, self._rate.burst)

    def is_full(self, now: float) -> bool:
        return self.holds(self._rate.burst, now)
