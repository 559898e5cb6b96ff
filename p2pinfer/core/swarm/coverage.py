"""The cover that offers give to the layers of a model, few of them that cover it all, and the need for each. Pure.

Where its manifest is not known, a model's tails tell how many layers it has.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from math import inf, log
from typing import Final

from p2pinfer.core.records.offer import Offer, ServingState
from p2pinfer.core.swarm.offers import KnownOffer
from p2pinfer.core.values.units import PeerKey, Roles, Span

YOUNG_S: Final = 25.0  # of an offer that was renewed as it should: its node lived a moment ago
WELL_HELD: Final = 2  # nodes of each layer: with fewer, one that leaves takes the model along
COVERS: Final = 3  # routes of different nodes that an answer begins with: one liar is in one of them
LOTS: Final = 1 << 32

Kind = tuple[Span, Roles]
Groups = dict[Kind, dict[str, list[KnownOffer]]]  # by first layer; of nodes that serve, by network, freshest first


def thinnest(offers: Iterable[Offer], layers: int | None = None) -> int:
    """The number of nodes that serve the layer that fewest serve; 0 where one is missing, head or tail among them.

    layers: of the model, where they are known: then tails that end elsewhere make it neither longer nor shorter
    """
    changes: dict[int, int] = {}
    heads = 0
    tails = Counter[int]()  # by where they end
    for offer in offers:
        if offer.state != ServingState.SERVING:
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
    """Return the model's last layer, by the word of most tails: one liar makes it no longer."""
    return max(tails, key=lambda last: (tails[last], last))


def covers(offers: Sequence[KnownOffer], now: float) -> list[KnownOffer]:
    """Of offers of one model, freshest first: those of a few routes through all layers, each of other nodes.

    Each route keeps to networks that those before it did not use, as long as there are any: a liar has one network. So
    each network has one word, too, where the model ends.
    """
    groups = _grouped(offers)
    end = _end_of(groups)
    if end is None:
        return []
    groups = {kind: told for kind, told in groups.items() if kind[0].last <= end}
    chosen: list[KnownOffer] = []
    for _ in range(COVERS):
        taken = {known.node for known in chosen}
        networks = {known.network for known in chosen}
        route = _cover(groups, taken, networks, end, now)
        if not route and networks:
            route = _cover(groups, taken, (), end, now)
        if not route:
            break
        chosen += route
    return chosen


def _grouped(offers: Iterable[KnownOffer]) -> Groups:
    groups: Groups = {}
    for known in offers:
        record = known.offer.record
        if record.state == ServingState.SERVING:
            groups.setdefault((record.span, record.roles), {}).setdefault(known.network, []).append(known)
    return dict(sorted(groups.items(), key=lambda one: one[0][0].first))


def _end_of(groups: Groups) -> int | None:
    """Return the model's last layer, by the word of tails in most networks, and of most tails among equals."""
    networks: dict[int, set[str]] = {}
    tails = Counter[int]()
    for (span, roles), told in groups.items():
        if Roles.TAIL in roles:
            networks.setdefault(span.last, set()).update(told)
            tails[span.last] += sum(map(len, told.values()))
    return max(tails, key=lambda last: (len(networks[last]), tails[last], last), default=None)


def _cover(
    groups: Groups, taken: Collection[PeerKey], networks: Collection[str], end: int, now: float
) -> list[KnownOffer]:
    """One route, of nodes that spoke lately if there is any."""
    left: dict[Kind, KnownOffer] = {}
    for kind, told in groups.items():
        first = [_first(known, taken) for network, known in told.items() if network not in networks]
        if there := [known for known in first if known is not None]:
            left[kind] = max(there, key=lambda known: known.born_s)
    young = {kind: known for kind, known in left.items() if now - known.born_s <= YOUNG_S}
    return _route(young, end) or _route(left, end)


def _first(offers: Iterable[KnownOffer], taken: Collection[PeerKey]) -> KnownOffer | None:
    return next((known for known in offers if known.node not in taken), None)


def _route(freshest: dict[Kind, KnownOffer], end: int) -> list[KnownOffer]:
    """One route through all layers, of few nodes; empty where there is none.

    freshest: the offer of each kind, by first layer: one sweep finds who of all that begin in time goes farthest
    """
    fit = [(*kind, known) for kind, known in freshest.items() if kind[0].last < end or Roles.TAIL in kind[1]]
    heads = [(span.last, known) for span, roles, known in fit if span.first == 0 and Roles.HEAD in roles]
    farthest = max(heads, key=_reach, default=None)
    route: list[KnownOffer] = []
    at = looked_at = 0
    while farthest is not None and farthest[0] > at:
        at, known = farthest
        route.append(known)
        while looked_at < len(fit) and fit[looked_at][0].first <= at:
            span, _, known = fit[looked_at]
            farthest = max(farthest, (span.last, known), key=_reach)
            looked_at += 1
    return route if at == end else []


def _reach(one: tuple[int, KnownOffer]) -> tuple[int, float]:
    return one[0], one[1].born_s


def drawn_by_need(offers: Sequence[KnownOffer], now: float, draw: Callable[[int], int]) -> list[KnownOffer]:
    """Fresh offers of one model by lot: whose layers few serve, and who lives long, is likely first. No tail: none.

    So all who serve the same layers are told as often, and those of layers that few serve oftener. All that one network
    told has one part of each layer. An old offer has to be told anew soon, so its time left counts by the square.

    draw: a number below another
    """
    end = _end_of(_grouped(offers))
    if end is None:
        return []
    counts = Counter(known.network for known in offers)
    needs = _needs(offers, counts, end)

    def lot(known: KnownOffer) -> float:
        span = known.offer.record.span
        need = (needs[min(span.last, end)] - needs[min(span.first, end)]) / counts[known.network]
        return (
            -log((draw(LOTS) + 1) / LOTS) / weight if (weight := need * max(0.0, known.left_s(now)) ** 2) > 0 else inf
        )

    return sorted(offers, key=lot)


def _needs(offers: Sequence[KnownOffer], counts: Counter[str], end: int) -> dict[int, float]:
    """At every layer where a span begins or ends, the need for all before it: of each 1 / (parts that serve it)."""
    changes = Counter[int]()
    for known in offers:
        span, part = known.offer.record.span, LOTS // counts[known.network]
        changes[min(span.first, end)] += part
        changes[min(span.last, end)] -= part
    needs: dict[int, float] = {}
    held, before, need = 0, 0, 0.0
    for layer in sorted(changes):
        need += LOTS * (layer - before) / held if held else 0.0
        needs[layer] = need
        held, before = held + changes[layer], layer
    return needs
