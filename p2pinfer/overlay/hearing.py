"""Offers that peers tell: held to be sound, kept, and passed on where they are quite new (protocols/offer.md, 3.7).

Whoever told an offer, it is its node's word; the addresses and the age beside it are the teller's.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final
from weakref import WeakKeyDictionary, WeakSet

from p2pinfer.core.records.certificate import NodeCert
from p2pinfer.core.records.offer import Offer, contradict, has_moved
from p2pinfer.core.records.records import SignedRecord
from p2pinfer.core.swarm.allowance import Allowance, Rate
from p2pinfer.core.swarm.digest import renewed
from p2pinfer.core.swarm.offer_table import OfferTable
from p2pinfer.core.swarm.offers import KnownOffer, verify_relayed
from p2pinfer.core.swarm.source import site_of
from p2pinfer.core.values.errors import RemoteProtocolError
from p2pinfer.core.values.units import ModelId, PeerKey
from p2pinfer.core.wire.messages import Offers, RelayedOffer, Renewal
from p2pinfer.overlay.limits import ALL_RUMOURS_BURST, ALL_RUMOURS_RATE, RUMOUR_LINKS, RUMOURS_BURST, RUMOURS_RATE
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.lots import drawn_links
from p2pinfer.overlay.network import Network
from p2pinfer.overlay.pipe import hear_nothing, leads_to
from p2pinfer.overlay.unasked import Unasked

RUMOUR_S: Final = 5.0  # age at which an offer is passed on unasked, at most: what is older was heard elsewhere
FIRST_SEQ: Final = 4  # of a node's offers are of its first half minute: it joins, perhaps elsewhere, and serves

logger = logging.getLogger(__name__)

Tell = Callable[[Link, Sequence[KnownOffer]], None]


@dataclass(frozen=True, slots=True)
class Audience:
    """The hearers of what peers tell.

    own:  hears of offers that our key signed
    news: hears of offers whose node was unknown, or does something else now
    wish: hears which peer wants more of a model than we know
    """

    own: Callable[[Offer], None] = hear_nothing
    news: Callable[[KnownOffer], None] = hear_nothing
    wish: Callable[[Link, ModelId], None] = hear_nothing


class Hearing:
    """The way of offers that we hear into the table.

    relays: we pass on what is quite new, and look for what others want, as nodes do; clients leave that to them
    owed:   links whose peers renewed an offer that we did not know
    """

    def __init__(
        self, network: Network, table: OfferTable, now: Callable[[], float], tell: Tell, audience: Audience
    ) -> None:
        """now: trio's time, by which offers in the table are as old as they are"""
        self.relays = False
        self.owed: WeakSet[Link] = WeakSet()
        self._network = network
        self._table = table
        self._now = now
        self._tell = tell
        self._audience = audience
        # What each told us whole; the table may hold that of another process with its key
        self._announced: WeakKeyDictionary[Link, KnownOffer] = WeakKeyDictionary()
        self._unasked = Unasked()
        self._rumours = Allowance(Rate(RUMOURS_BURST, RUMOURS_RATE), Rate(ALL_RUMOURS_BURST, ALL_RUMOURS_RATE))

    def hear(self, link: Link, message: Offers) -> None:
        """Take what nobody asked for, as much as may be looked at."""
        held, announced = self._table.get(link.peer), self._announced.get(link)
        now = self._now()
        self.take(link, [told for told in message.offers if self._unasked.takes(link, now)])
        for renewal in message.renewals[:1]:
            if announced is not None and renewal.place == 0 and self._unasked.takes(link, now):
                self._take_renewal(link, announced, renewal, renews=False)  # as told whole, with its addresses
        if message.renewals and self._table.get(link.peer) is held:
            self.owed.add(link)

    def take(
        self,
        link: Link,
        offers: Sequence[RelayedOffer],
        renewals: Sequence[Renewal] = (),
        named: Sequence[KnownOffer] = (),
    ) -> None:
        """Keep what is sound; one bad offer says nothing of the others, nor of who passed it on."""
        for told in offers:
            addresses = tuple(address for address in told.addresses if self._network.may_dial(address, link.source))
            known = self._take_one(link, replace(told, addresses=addresses))
            if known is not None and made_by(known, link):
                self._announced[link] = replace(known, addresses=_leading_to(known.node, addresses))
        left = dict(enumerate(named))
        for renewal in renewals:
            if (base := left.pop(renewal.place, None)) is None:
                continue
            if (held := self._table.get(base.node)) is not None:
                base = replace(base, addresses=held.addresses)  # all that were told meanwhile
            self._take_renewal(link, base, renewal, renews=True)

    def _take_renewal(self, link: Link, base: KnownOffer, renewal: Renewal, *, renews: bool) -> None:
        try:
            self._take_one(link, renewed(base, renewal), base.certificate, renews=renews)
        except RemoteProtocolError as error:
            logger.info("a renewal is ignored: %s", error)

    def _take_one(
        self,
        link: Link,
        told: RelayedOffer,
        certificate: SignedRecord[NodeCert] | None = None,
        *,
        renews: bool = False,
    ) -> KnownOffer | None:
        """The offer, whether it is news or not; None for our own, and where it is not sound.

        certificate, renews: as of `verify_relayed` and `OfferTable.add`
        """
        now = self._now()
        if (node := self._table.node_of(told.offer)) is not None:
            told = replace(told, addresses=_leading_to(node, told.addresses))
        if self._table.recognise(told, link.peer, site_of(link.source).key, now=now):
            return None if node is None else self._table.get(node)
        try:
            known = verify_relayed(told, now, self._network.machine.clock(), certificate)
        except RemoteProtocolError as error:
            logger.info("an offer is ignored: %s", error)
            return None
        if known.node == self._network.key:
            self._audience.own(known.offer.record)
            return None
        known = replace(known, network=site_of(link.source).key, addresses=_leading_to(known.node, known.addresses))
        held = self._table.get(known.node)
        if not self._table.add(known, now, itself=known.node == link.peer, renews=renews):
            if held is not None:
                self._tell_of_twin(known, held, link.peer)
            return known
        if held is not None and made_by(known, link) and not made_by(held, link):
            self._tell(link, [held])  # of another process with its key: the one that is a copy finds out
        if _differs(known, held):
            self._pass_on(known, link.peer, now)
        if held is None or _differs(known, held):
            self._audience.news(known)
        return known

    def _tell_of_twin(self, known: KnownOffer, held: KnownOffer, heard_from: PeerKey) -> None:
        """Tell a node what another process of its boot says, as a machine has one that was copied while it ran."""
        one, other = known.offer.record, held.offer.record
        is_its_own = heard_from == known.node
        is_late = is_its_own and one.boot == other.boot and one.seq < other.seq
        link = next((link for link in self._network.links() if link.peer == known.node), None)
        if link is not None and (is_late or contradict(one, other)):
            self._tell(link, [held] if is_its_own else [known, held])

    def _pass_on(self, known: KnownOffer, heard_from: PeerKey, now: float) -> None:
        """Tell a few others at once what is quite new, so that all of a small swarm know it within a second."""
        if now - known.born_s > RUMOUR_S or not self.relays:
            return
        links = [link for link in self._network.links() if link.peer not in (heard_from, known.node)]
        source = next((link.source for link in self._network.links() if link.peer == heard_from), None)
        if links and source is not None and self._rumours.take(source, now):
            for link in drawn_links(links, RUMOUR_LINKS, self._network.machine.lots):
                self._tell(link, [known])


def _differs(known: KnownOffer, held: KnownOffer | None) -> bool:
    """True if a node has just started, or moved, or does something else than before.

    One of which we have not heard is no news by that: of a large swarm everybody knows a part.
    """
    if held is None:
        return known.offer.record.seq <= FIRST_SEQ
    one, other = known.offer.record, held.offer.record
    return has_moved(one, other) or (one.state, one.model, one.span) != (other.state, other.model, other.span)


def _leading_to(node: PeerKey, addresses: Sequence[str]) -> tuple[str, ...]:
    return tuple(address for address in addresses if leads_to(address) == node)


def made_by(known: KnownOffer, link: Link) -> bool:
    """True if the very process at a link's other end made an offer; another one with its key is news to it."""
    return known.node == link.peer and known.offer.record.boot == link.hello.boot
