"""The offers a peer knows, by the clock of whoever heard them (protocols/offer.md, "States").

Life is measured from receipt, less the age an offer was relayed with, so that a clock an hour off empties nobody's
table; since nobody signs that age, an offer of another day counts for nothing. One offer a node: of one boot the one of
the highest number, of two boots the one issued later. Pure: `now` is the caller's monotonic clock in seconds.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from math import inf
from typing import Final

from p2pinfer.core.certificate import NodeCert, verify_certificate
from p2pinfer.core.codes import Code
from p2pinfer.core.errors import RemoteProtocolError
from p2pinfer.core.messages import MAX_ADDRESSES, RelayedOffer
from p2pinfer.core.offer import MAX_OFFER_S, Offer, contradict, verify_offer
from p2pinfer.core.records import SignedRecord
from p2pinfer.core.units import ModelId, PeerKey, Span

MAX_KNOWN: Final = 10_000  # nodes; beyond it the oldest are forgotten
MAX_FROM: Final = 1_024  # of them that peers of one network told us
ANSWER_PART: Final = 4  # one network has one part in so many of an answer, while others have something to say
HOP_MS: Final = 50  # added for the way of each relay, which nobody measures
MAX_AWAY_S: Final = 86_400  # of an offer's `issued` from our wall clock: what is older is a relay's lie about its age


@dataclass(frozen=True, slots=True)
class KnownOffer:
    """An offer with what came beside it.

    born_s:  when it was signed, by our monotonic clock
    network: of the peer that it was heard from
    """

    offer: SignedRecord[Offer]
    certificate: SignedRecord[NodeCert]
    addresses: tuple[str, ...]
    born_s: float
    network: str = ""

    @property
    def node(self) -> PeerKey:
        return self.offer.record.node

    @property
    def until_s(self) -> float:
        """The end of its life, by our monotonic clock."""
        return self.born_s + self.offer.record.life

    def left_s(self, now: float) -> float:
        """Seconds until it is past its time; negative afterwards."""
        return self.until_s - now

    def relay(self, now: float) -> RelayedOffer:
        """As we pass it on."""
        age_ms = max(0, round((now - self.born_s) * 1000)) + HOP_MS
        certificate = self.certificate
        return RelayedOffer(
            age_ms,
            self.offer.body,
            self.offer.signatures[0],
            certificate.body,
            certificate.signatures[0],
            self.addresses,
        )


def verify_relayed(relayed: RelayedOffer, now: float, clock: float) -> KnownOffer:
    """Check an offer that anybody passed on. clock: our wall clock, Unix seconds.

    Raises RemoteProtocolError: BAD_RECORD, BAD_KEY, BAD_SIGNATURE, or UNKNOWN_OFFER for one that is past its time.
    """
    offer = verify_offer(relayed.offer, relayed.signature)
    certificate = verify_certificate(relayed.certificate, relayed.owner_signature)
    named, given = (offer.record.cert, offer.record.owner, offer.record.node), certificate
    if named != (given.id, given.record.owner, given.record.node):
        raise RemoteProtocolError("the offer rests on another certificate", Code.BAD_SIGNATURE)
    known = KnownOffer(offer, certificate, relayed.addresses, now - relayed.age_ms / 1000)
    if known.left_s(now) <= 0:
        raise RemoteProtocolError(f"an offer {relayed.age_ms / 1000:.0f} s old, past its time", Code.UNKNOWN_OFFER)
    if abs(away := offer.record.issued - clock) > MAX_AWAY_S:
        text = f"an offer issued {away:+.0f} s from our clock, limit {MAX_AWAY_S} s"
        raise RemoteProtocolError(text, Code.UNKNOWN_OFFER)
    return known


class OfferTable:
    """The newest offer of every node we heard of."""

    def __init__(self) -> None:
        self._known: dict[PeerKey, KnownOffer] = {}
        self._bodies: dict[bytes, PeerKey] = {}
        self._counts: Counter[str] = Counter()  # of offers, by the network they were heard from
        self._two_faced: dict[PeerKey, float] = {}  # nodes whose offers contradict each other, and until when

    def add(self, known: KnownOffer, now: float | None = None) -> bool:
        """Keep an offer; False if what we have is as new, or the node signed two that contradict each other.

        now: when it came; left out, it came as soon as it was signed
        """
        if known.born_s < self._two_faced.get(known.node, -inf):
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
        self.forget(known.node)  # so that the dictionary is in order of hearing
        self._known[known.node] = known
        self._bodies[known.offer.body] = known.node
        self._count(known.network, 1)
        if self._counts[known.network] > MAX_FROM:
            self._forget_first_of(known.network)
        elif len(self._known) > MAX_KNOWN:
            self._forget_first_of(self._counts.most_common(1)[0][0])
        return True

    def _forget_first_of(self, network: str) -> None:
        self.forget(next(node for node, known in self._known.items() if known.network == network))

    def recognise(self, relayed: RelayedOffer, relay: PeerKey, network: str = "", *, now: float | None = None) -> bool:
        """True if these very bytes are known: then there is no need to check their signatures again.

        now: when they came; once their time is past they count as new ones would. Left out, it is not past

        Addresses are nobody's word, and whoever passed the offer on first may have lied: all that were named are kept,
        as far as there is room, and where the node itself is the relay its own come first, and the offer counts for
        its own network.
        """
        if (node := self._bodies.get(relayed.offer)) is None:
            return False
        known = self._known[node]
        if now is not None and known.left_s(now) <= 0:
            return False
        first, then = known.addresses, relayed.addresses
        addresses = dict.fromkeys((*then, *first) if relay == node else (*first, *then))
        heard_from = network if relay == node else known.network
        self._count(known.network, -1)
        self._count(heard_from, 1)
        self._known[node] = replace(known, addresses=tuple(addresses)[:MAX_ADDRESSES], network=heard_from)
        return True

    def forget(self, node: PeerKey) -> None:
        if (known := self._known.pop(node, None)) is not None:
            del self._bodies[known.offer.body]
            self._count(known.network, -1)

    def _count(self, network: str, change: int) -> None:
        self._counts[network] += change
        if not self._counts[network]:
            del self._counts[network]

    def fresh(self, now: float, model: ModelId | None = None) -> list[KnownOffer]:
        """Offers within their life, of one model or of all; the others are forgotten."""
        for node in [node for node, known in self._known.items() if known.until_s <= now]:
            self.forget(node)
        # Kept until all that was made before is past its time, whatever its age when it comes
        self._two_faced = {node: end_s for node, end_s in self._two_faced.items() if end_s + MAX_OFFER_S > now}
        if model is None:
            return list(self._known.values())
        return [known for known in self._known.values() if known.offer.record.model == model]

    def spread(self, now: float, model: ModelId | None, limit: int) -> list[KnownOffer]:
        """At most `limit` fresh offers, taken in turn from every span, so that a whole route is among them.

        Of each span the freshest come first. Of one network come no more than a part, before those of all others have.
        """
        by_span: dict[tuple[ModelId, Span], list[KnownOffer]] = defaultdict(list)
        for known in sorted(self.fresh(now, model), key=lambda known: -known.born_s):
            by_span[known.offer.record.model, known.offer.record.span].append(known)
        within: list[KnownOffer] = []
        beyond: list[KnownOffer] = []
        counts = Counter[str]()
        for known in _in_turn(by_span.values()):
            counts[known.network] += 1
            (within if counts[known.network] * ANSWER_PART <= limit else beyond).append(known)
            if len(within) == limit:
                break  # anybody may ask, of a full table
        return [*within, *beyond][:limit]


def adjoining(span: Span, offers: Iterable[KnownOffer], count: int) -> list[KnownOffer]:
    """At most `count` peers that can come before `span` in a route, and as many that can come after it.

    By key, so that a node's choice is steady.
    """
    ordered = sorted(offers, key=lambda known: known.node)
    before = [known for known in ordered if known.offer.record.span.first < span.first <= known.offer.record.span.last]
    after = [known for known in ordered if known.offer.record.span.first <= span.last < known.offer.record.span.last]
    return [*before[:count], *(known for known in after[:count] if known not in before[:count])]


def _newer(known: KnownOffer, held: KnownOffer) -> bool:
    one, other = known.offer.record, held.offer.record
    if one.boot == other.boot:
        return one.seq > other.seq
    return one.issued > other.issued


def _in_turn(groups: Iterable[list[KnownOffer]]) -> Iterator[KnownOffer]:
    return (known for known in chain.from_iterable(zip_longest(*groups)) if known is not None)
