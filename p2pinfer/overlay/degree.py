"""Whom a node keeps links to, and which links end (protocols/wire.md, 6). Decides; no I/O.

A few peers of the spans that come before and after ours make a session's first hop fast; a few of our model and a few
others keep the swarm together when those whom everybody knows are gone. They are drawn, and stay as long as they live:
were they chosen by any order, all would choose the same ones. A link that the other side opened serves as well. Keys
cost nothing, so strangers of one network neither push out the links of others nor stand for them.
"""

from collections import Counter, defaultdict
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
OF_NETWORK: Final = 3  # of one network that count for these; what we dialled ourselves counts anyway
OURS: Final = 2  # links to one network that end last, of those that we dialled


@dataclass(frozen=True, slots=True)
class Kept:
    """A link there is.

    needed:  a session, a call or a receipt that is not settled depends on it
    network: where it leads; None on our own machine
    ours:    we dialled it
    """

    peer: PeerKey
    came_s: float
    needed: bool
    network: str | None = None
    ours: bool = False


def missing(
    own: KnownOffer | None,
    known: Sequence[KnownOffer],
    links: Sequence[Kept],
    away: Collection[PeerKey],
    lots: Random,
) -> list[KnownOffer]:
    """Peers to dial so that there are as many of each kind as there should be.

    known: offers of all models
    links: all that there are
    away:  peers that are not dialled now
    """
    linked = {link.peer for link in links}
    chosen: dict[PeerKey, KnownOffer] = {}
    for fit, count in _kinds(own, known):
        have = sum(one.node in linked or one.node in chosen for one in fit)
        left = [one for one in fit if one.node not in linked and one.node not in chosen and one.node not in away]
        chosen.update((one.node, one) for one in lots.sample(left, max(0, min(count - have, len(left)))))
    have = _counted(links) + len(chosen)
    left = [one for one in known if one.node not in linked and one.node not in chosen and one.node not in away]
    chosen.update((one.node, one) for one in lots.sample(left, max(0, min(LEAST_DEGREE - have, len(left)))))
    return list(chosen.values())


def _counted(links: Sequence[Kept]) -> int:
    """Links that count for LEAST_DEGREE.

    A crowd from one network counts for OF_NETWORK. Those that we dialled count all: who lives among neighbours alone
    would else dial them for ever.
    """
    counts = Counter(link.network for link in links)
    several = sum(count if network is None else min(count, OF_NETWORK) for network, count in counts.items())
    return max(several, sum(link.ours for link in links))


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
    """Those whose links end, so that MAX_DEGREE of the old ones are left, as far as they may end.

    New links count for nothing before they may end themselves: else a stream of them would end all others.
    """
    old = [link for link in links if link.came_s + DEGREE_S <= now]
    excess = len(old) - MAX_DEGREE
    if excess <= 0:
        return []
    linked = {link.peer for link in links}
    needed: set[PeerKey] = set()
    for fit, count in _kinds(own, known):
        held = [one.node for one in fit if one.node in linked]
        if len(held) <= count:
            needed.update(held)
    return _drawn([link for link in old if not link.needed and link.peer not in needed], excess, lots)


def _drawn(idle: Sequence[Kept], count: int, lots: Random) -> list[PeerKey]:
    """So many of them, one after the other of the network that has most; the few last that we dialled there."""
    by_network: dict[str | None, list[Kept]] = defaultdict(list)
    kept: list[Kept] = []
    ours = Counter[str | None]()
    for link in lots.sample(idle, len(idle)):
        ours[link.network] += link.ours
        (kept if link.ours and ours[link.network] <= OURS else by_network[link.network]).append(link)
    ended: list[PeerKey] = []
    while len(ended) < count and by_network:
        most = max(map(len, by_network.values()))
        network = lots.choice([network for network, links in by_network.items() if len(links) == most])
        ended.append(by_network[network].pop().peer)
        if not by_network[network]:
            del by_network[network]
    return ended + [link.peer for link in kept[: count - len(ended)]]
