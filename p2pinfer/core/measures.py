"""What a client measured of nodes: how far, how late, how slow (`routing.Candidate`; protocols/offer.md, 7).

Offers are claims; what was measured is added to them, and fades: whoever was slow may be fast again. In a route of
several stages nobody knows which of them was slow. So each is blamed for what the others are not known for, and for
its part of that alone; and a route that was fast clears all its stages. Nobody but the route's own stages is
measured, by their keys, and their owners, who count for nodes of theirs that were never asked. Kept in memory,
bounded. Pure: `now` is the caller's monotonic clock in seconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final, NamedTuple, TypeVar

from p2pinfer.core.units import OwnerKey, PeerKey

HALF_S: Final = 300.0  # after which half of what was measured counts
UNMEASURED_RTT_S: Final = 0.060  # a home link's
MAX_MEASURED: Final = 1_024  # nodes and owners; who was measured longest ago is forgotten


K = TypeVar("K", bound=bytes)
V = TypeVar("V")


class Who(NamedTuple):
    """A node and its owner."""

    node: PeerKey
    owner: OwnerKey


@dataclass(frozen=True, slots=True)
class Lag:
    """late_s: to the first id, beyond what was promised; slow_s: the same, to each further id."""

    late_s: float = 0.0
    slow_s: float = 0.0


NO_LAG: Final = Lag()


@dataclass(frozen=True, slots=True)
class _Fact:
    late_s: float
    slow_s: float
    at_s: float

    def lag(self, now: float) -> Lag:
        left = 0.5 ** (max(0.0, now - self.at_s) / HALF_S)
        return Lag(self.late_s * left, self.slow_s * left)


class Measures:
    """What was measured, by key: of nodes and of owners."""

    def __init__(self) -> None:
        self._facts: dict[bytes, _Fact] = {}  # who was measured longest ago first
        self._round_trips_s: dict[PeerKey, float] = {}
        self._rates: dict[PeerKey, float] = {}
        self._usual_s = UNMEASURED_RTT_S

    # Delay and bytes

    def note_round_trip(self, node: PeerKey, rtt_s: float) -> None:
        """The usual round trip to a node, seconds."""
        _keep(self._round_trips_s, node, rtt_s)
        self._usual_s = median(self._round_trips_s.values())

    def note_rate(self, node: PeerKey, rate: float) -> None:
        """A node sent us so many bytes a second, while we waited for nothing else."""
        _keep(self._rates, node, rate)

    def round_trip_s(self, node: PeerKey) -> float | None:
        """The latest to this node; None where none was measured."""
        return self._round_trips_s.get(node)

    @property
    def usual_round_trip_s(self) -> float:
        """The median of those to all nodes: what one that was never met is taken to have."""
        return self._usual_s

    def rate(self, node: PeerKey) -> float | None:
        """Bytes/s that the node sent us lately; None where that was not measured."""
        return self._rates.get(node)

    # Answers

    def note_answer(self, stages: Sequence[Who], seen: Lag, now: float) -> None:
        """A route over these stages was so much later and slower than they had promised."""
        known = [self._own(stage, now) for stage in stages]
        late_s, slow_s = sum(lag.late_s for lag in known), sum(lag.slow_s for lag in known)
        for stage, lag in zip(stages, known, strict=True):
            fact = _Fact(
                _blamed(lag.late_s, seen.late_s - (late_s - lag.late_s), len(stages)),
                _blamed(lag.slow_s, seen.slow_s - (slow_s - lag.slow_s), len(stages)),
                now,
            )
            for key in (b"node" + stage.node, b"owner" + stage.owner):
                _keep(self._facts, key, fact)

    def of(self, who: Who, now: float) -> Lag:
        """What the node was measured at; one that never was at what its owner's others were."""
        if not self._facts:
            return NO_LAG
        fact = self._facts.get(b"node" + who.node) or self._facts.get(b"owner" + who.owner)
        return fact.lag(now) if fact is not None else NO_LAG

    def _own(self, who: Who, now: float) -> Lag:
        fact = self._facts.get(b"node" + who.node)
        return fact.lag(now) if fact is not None else NO_LAG


def _blamed(known: float, seen: float, stages: int) -> float:
    """What counts from now on, of what counted before and what was seen, which may be any stage's fault.

    Bad news count at once, good ones by half: good turns do not pay for bad ones.
    """
    seen = max(0.0, seen)
    return known + (seen - known) / stages if seen > known else (known + seen) / 2


def _keep(kept: dict[K, V], key: K, value: V) -> None:
    kept.pop(key, None)
    kept[key] = value
    if len(kept) > MAX_MEASURED:
        del kept[next(iter(kept))]
