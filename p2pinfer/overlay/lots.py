"""Draws by lot among peers that others told of: first a network, then one of its peers (protocols/wire.md, 6).

Keys cost nothing: drawn among keys, whoever makes up a thousand of them is drawn nearly always. A liar can hardly
choose the network that its word comes from; so networks that told have turns, and among what one of them told those
networks that the addresses lead to. These are made up as easily as keys, but nobody answers there. Of IPv6 whoever has
one network has hundreds: here those of one site are one.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import islice, repeat
from random import Random
from typing import TypeVar

from p2pinfer.core.swarm.address import site_at
from p2pinfer.core.swarm.offers import KnownOffer
from p2pinfer.core.swarm.source import site_of
from p2pinfer.core.values.alternation import in_turn
from p2pinfer.overlay.link import Link

T = TypeVar("T")


def drawn(known: Iterable[KnownOffer], count: int, lots: Random) -> list[KnownOffer]:
    """So many of them, or all if they are fewer."""
    return drawn_in_turn(list(known), count, [lambda one: one.network, place_of], lots)


def drawn_links(links: Iterable[Link], count: int, lots: Random) -> list[Link]:
    """So many of them, or all if they are fewer; networks that they lead to have turns."""
    return drawn_in_turn(list(links), count, [lambda link: site_of(link.source).network], lots)


def place_of(known: KnownOffer) -> str | None:
    """The network where a node would be dialled first; None on our own machine."""
    return site_at(known.addresses[0]) if known.addresses else None


def drawn_in_turn(
    members: Sequence[T], count: int, networks: Sequence[Callable[[T], Hashable]], lots: Random
) -> list[T]:
    """So many of them in turn, or all if they are fewer. networks: by the first turns go, by the others within each"""
    if not networks:
        return lots.sample(members, max(0, min(count, len(members))))
    by_network: dict[Hashable, list[T]] = defaultdict(list)
    for one in members:
        by_network[networks[0](one)].append(one)
    groups = lots.sample(list(by_network.values()), max(0, min(count, len(by_network))))  # none of others has a turn
    turns = in_turn(repeat(place, len(group)) for place, group in enumerate(groups))
    counts = Counter(islice(turns, max(0, count)))
    return list(in_turn(drawn_in_turn(groups[place], share, networks[1:], lots) for place, share in counts.items()))
