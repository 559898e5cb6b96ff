"""The offers a peer knows: the newest of every node, and those that an answer holds (protocols/offer.md, "States").

A node has one offer here. Of two with one boot the higher number counts, of two boots the one issued later. Pure: `now`
is the caller's monotonic clock in seconds. Nobody signs where a node can be reached (`told_addresses.py`).
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import chain
from math import inf
from typing import Final

from p2pinfer.core.records.offer import MAX_OFFER_S, contradict, has_moved
from p2pinfer.core.swarm.coverage import covers, drawn_by_need
from p2pinfer.core.swarm.offers import KnownOffer
from p2pinfer.core.swarm.selection import Selection
from p2pinfer.core.swarm.told_addresses import Words, with_own, with_relayed
from p2pinfer.core.values.alternation import in_turn
from p2pinfer.core.values.units import ModelId, PeerKey, Span
from p2pinfer.core.wire.messages import RelayedOffer

MAX_KNOWN: Final = 10_000  # nodes; beyond it the oldest are forgotten
MAX_FROM: Final = 1_024  # of them that peers of one network told us
PULL_NEW: Final = 8  # offers; whole routes would be all of an answer of so few
ANSWER_PART: Final = 4  # one network has one part in so many of an answer, while others have something to say
SMALL: Final = 512  # offers, of which the order of an answer is made in no time; of more it serves for ORDER_S
ORDER_S: Final = 1.0
MAX_ORDERS: Final = 64  # models


class OfferTable:
    """The newest offer of every node we heard of. draw: a number below another, where lots decide"""

    def __init__(self, draw: Callable[[int], int] = lambda _: 0) -> None:
        self._draw = draw
        self._known: dict[PeerKey, KnownOffer] = {}
        self._words: dict[PeerKey, Words] = {}  # who named the addresses of each
        self._itself: set[PeerKey] = set()  # nodes that told us their offer, or an earlier one, themselves
        self._bodies: dict[bytes, PeerKey] = {}
        self._selection = Selection()
        self._counts: Counter[str] = Counter()  # of offers, by the network they were heard from
        self._two_faced: dict[PeerKey, float] = {}  # nodes whose offers contradict each other, and until when
        self._silent: dict[PeerKey, KnownOffer] = {}  # the last offers of nodes that were found dead
        self._silent_bodies: dict[bytes, PeerKey] = {}
        self._orders: dict[tuple[ModelId | None, bool], tuple[float, list[PeerKey]]] = {}  # of answers, and since when

    def add(self, known: KnownOffer, now: float | None = None, *, itself: bool = False, renews: bool = False) -> bool:
        """Keep an offer; False if what we have is as new, or the node signed two that contradict each other.

        now:    when it came; left out, it came as soon as it was signed
        itself: its node told it; else it counts for the network of the node where that told an earlier one
        renews: its addresses are those of the offer that it renews, and not the word of who told it
        """
        if known.born_s < self._two_faced.get(known.node, -inf):
            return False
        if (last := self._silent.get(known.node)) is not None and not _newer(known, last):
            return False
        held = self._known.get(known.node)
        if held is not None and held.left_s(known.born_s if now is None else now) <= 0:
            held = None  # past its time: as good as forgotten, which it is when somebody asks what is fresh
        if held is not None and contradict(known.offer.record, held.offer.record):
            self.forget(known.node)
            self._two_faced[known.node] = max(known.until_s, held.until_s)
            if len(self._two_faced) > MAX_KNOWN:
                del self._two_faced[next(iter(self._two_faced))]
            return False
        if held is not None and not _newer(known, held):
            return False
        told, words = known.node in self._itself, self._words.get(known.node, {})
        if held is None or has_moved(known.offer.record, held.offer.record):
            words = {}  # where it was before is the word of nobody any more
        network = held.network if held is not None and told and not itself else known.network
        if not renews or held is None:
            says = itself and not renews
            words = self._with({} if says else words, known.addresses, says, known.network)
        born_s = known.born_s if held is None else _born_s(known, held)
        known = replace(known, addresses=tuple(words), network=network, born_s=born_s)
        self.forget(known.node)  # so that the dictionary is in order of hearing
        self.heard(known.node)
        self._known[known.node] = known
        self._selection.add(known)
        self._words[known.node] = words
        if itself or (told and held is not None):
            self._itself.add(known.node)
        self._bodies[known.offer.body] = known.node
        self._count(known.network, 1)
        if self._counts[known.network] > MAX_FROM:
            self._forget_first_of(known.network)
        elif len(self._known) > MAX_KNOWN:
            self._forget_first_of(self._counts.most_common(1)[0][0])
        return True

    def _with(self, words: Words, addresses: Iterable[str], itself: bool, network: str) -> Words:
        return with_own(words, addresses) if itself else with_relayed(words, addresses, network, self._draw)

    def _forget_first_of(self, network: str) -> None:
        """Forget one that only others told of, if there is one: anybody may claim any number of nodes."""
        nodes = [node for node, known in self._known.items() if known.network == network]
        self.forget(next((node for node in nodes if node not in self._itself), nodes[0]))

    def recognise(self, relayed: RelayedOffer, relay: PeerKey, network: str = "", *, now: float | None = None) -> bool:
        """True if these very bytes are known: then there is no need to check their signatures again.

        now: when they came; once their time is past they count as new ones would. Left out, it is not past, and the
             age that they came with plays no part

        Of the ages that they came with the least counts: whoever says that an offer is older makes nobody forget it.
        Whoever passed the offer on first may have lied of addresses: all that were named are kept, as far as there is
        room, and where the node itself is the relay its own come first, and the offer counts for its own network.
        """
        if relayed.offer in self._silent_bodies:
            return True
        if (node := self._bodies.get(relayed.offer)) is None:
            return False
        known = self._known[node]
        if now is not None and known.left_s(now) <= 0:
            return False
        itself = relay == node
        heard_from = network if itself else known.network
        self._count(known.network, -1)
        self._count(heard_from, 1)
        self._words[node] = self._with(self._words[node], relayed.addresses, itself, network)
        born_s = known.born_s if now is None else max(known.born_s, now - relayed.age_ms / 1000)
        addresses = tuple(self._words[node])
        self._selection.remove(known)
        self._known[node] = replace(known, addresses=addresses, network=heard_from, born_s=born_s)
        self._selection.add(self._known[node])
        if itself:
            self._itself.add(node)
        return True

    def get(self, node: PeerKey) -> KnownOffer | None:
        """The offer of a node as far as it is known, fresh or not."""
        return self._known.get(node)

    def node_of(self, body: bytes) -> PeerKey | None:
        """Return the node whose offer these bytes are, if they are known."""
        return self._bodies.get(body)

    def own_word(self, node: PeerKey) -> tuple[str, ...]:
        """Addresses that the node told us itself."""
        return tuple(address for address, network in self._words.get(node, {}).items() if network is None)

    def silence(self, node: PeerKey) -> None:
        """The node was found dead, by us: what it offered is no offer until a newer one comes, whoever passes it on."""
        if (known := self._known.get(node)) is None:
            return
        self.forget(node)
        self.heard(node)
        self._silent[node] = known
        self._silent_bodies[known.offer.body] = node
        if len(self._silent) > MAX_KNOWN:
            self.heard(next(iter(self._silent)))

    def heard(self, node: PeerKey) -> None:
        """The node itself spoke: what it offers counts again."""
        if (last := self._silent.pop(node, None)) is not None:
            del self._silent_bodies[last.offer.body]

    def forget(self, node: PeerKey) -> None:
        if (known := self._known.pop(node, None)) is not None:
            del self._bodies[known.offer.body], self._words[node]
            self._selection.remove(known)
            self._itself.discard(node)
            self._count(known.network, -1)

    def age(self, slept_s: float) -> None:
        """Our clock stood still for so long, as the machine slept: all that we know is older than it seems."""
        for offers in (self._known, self._silent):
            for node, known in offers.items():
                offers[node] = known.aged(slept_s)
        self._two_faced = {node: end_s - slept_s for node, end_s in self._two_faced.items()}
        self._orders.clear()

    def _count(self, network: str, change: int) -> None:
        self._counts[network] += change
        if not self._counts[network]:
            del self._counts[network]

    def fresh(self, now: float, model: ModelId | None = None) -> list[KnownOffer]:
        """Offers within their life, of one model or of all; the others are forgotten."""
        for node in [node for node, known in self._known.items() if known.until_s <= now]:
            self.forget(node)
        for node in [node for node, last in self._silent.items() if last.until_s <= now]:
            self.heard(node)
        # Kept until all that was made before is past its time, whatever its age when it comes
        self._two_faced = {node: end_s for node, end_s in self._two_faced.items() if end_s + MAX_OFFER_S > now}
        if model is None:
            return list(self._known.values())
        return [known for known in self._known.values() if known.offer.record.model == model]

    def spread(
        self, now: float, model: ModelId | None, limit: int, known: Callable[[KnownOffer], bool] = lambda _: False
    ) -> list[KnownOffer]:
        """At most `limit` fresh offers: whole routes through the model first, then in turn from every span.

        There the freshest come first. But few are drawn by need: routes are made of the same nodes again and again, and
        if all answers began with them, these would stand in everybody's table, and others in nobody's. Of one network
        come no more than a part, before those of all others have.

        known: says of an offer that it is not wanted; routes are made as if it was told
        """
        counts = Counter[str]()
        within: dict[PeerKey, KnownOffer] = {}
        beyond: dict[PeerKey, KnownOffer] = {}
        for node in self._in_order(now, model, routes=limit > PULL_NEW):
            one = self._known.get(node)
            if one is None or one.until_s <= now or node in within or node in beyond:
                continue
            is_beyond = (counts[one.network] + 1) * ANSWER_PART > limit
            if (is_beyond and len(beyond) >= limit) or known(one):
                continue
            counts[one.network] += 1
            (beyond if is_beyond else within)[node] = one
            if len(within) == limit or (limit < ANSWER_PART and len(beyond) == limit):
                break  # anybody may ask, of a full table
        return [*within.values(), *beyond.values()][:limit]

    def _in_order(self, now: float, model: ModelId | None, *, routes: bool) -> list[PeerKey]:
        """Nodes in the order in which they are told, of a large table some. It may be a moment old: anybody may ask."""
        held = self._orders.get((model, routes))
        if held is not None and 0 <= now - held[0] < ORDER_S:
            return held[1]
        selected = (self._known[node] for node in self._selection.nodes(model))
        fresh = sorted((known for known in selected if known.until_s > now), key=lambda known: -known.born_s)
        by_span: dict[tuple[ModelId, Span], list[KnownOffer]] = defaultdict(list)
        for one in fresh:
            by_span[one.offer.record.model, one.offer.record.span].append(one)
        first = []
        if model is not None:
            first = covers(fresh, now) if routes else drawn_by_need(fresh, now, self._draw)
        order = [one.node for one in chain(first, in_turn(by_span.values()))]
        if len(self._known) > SMALL:
            self._orders[model, routes] = now, order
            if len(self._orders) > MAX_ORDERS:
                del self._orders[next(iter(self._orders))]
        else:
            self._orders.clear()
        return order


def _newer(known: KnownOffer, held: KnownOffer) -> bool:
    one, other = known.offer.record, held.offer.record
    if one.boot == other.boot:
        return one.seq > other.seq
    return one.issued > other.issued


def _born_s(known: KnownOffer, held: KnownOffer) -> float:
    """Return when a newer offer was signed: after the one that it follows, however old it is said to be."""
    is_later = known.offer.record.boot == held.offer.record.boot
    return max(known.born_s, held.born_s) if is_later else known.born_s
