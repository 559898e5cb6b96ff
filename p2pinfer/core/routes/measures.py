"""A client's measurements of nodes: how far, how late, how slow (`routing.Candidate`; protocols/offer.md, 7).

Offers are claims; what was measured is added to them, and fades: whoever was slow may be fast again. In a route of
several stages nobody knows which of them was slow. So each is blamed for what the others are not known for, and for
its part of that alone; and a route that was fast clears all its stages. Nobody but the route's own stages is
measured, by their keys, and their owners, who count for nodes of theirs that were never asked. Bounded. Pure: `now`
is the caller's monotonic clock in seconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp2
from statistics import median
from typing import Any, Final, NamedTuple

from p2pinfer.core.values.notes import Note, Notes
from p2pinfer.core.values.units import OwnerKey, PeerKey

HALF_S: Final = 300.0  # after which half of what was measured counts
LEAST_LEFT: Final = 0.5**10  # of a rate or a round trip; beyond that it is not known
SAME_TRIP: Final = 1.5  # times as long, or as short, a round trip is no news
UNMEASURED_RTT_S: Final = 0.060  # a home link's
UNMEASURED_UPLINK: Final = 1_250_000.0  # bytes/s, 10 Mbit/s: a home's, too; who claims none gains nothing by that
MAX_MEASURED: Final = 1_024  # nodes and owners; who was measured longest ago is forgotten


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


class Measures:
    """All that was measured. lags: of nodes and of owners, by key."""

    def __init__(self) -> None:
        self.lags = Notes[bytes, Lag](MAX_MEASURED)
        self.round_trips_s = Notes[PeerKey, float](MAX_MEASURED)
        self.rates = Notes[PeerKey, float](MAX_MEASURED)  # bytes/s
        self._usual_s, self._usual_as_of = UNMEASURED_RTT_S, (0, 0.0)

    # Delay and bytes

    def note_round_trip(self, node: PeerKey, rtt_s: float, now: float) -> None:
        """The usual round trip to a node, seconds."""
        known = self.round_trips_s.get(node)
        same = known is not None and known.value / SAME_TRIP < rtt_s < known.value * SAME_TRIP
        self.round_trips_s.put(node, rtt_s, now, is_news=not same)

    def note_rate(self, node: PeerKey, rate: float, now: float) -> None:
        """A node sent us so many bytes a second, while we waited for nothing else."""
        self.rates.put(node, rate, now)

    def round_trip_s(self, node: PeerKey, now: float) -> float:
        """To this node, as measured last; the older that is, the nearer to what is usual."""
        note, usual_s = self.round_trips_s.get(node), self.usual_round_trip_s(now)
        return usual_s if note is None else usual_s + (note.value - usual_s) * _left(note, now)

    def usual_round_trip_s(self, now: float) -> float:
        """The median of those to all nodes lately: what one that was never met is taken to have."""
        as_of = self.round_trips_s.changes, now // HALF_S
        if self._usual_as_of != as_of:  # a look at many offers asks for each
            recent = [note.value for _, note in self.round_trips_s if _left(note, now) >= LEAST_LEFT]
            self._usual_s, self._usual_as_of = median(recent) if recent else UNMEASURED_RTT_S, as_of
        return self._usual_s

    def rate(self, node: PeerKey, now: float) -> float | None:
        """Bytes/s that the node is taken to send at most: what it did lately, and twice that after each HALF_S.

        None where that was not measured, or so long ago that it says nothing.
        """
        note = self.rates.get(node)
        left = _left(note, now) if note is not None else 0.0
        return note.value / left if note is not None and left >= LEAST_LEFT else None

    def uplink(self, node: PeerKey, claimed: float, now: float) -> float:
        """Bytes/s that the node is taken to send: what it claims, or less where less came from it.

        claimed: 0 where it claims nothing; then it is taken for usual until it was measured
        """
        note, left = self.rates.get(node), self.rate(node, now)
        if note is None or not left:
            return claimed or UNMEASURED_UPLINK
        return min(left, claimed or max(UNMEASURED_UPLINK, note.value))

    # Answers

    def note_answer(self, stages: Sequence[Who], seen: Lag, now: float) -> None:
        """A route over these stages was so much later and slower than they had promised."""
        known = [self._own(stage, now) for stage in stages]
        late_s, slow_s = sum(lag.late_s for lag in known), sum(lag.slow_s for lag in known)
        for stage, lag in zip(stages, known, strict=True):
            blamed = Lag(
                _blamed(lag.late_s, seen.late_s - (late_s - lag.late_s), len(stages)),
                _blamed(lag.slow_s, seen.slow_s - (slow_s - lag.slow_s), len(stages)),
            )
            for key in (b"node" + stage.node, b"owner" + stage.owner):
                before = self.lags.get(key)
                is_news = blamed != NO_LAG or (before is not None and before.value != NO_LAG)
                self.lags.put(key, blamed, now, is_news=is_news)

    def of(self, who: Who, now: float) -> Lag:
        """Return the lag measured at the node, or, where none was, at its owner's other nodes."""
        if not self.lags:
            return NO_LAG
        return _faded(self.lags.get(b"node" + who.node) or self.lags.get(b"owner" + who.owner), now)

    def _own(self, who: Who, now: float) -> Lag:
        return _faded(self.lags.get(b"node" + who.node), now)


def _faded(note: Note[Lag] | None, now: float) -> Lag:
    if note is None:
        return NO_LAG
    left = _left(note, now)
    return Lag(note.value.late_s * left, note.value.slow_s * left)


def _left(note: Note[Any], now: float) -> float:
    """The part of a note that counts still."""
    return exp2(-max(0.0, now - note.at_s) / HALF_S)


def _blamed(known: float, seen: float, stages: int) -> float:
    """Return the new count, of what counted before and of this fault, which may be any stage's.

    Bad news count at once, good ones by half: good turns do not pay for bad ones.
    """
    seen = max(0.0, seen)
    return known + (seen - known) / stages if seen > known else (known + seen) / 2
