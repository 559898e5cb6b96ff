"""The decision of a node that serves: to stay, or to go to other layers (protocols/offer.md, 4.1).

It moves where layers are held by nobody, so that no route can use it, and for no other reason: so a lie about who holds
what costs nothing that was of use. It never leaves a layer that it holds alone, as far as offers say. Nodes that
overlap shift until the holes are closed: an overlap travels from node to node towards the nearest hole, each move
small, until the node beside the hole can close it. Pure, as `placement.py` is.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from p2pinfer.core.swarm.placement import (
    NETWORK_WORTH,
    OfferedSpan,
    cut,
    draw_span,
    gaps,
    served_rates,
    still_needed,
    usual_length,
)
from p2pinfer.core.values.units import Span

MOVERS: Final = 2  # nodes that should move at one time, of all that could
SLIDE_ODDS: Final = 0.25  # that a node slides though others could close the hole without leaving anything
AGAINST_ODDS: Final = 0.125  # that an overlap goes the longer way: a node on the shorter may be one that never moves


@dataclass(frozen=True, slots=True)
class OtherSpans:
    """The spans that others hold of a model, as one node knows them.

    holders: of each layer, how many that have loaded it; those that one network told count once
    claimed: spans that others serve, or are about to
    """

    layers: int
    others: tuple[OfferedSpan, ...]
    holders: tuple[int, ...]
    claimed: tuple[Span, ...]

    def holes(self, mine: Span) -> list[Span]:
        """Return the spans that nobody serves, where we serve `mine`."""
        return gaps(self.layers, [mine, *self.claimed])

    def sole(self, mine: Span) -> Span | None:
        """From the first to the last layer of `mine` that nobody else holds."""
        alone = [layer for layer in range(mine.first, mine.last) if not self.holders[layer]]
        return Span(alone[0], alone[-1] + 1) if alone else None

    @property
    def room(self) -> int:
        """Layers that others have room for, all together."""
        return sum(len(span) for span in self.claimed)


def swarm_of(layers: int, served: Iterable[OfferedSpan]) -> OtherSpans:
    others = tuple(other for other in served if other.span.last <= layers)
    return OtherSpans(layers, others, _holders(layers, others), tuple(other.span for other in others))


def move_of(swarm: OtherSpans, mine: Span, random: float) -> Span | None:
    """Return the span to which the node should go; None to stay. random: in [0, 1)"""
    holes = swarm.holes(mine)
    if not holes or len(mine) + swarm.room < swarm.layers:
        return None  # all is served, or nothing can be used before more nodes come
    return _to_close(swarm, mine, holes, random) or _to_pass_on(swarm, mine, holes, random)


def odds(swarm: OtherSpans, mine: Span) -> float:
    """The part of its looks at which a node should move that may: so that of many a few go."""
    spare = _spare(swarm, mine)
    if swarm.sole(mine) is not None:
        return SLIDE_ODDS if spare else 1.0
    return min(1.0, MOVERS / (spare + 1))


def is_right(swarm: OtherSpans, mine: Span, new: Span) -> bool:
    """True if a move that was announced is still wanted, and takes nothing from others."""
    before, after, sole = _size(swarm.holes(mine)), _size(swarm.holes(new)), swarm.sole(mine)
    if sole is None:
        return after < before
    return before > 0 and after <= before and new.covers(sole)  # an overlap may be handed on


def _to_close(swarm: OtherSpans, mine: Span, holes: Sequence[Span], random: float) -> Span | None:
    """The span that closes most, of those that keep what we hold alone; None where none closes any of it."""
    usual = usual_length(swarm.layers, len(mine), swarm.others)
    left = gaps(swarm.layers, swarm.claimed)
    worth = {span: _closing(left, span, usual) for span in _safe(swarm, mine)}
    least = min(worth.values())
    if least[0] >= _size(holes):
        return None
    rates = served_rates(swarm.layers, swarm.others)
    return draw_span([span for span in worth if worth[span] == least], left, rates, random)


def _closing(left: Sequence[Span], span: Span, usual: int) -> tuple[int, int, int]:
    """Return what stays open: layers, spans that it takes, and how far away; an overlap gets sooner to what is near."""
    open_ = cut(left, span)
    spans, size = still_needed(open_, usual)
    return size, spans, min((max(hole.first - span.last, span.first - hole.last) for hole in open_), default=0)


def _to_pass_on(swarm: OtherSpans, mine: Span, holes: Sequence[Span], random: float) -> Span | None:
    """Slide by an overlap with others, so that it lies nearer to the hole that is nearest to it."""
    sole = swarm.sole(mine)
    assert sole is not None  # else any span closes something
    first_right = min((hole for hole in holes if hole.first >= mine.last), default=None)
    last_left = max((hole for hole in holes if hole.last <= mine.first), default=None)
    before, behind = sole.first - mine.first, mine.last - sole.last  # how far others hold what we hold
    ways: list[tuple[int, Span]] = []  # layers to the hole less those to the other one, and where to go
    if before and first_right is not None:
        ahead = first_right.first - sole.first
        back = mine.first - last_left.last if last_left is not None else swarm.layers
        by = min(before, len(first_right), swarm.layers - mine.last)
        ways.append((ahead - back, Span(mine.first + by, mine.last + by)))
    if behind and last_left is not None:
        ahead = sole.last - last_left.last
        back = first_right.first - mine.last if first_right is not None else swarm.layers
        by = min(behind, len(last_left), mine.first)
        ways.append((ahead - back + 1, Span(mine.first - by, mine.last - by)))  # equally far: to the right
    against = random < AGAINST_ODDS
    return next((to for way, to in sorted(ways) if (way > 0) == against), None)


def _spans(layers: int, length: int) -> list[Span]:
    return [Span(first, first + length) for first in range(layers - length + 1)]


def _safe(swarm: OtherSpans, mine: Span) -> list[Span]:
    """Return the spans to which we can go without leaving a layer that we hold alone."""
    sole = swarm.sole(mine)
    return [span for span in _spans(swarm.layers, len(mine)) if sole is None or span.covers(sole)]


def _size(holes: Iterable[Span]) -> int:
    return sum(map(len, holes))


def _holders(layers: int, others: Iterable[OfferedSpan]) -> tuple[int, ...]:
    counts = [0] * layers
    of_networks: dict[str, set[int]] = defaultdict(set)
    for (span, network), nodes in Counter((other.span, other.network) for other in others if other.loaded).items():
        covered = range(span.first, span.last)
        if network is not None:
            of_networks[network].update(covered)
            continue
        for layer in covered:
            counts[layer] += nodes
    for covered_by in of_networks.values():
        for layer in covered_by:
            counts[layer] += 1
    return tuple(counts)


def _spare(swarm: OtherSpans, mine: Span) -> int:
    """Count others that hold nothing alone; of one network a few at most, so that nobody makes us wait for ever."""
    loaded = Counter((other.span, other.network) for other in swarm.others if other.loaded)
    steps = [0] * (swarm.layers + 1)
    for span, nodes in [(mine, 1), *((span, nodes) for (span, _), nodes in loaded.items())]:
        steps[span.first] += nodes
        steps[span.last] -= nodes
    counts = list(accumulate(steps))
    spare: Counter[str | None] = Counter()
    for (span, network), nodes in loaded.items():
        if min(counts[span.first : span.last]) > 1:
            spare[network] += nodes
    return sum(nodes if network is None else min(nodes, NETWORK_WORTH) for network, nodes in spare.items())
