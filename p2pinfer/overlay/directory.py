"""Who serves what: signed offers asked of peers and passed on by peers; the DHT finds the first ones (DESIGN 5).

A node tells its offer to every peer it is linked to, when it changes and at least every 20 s; whoever asks one peer
learns what it has heard. Offers are checked here, and their life is kept in `core/offers.py`.
"""

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from itertools import chain, repeat
from random import SystemRandom
from typing import Final
from weakref import WeakSet

import trio

from p2pinfer.core.errors import LinkDead, Refused, RemoteProtocolError
from p2pinfer.core.messages import (
    MAX_ADDRESSES,
    MAX_OFFERS,
    AskContacts,
    AskOffers,
    Contacts,
    Offers,
    model_or_none,
)
from p2pinfer.core.offer import Offer
from p2pinfer.core.offers import KnownOffer, OfferTable, adjoining, verify_relayed
from p2pinfer.core.units import ModelId, PeerKey
from p2pinfer.overlay.exchange import Ask, Exchange
from p2pinfer.overlay.limits import MAX_ASKED, MAX_FOUND
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.network import Network
from p2pinfer.overlay.pipe import leads_to
from p2pinfer.overlay.reach import reach

LOTS: Final = SystemRandom()  # nobody foretells who is asked
MODEL_DOMAIN: Final = b"p2pinfer/1/model\0"
MEET_S: Final = 2.0  # for one look-up: dials, answers and DHT together
RETRY_S: Final = 5.0  # between attempts to meet a bootstrap peer that is away
PROVIDE_FIRST_S: Final = (1.0, 10.0, 60.0)  # sooner while others are met: what is told to nobody is lost
WARM_PEERS: Final = 4  # on each side of our span
PROVIDE_S: Final = 3_600.0  # DHT records live a day; renewing them hourly survives restarts of those who hold them

logger = logging.getLogger(__name__)


def model_key(model: ModelId, depth: int = 0) -> bytes:
    """Where in the DHT nodes say that they serve a model; depths over 0 are for swarms too large for one key."""
    assert depth == 0
    return sha256(MODEL_DOMAIN + model + bytes([depth])).digest()


class Directory:
    """What we know of the swarm. own: the offer that we serve, or None."""

    def __init__(
        self,
        network: Network,
        exchange: Exchange,
        bootstrap: Sequence[str] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.table = OfferTable()
        self.own: KnownOffer | None = None
        self._network = network
        self._exchange = exchange
        self._bootstrap = tuple(bootstrap)
        self._clock = clock
        self._met: WeakSet[Link] = WeakSet()  # links whose peers' part of the DHT we have asked for
        exchange.answer(AskOffers, self._answer)
        exchange.answer(AskContacts, self._say_contacts)
        exchange.on_offers = self._take
        self.on_own: Callable[[Offer], None] | None = None  # hears of offers that our key signed

    # Telling

    def announce(self, offer: KnownOffer) -> None:
        """Make `offer` ours, and tell everybody we are linked to."""
        self.own = offer
        for link in self._network.links():
            self.greet(link)

    def greet(self, link: Link) -> None:
        """Tell the peer of a link what we serve."""
        now = trio.current_time()
        for own in self._own_fresh(now):
            with suppress(LinkDead):  # then it needs no offers
                link.send_nowait(Offers(0, (own.relay(now),)))

    def _own_fresh(self, now: float) -> list[KnownOffer]:
        """Our offer while it is one: who slept wakes with one past its time, and signs the next in a moment."""
        return [self.own] if self.own is not None and self.own.left_s(now) > 0 else []

    async def _answer(self, link: Link, ask: Ask) -> Offers:
        assert isinstance(ask, AskOffers)
        now = trio.current_time()
        limit = min(ask.limit, MAX_OFFERS)
        own = self._own_fresh(now)
        with link.charged():
            spread = self.table.spread(now, model_or_none(ask.model), limit)
            others = [known for known in spread if not _made_by(known, link)]
            return Offers(ask.call, tuple(known.relay(now) for known in [*own, *others][:limit]))

    # Asking

    def offers(self, model: ModelId | None = None) -> list[KnownOffer]:
        """What is on offer as far as we know now."""
        return self.table.fresh(trio.current_time(), model)

    @property
    def is_alone(self) -> bool:
        """True if peers to meet were named, and none is linked to us."""
        return bool(self._bootstrap) and not self._network.links()

    async def look(self, model: ModelId | None = None) -> list[KnownOffer]:
        """Meet the bootstrap peers, ask MAX_ASKED of those we are linked to, and say what is on offer.

        Takes at most MEET_S, and waits for nobody who does not answer.
        """
        with trio.move_on_after(MEET_S):
            async with trio.open_nursery() as nursery:
                for address in self._bootstrap:
                    nursery.start_soon(self._meet, address, model)
                for link in self._some(self._network.links()):
                    nursery.start_soon(self._ask, link, model)
        if model is not None and not self.offers(model):
            await self._look_in_dht(model)
        return self.offers(model)

    @staticmethod
    def _some(links: Sequence[Link]) -> list[Link]:
        """Those to ask something now: first those that we dialled, then whoever chance will have."""
        return sorted(links, key=lambda link: (not link.dialled, LOTS.random()))[:MAX_ASKED]

    async def keep_meeting(self) -> None:
        """Stay linked to the bootstrap peers and to peers whose layers adjoin ours, until cancelled.

        The latter make a session's first hop fast, and keep the swarm together when the bootstrap peers are gone.
        """
        while True:
            async with trio.open_nursery() as nursery:
                for address in self._bootstrap:
                    nursery.start_soon(self._meet, address, None)
                for known in self._adjoining():
                    nursery.start_soon(self._meet_node, known)
                for link in self._some([link for link in self._network.links() if link not in self._met]):
                    nursery.start_soon(self._meet_in_dht, link)
            if self.own is not None and not self._network.links():
                await self._look_in_dht(self.own.offer.record.model)  # alone: the DHT or the local network may help
            await trio.sleep(RETRY_S)

    def _adjoining(self) -> list[KnownOffer]:
        """The peers to stay linked to; the same ones every time, as long as they are there."""
        if self.own is None:
            return []
        offer = self.own.offer.record
        return adjoining(offer.span, self.offers(offer.model), WARM_PEERS)

    async def _meet_node(self, known: KnownOffer) -> None:
        try:
            await reach(self._network, known.node, known.addresses)
        except Refused:
            self.table.forget(known.node)  # until somebody hears of it again

    async def keep_providing(self, model: ModelId) -> None:
        """Say in the DHT that we serve a model, until cancelled."""
        for wait_s in chain(PROVIDE_FIRST_S, repeat(PROVIDE_S)):
            await trio.sleep(wait_s)
            await self._network.provide(model_key(model))

    async def _look_in_dht(self, model: ModelId) -> None:
        found: dict[PeerKey, list[str]] = defaultdict(list)
        for address in await self._network.find(model_key(model)):
            if (peer := leads_to(address)) is not None and (peer in found or len(found) < MAX_FOUND):
                found[peer].append(address)
        with trio.move_on_after(MEET_S):
            async with trio.open_nursery() as nursery:
                for peer, addresses in found.items():
                    nursery.start_soon(self._meet_stranger, peer, addresses[:MAX_ADDRESSES], model)

    async def _meet_stranger(self, peer: PeerKey, addresses: Sequence[str], model: ModelId) -> None:
        """Meet a peer at addresses that somebody else gave us."""
        known = self._network.link(peer)
        try:
            link = await reach(self._network, peer, addresses)
        except Refused as error:
            logger.info("who serves the model is not there: %s", error)
            return
        if link is not known:
            await self._ask(link, model)

    async def _meet_in_dht(self, link: Link) -> None:
        """Let our part of the DHT know the peer's, once for each link: a peer that starts anew has a new part."""
        if not self._network.directory_addresses():
            return
        self._met.add(link)
        try:
            contacts = await self._exchange.call(link, AskContacts, Contacts)
        except (LinkDead, Refused, RemoteProtocolError) as error:
            logger.info("a peer has no part in the DHT: %s", error)
            return
        await self._network.meet(contacts.directory, link.source)

    async def _say_contacts(self, _link: Link, ask: Ask) -> Contacts:
        network = self._network
        return Contacts(ask.call, network.addresses()[:MAX_ADDRESSES], network.directory_addresses()[:MAX_ADDRESSES])

    async def _meet(self, address: str, model: ModelId | None) -> None:
        known = {link.peer for link in self._network.links()}
        try:
            link = await self._network.dial(address)
        except LinkDead as error:
            logger.info("cannot reach %s: %s", address, error)
            return
        if link.peer not in known:
            await self._ask(link, model)

    async def _ask(self, link: Link, model: ModelId | None) -> None:
        try:
            answer = await self._exchange.call(link, lambda call: AskOffers(call, model or b"", MAX_OFFERS), Offers)
        except (LinkDead, Refused, RemoteProtocolError) as error:
            logger.info("no offers from a peer: %s", error)
            return
        self._take(link, answer)

    def _take(self, link: Link, message: Offers) -> None:
        """Keep what is sound; one bad offer says nothing of the others, nor of who passed it on."""
        now = trio.current_time()
        for told in message.offers:
            addresses = tuple(address for address in told.addresses if self._network.may_dial(address, link.source))
            relayed = replace(told, addresses=addresses)
            if self.table.recognise(relayed, link.peer, link.source.key, now=now):
                continue
            try:
                known = verify_relayed(relayed, now, self._clock())
            except RemoteProtocolError as error:
                logger.info("an offer is ignored: %s", error)
                continue
            if known.node != self._network.key:
                self.table.add(replace(known, network=link.source.key), now)
            elif self.on_own is not None:
                self.on_own(known.offer.record)


def _made_by(known: KnownOffer, link: Link) -> bool:
    """True if the very process at a link's other end made an offer; another one with its key is news to it."""
    return known.node == link.peer and known.offer.record.boot == link.hello.boot
