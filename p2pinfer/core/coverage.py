"""How well offers cover the layers of a model, and few of them that cover it all. Pure.

How many layers a model has is told by its tails, where its manifest is not known.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Final

from p2pinfer.core.offer import Offer, State
from p2pinfer.core.offers import KnownOffer
from p2pinfer.core.units import PeerKey, Roles, Span

YOUNG_S: Final = 25.0  # of an offer that was renewed as it should: its node lived a moment ago
WELL_HELD: Final = 2  # nodes of each layer: with fewer, one that leaves takes the model along
COVERS: Final = 3  # routes of different nodes that an answer begins with: one liar is in one of them


def thinnest(offers: Iterable[Offer], layers: int | None = None) -> int:
    """The number of nodes that serve the layer that fewest serve; 0 where one is missing, head or tail among them.

    layers: of the model, where they are known: then tails that end elsewhere make it neither longer nor shorter
    """
    changes: dict[int, int] = {}
    heads = 0
    tails = Counter[int]()  # by where they end
    for offer in offers:
        if offer.state != State.SERVING:
            continue
        changes[offer.span.first] = changes.get(offer.span.first, 0) + 1
        changes[offer.span.last] = changes.get(offer.span.last, 0) - 1
        heads += offer.span.first == 0 and Roles.HEAD in offer.roles
        if Roles.TAIL in offer.roles:
            tails[offer.span.last] += 1
    if not heads or not tails:
        return 0
    end = _end(tails) if layers is None else layers
    least, held = min(heads, tails[end]), 0
    for layer in sorted(changes):
        if layer >= end:
            break
        held += changes[layer]
        least = min(least, held)
    return max(0, least)


def _end(tails: Counter[int]) -> int:
    """Where a model ends, by the word of most tails: one liar makes it no longer."""
    return max(tails, key=lambda last: (tails[last], last))


def covers(offers: Sequence[KnownOffer], now: float) -> list[KnownOffer]:
    """Of offers of one model, freshest first: those of a few routes through all layers, each of other nodes.

    Each route keeps to networks that those before it did not use, as long as there are any: a liar has one network.
    """
    serving = [known for known in offers if known.offer.record.state == State.SERVING]
    tails = Counter(one.offer.record.span.last for one in serving if Roles.TAIL in one.offer.record.roles)
    if not tails:
        return []
    end = _end(tails)
    serving = [known for known in serving if known.offer.record.span.last <= end]
    chosen: list[KnownOffer] = []
    for _ in range(COVERS):
        taken = {known.node for known in chosen}
        networks = {known.network for known in chosen}
        route = _cover(serving, taken, networks, end, now) or _cover(serving, taken, (), end, now)
        if not route:
            break
        chosen += route
    return chosen


def _cover(
    offers: Iterable[KnownOffer], taken: Collection[PeerKey], networks: Collection[str], end: int, now: float
) -> list[KnownOffer]:
    left = [known for known in offers if known.node not in taken and known.network not in networks]
    young = [known for known in left if now - known.born_s <= YOUNG_S]
    return _route(young, end) or _route(left, end)


def _route(offers: Iterable[KnownOffer], end: int) -> list[KnownOffer]:
    """One route through all layers, of few nodes; empty where there is none."""
    freshest: dict[tuple[Span, Roles], KnownOffer] = {}
    for known in offers:
        record = known.offer.record
        freshest.setdefault((record.span, record.roles), known)
    at = 0
    route: list[KnownOffer] = []
    while at < end:
        fit = [
            (span.last, known)
            for (span, roles), known in freshest.items()
            if span.first <= at < span.last
            and (at > 0 or Roles.HEAD in roles)
            and (span.last < end or Roles.TAIL in roles)
        ]
        if not fit:
            return []
        at, known = max(fit, key=lambda one: (one[0], one[1].born_s))
        route.append(known)
    return route
