"""The links that a node keeps, and those that end (protocols/wire.md, 6). Decides; no I/O.

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

from p2pinfer.core.swarm.offers import KnownOffer
from p2pinfer.core.values.units import PeerKey, Span
from p2pinfer.overlay.limits import DEGREE_S, MAX_DEGREE
from p2pinfer.overlay.lots import drawn, place_of

BESIDE: Final = 2  # on each side of our span
OF_MODEL: Final = 4
LEAST_DEGREE: Final = 6  # links, whatever they are
OF_NETWORK: Final = 2  # the links of one network count for one part in so many of these, while there are others
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
    chosen: dict[PeerKey, KnownOffer] = {}
    for fit, held, count in (*_kinds(own, known, links), (known, links, LEAST_DEGREE)):
        beside = chosen.values() if fit is known else [one for one in fit if one.node in chosen]
        lacking = count - _counted(held, count) - len(beside)
        if lacking <= 0:
            continue
        there = [*(link.network for link in held), *map(place_of, beside)]
        left = _left(fit, links, {*away, *chosen})
        more = drawn(_elsewhere(left, there, count), lacking, lots)
        if len(more) < lacking:
            nodes = {one.node for one in more}
            more += drawn([one for one in left if one.node not in nodes], lacking - len(more), lots)
        chosen.update((one.node, one) for one in more)
    return list(chosen.values())


def _counted(links: Sequence[Kept], count: int) -> int:
    """Links that count among so many that are wanted.

    A crowd that came to us from one network counts for its share. Those that we dialled count all: who lives among
    neighbours alone would else dial them for ever.
    """
    ours = Counter(link.network for link in links if link.ours)
    counts = Counter(link.network for link in links).items()
    return sum(max(ours[network], _most(network, there, count)) for network, there in counts)


def elsewhere(
    own: KnownOffer | None,
    known: Sequence[KnownOffer],
    links: Sequence[Kept],
    away: Collection[PeerKey],
    lots: Random,
) -> list[KnownOffer]:
    """A peer to dial where there are enough of a kind, but of too few networks while more are known; or none."""
    for fit, held, count in (*_kinds(own, known, links), (known, links, LEAST_DEGREE)):
        there = [link.network for link in held]
        if _spread(held, count) < count and (others := _elsewhere(_left(fit, links, away), there, count)):
            return drawn(others, 1, lots)
    return []


def _left(fit: Sequence[KnownOffer], links: Sequence[Kept], away: Collection[PeerKey]) -> list[KnownOffer]:
    linked = {link.peer for link in links}
    return [one for one in fit if one.node not in linked and one.node not in away]


def _elsewhere(left: Sequence[KnownOffer], there: Sequence[str | None], count: int) -> list[KnownOffer]:
    """Those who would be linked at networks of which there may be one more among those that count."""
    full = {network for network, links in Counter(there).items() if network is not None and links >= _share(count)}
    return [one for one in left if place_of(one) not in full] if full else list(left)


def _spread(links: Sequence[Kept], count: int) -> int:
    """Links that count where what we dialled ourselves counts no more than what came to us."""
    return sum(_most(network, there, count) for network, there in Counter(link.network for link in links).items())


def _most(network: str | None, links: int, count: int) -> int:
    """Return how many links to one network count among so many that are wanted: within our own machine, all."""
    return links if network is None else min(links, _share(count))


def _share(count: int) -> int:
    """Return how many links of one network count among so many that are wanted."""
    return max(1, count // OF_NETWORK)


def _kinds(
    own: KnownOffer | None, known: Sequence[KnownOffer], links: Sequence[Kept]
) -> Iterator[tuple[list[KnownOffer], list[Kept], int]]:
    """Peers of each kind that a node needs, the links to such, and how many of them there should be."""
    if own is None:
        return
    of_model = [one for one in known if one.offer.record.model == own.offer.record.model]
    by_peer = {link.peer: link for link in links}
    for fit, count in (*((side, BESIDE) for side in sides(own.offer.record.span, of_model)), (of_model, OF_MODEL)):
        yield fit, [by_peer[one.node] for one in fit if one.node in by_peer], count


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
    needed: set[PeerKey] = set()
    for _, held, count in _kinds(own, known, links):
        needed.update(_counting(held, count))
    return _drawn([link for link in old if not link.needed and link.peer not in needed], excess, lots)


def _counting(held: Sequence[Kept], count: int) -> list[PeerKey]:
    """Links of a kind without which others would be dialled: none where more than are wanted count."""
    if len(held) <= count:
        return [link.peer for link in held]
    if _spread(held, count) > count:
        return []
    counts = Counter[str | None]()
    counting = []
    for link in sorted(held, key=lambda link: link.came_s):
        counts[link.network] += 1
        if link.network is None or counts[link.network] <= _share(count):
            counting.append(link.peer)
    return counting


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
