"""Whom a node keeps links to, and which links end (protocols/wire.md, 6). Decides; no I/O.

A few peers of the spans that come before and after ours make a session's first hop fast; a few of our model and a few
others keep the swarm together when those whom everybody knows are gone. They are drawn, and stay as long as they live:
were they chosen by any order, all would choose the same ones. A link that the other side opened serves as well.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from p2pinfer.core.offers import KnownOffer
from p2pinfer.core.units import PeerKey, Span
from p2pinfer.overlay.limits import DEGREE_S, MAX_DEGREE

BESIDE: Final = 2  # on each side of our span
OF_MODEL: Final = 4
LEAST_DEGREE: Final = 6  # links, whatever they are


@dataclass(frozen=True, slots=True)
class Kept:
    """A link there is. needed: a session, a call or a receipt that is not settled depends on it."""

    peer: PeerKey
    came_s: float
    needed: bool


def missing(
    own: KnownOffer | None,
    known: Sequence[KnownOffer],
    linked: Collection[PeerKey],
    away: Collection[PeerKey],
    lots: Random,
) -> list[KnownOffer]:
    """Peers to dial so that there are as many of each kind as there should be.

    known:  offers of all models
    linked: peers that have a link to us
    away:   peers that are not dialled now
    """
    chosen: dict[PeerKey, KnownOffer] = {}
    for fit, count in _kinds(own, known):
        have = sum(one.node in linked or one.node in chosen for one in fit)
        left = [one for one in fit if one.node not in linked and one.node not in chosen and one.node not in away]
        chosen.update((one.node, one) for one in lots.sample(left, max(0, min(count - have, len(left)))))
    have = len(linked) + len(chosen)
    left = [one for one in known if one.node not in linked and one.node not in chosen and one.node not in away]
    chosen.update((one.node, one) for one in lots.sample(left, max(0, min(LEAST_DEGREE - have, len(left)))))
    return list(chosen.values())


def _kinds(own: KnownOffer | None, known: Sequence[KnownOffer]) -> Iterator[tuple[list[KnownOffer], int]]:
    """Peers of each kind that a node needs, and how many of them."""
    if own is None:
        return
    of_model = [one for one in known if one.offer.record.model == own.offer.record.model]
    for side in sides(own.offer.record.span, of_model):
        yield side, BESIDE
    yield of_model, OF_MODEL


def sides(span: Span, known: Sequence[KnownOffer]) -> tuple[list[KnownOffer], list[KnownOffer]]:
    """Those that may come before `span` in a route, and those that may come after it."""
    before = [one for one in known if one.offer.record.span.first < span.first <= one.offer.record.span.last]
    after = [one for one in known if one.offer.record.span.first <= span.last < one.offer.record.span.last]
    return before, after


def unneeded(
    own: KnownOffer | None, known: Sequence[KnownOffer], links: Sequence[Kept], now: float, lots: Random
) -> list[PeerKey]:
    """Those whose links end, so that MAX_DEGREE are left, as far as they may end."""
    excess = len(links) - MAX_DEGREE
    if excess <= 0:
        return []
    linked = {link.peer for link in links}
    needed: set[PeerKey] = set()
    for fit, count in _kinds(own, known):
        held = [one.node for one in fit if one.node in linked]
        if len(held) <= count:
            needed.update(held)
    idle = [
        link.peer for link in links if not link.needed and link.peer not in needed and link.came_s + DEGREE_S <= now
    ]
    return lots.sample(idle, min(excess, len(idle)))
