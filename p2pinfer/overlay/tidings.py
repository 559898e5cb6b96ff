"""Offers told, asked for, answered and taken: who serves what, as peers tell each other (protocols/offer.md, 3.7).

A peer tells its own offer over each of its links; others' it tells when it is asked, and passes on at once what is
quite new. Answers hold news alone: a question names what its asker knows. Whom to ask, and when, is for others.
"""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import replace
from random import SystemRandom
from typing import Final
from weakref import WeakKeyDictionary, WeakSet

import trio

from p2pinfer.core.allowance import Allowance, Rate
from p2pinfer.core.certificate import NodeCert
from p2pinfer.core.coverage import WELL_HELD, thinnest
from p2pinfer.core.digest import Digest, name_all, renewal_of, renewed, terms_of
from p2pinfer.core.errors import LinkDead, Refused, RemoteProtocolError
from p2pinfer.core.keys import short_name
from p2pinfer.core.messages import (
    LAST_SLICE,
    MAX_NAMED,
    MAX_OFFERS,
    AskOffers,
    Offers,
    RelayedOffer,
    Renewal,
    model_or_none,
)
from p2pinfer.core.offer import Offer, contradict
from p2pinfer.core.offer_table import OfferTable
from p2pinfer.core.offers import KnownOffer, reachable, verify_relayed
from p2pinfer.core.records import SignedRecord
from p2pinfer.core.units import ModelId, PeerKey
from p2pinfer.overlay.calls import Ask
from p2pinfer.overlay.contained import Contained
from p2pinfer.overlay.drawing import drawn, drawn_links
from p2pinfer.overlay.exchange import Exchange
from p2pinfer.overlay.gathering import Gathering, open_gathering
from p2pinfer.overlay.limits import (
    ALL_RUMOURS_BURST,
    ALL_RUMOURS_RATE,
    RUMOUR_LINKS,
    RUMOURS_BURST,
    RUMOURS_RATE,
)
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.network import Network
from p2pinfer.overlay.pipe import leads_to
from p2pinfer.overlay.waking import Sleep

LOTS: Final = SystemRandom()  # nobody foretells who is asked
MEET_S: Final = 2.0  # for peers that one look-up meets and asks to answer
LOOK_S: Final = 20.0  # for those of them that answer and are slow: 4 round trips of 2 s, and lost packets
LOOK_GAIN_S: Final = 2  # that an offer must be younger than one we know to be news to a person who waits
RUMOUR_S: Final = 5.0  # age at which an offer is passed on unasked, at most: what is older was heard elsewhere
FIRST_SEQ: Final = 4  # of a node's offers are of its first half minute: it joins, perhaps elsewhere, and serves
MAX_MODELS: Final = 64  # whose layers are remembered
UNNAMED: Final = 0.25  # part of questions that leave one offer unnamed: it is told whole, with new addresses

logger = logging.getLogger(__name__)


class Tidings:
    """What we know of offers, and our talk of them.

    own:     the offer that we serve, or None
    on_own:  hears of offers that our key signed
    on_news: hears of offers whose node was unknown, or does something else now
    on_seek: hears who wants more of a model than we know
    relays:  we pass on what is quite new, as nodes do; clients leave that to them
    """

    def __init__(self, network: Network, exchange: Exchange, clock: Callable[[], float] = time.time) -> None:
        self.table = OfferTable(LOTS.randrange)
        self.own: KnownOffer | None = None
        self.on_own: Callable[[Offer], None] | None = None
        self.on_news: Callable[[KnownOffer], None] | None = None
        self.on_seek: Callable[[Link, ModelId], None] | None = None
        self.relays = False
        self._layers: dict[ModelId, int] = {}  # of models whose manifests are known here
        self.owed: WeakSet[Link] = WeakSet()  # links whose peers renewed an offer that we did not know
        self._network = network
        self._exchange = exchange
        self._clock = clock
        self._sleep = Sleep(network.asleep_s)
        # What each told us whole; the table may hold that of another process with its key
        self._announced: WeakKeyDictionary[Link, KnownOffer] = WeakKeyDictionary()
        self._told: WeakKeyDictionary[Link, object] = WeakKeyDictionary()  # the terms of ours that a peer was told
        self._rumours = Allowance(Rate(RUMOURS_BURST, RUMOURS_RATE), Rate(ALL_RUMOURS_BURST, ALL_RUMOURS_RATE))
        exchange.answer(AskOffers, self._answer)
        exchange.on_offers = self._hear

    def fresh(self, model: ModelId | None = None) -> list[KnownOffer]:
        return self.table.fresh(self._now(), model)

    def is_thin(self, model: ModelId) -> bool:
        """True if layers of a model are missing, or would be if one node left."""
        return self.held(model) < WELL_HELD

    def held(self, model: ModelId) -> int:
        """The number of nodes within reach that serve the layer that fewest serve, our own among them."""
        own = [one for one in self._own_fresh(self._now()) if one.offer.record.model == model]
        offers = (known.offer.record for known in (*self.reachable(model), *own))
        return thinnest(offers, self._layers.get(model))

    def reachable(self, model: ModelId | None = None) -> list[KnownOffer]:
        """Those of nodes that can be reached from here."""
        return reachable(self.fresh(model), {link.peer for link in self._network.links()})

    def note_layers(self, model: ModelId, layers: int) -> None:
        """A manifest says how many layers a model has."""
        self._layers[model] = layers
        if len(self._layers) > MAX_MODELS:
            del self._layers[next(iter(self._layers))]

    # Telling

    def announce(self, offer: KnownOffer) -> None:
        """Make `offer` ours, and tell everybody we are linked to: what changed, where they know the rest."""
        self._now()  # a sleep before it makes it no older
        self.own = offer
        for link in self._network.links():
            self.greet(link)

    def greet(self, link: Link) -> None:
        """Tell the peer of a link what we serve. It lives, whatever we thought."""
        self.table.heard(link.peer)
        now = self._now()
        for own in self._own_fresh(now):
            terms = terms_of(own.offer), self._network.told(link.source)
            with suppress(LinkDead):  # then it needs no offers
                if self._told.get(link) == terms:
                    link.send_nowait(Offers(0, (), (renewal_of(own, 0, now),)))
                else:
                    link.send_nowait(Offers(0, (self._relay(own, link, now),)))
                    self._told[link] = terms

    def tell(self, link: Link, offers: Sequence[KnownOffer]) -> None:
        """Tell a peer of others, unasked."""
        self._tell(link, [known for known in offers if not _made_by(known, link)])

    def _tell(self, link: Link, offers: Sequence[KnownOffer]) -> None:
        now = self._now()
        fresh = [known for known in offers if known.left_s(now) > 0]
        if told := tuple(self._relay(known, link, now) for known in fresh):
            with suppress(LinkDead):
                link.send_nowait(Offers(0, told[:MAX_OFFERS]))

    def _now(self) -> float:
        """Trio's time. Where the machine slept all that we know is older first: nobody uses or tells it as fresh."""
        if slept_s := self._sleep.passed_s():
            self.table.age(slept_s)
            self.own = None if self.own is None else self.own.aged(slept_s)
        return trio.current_time()

    def _own_fresh(self, now: float) -> list[KnownOffer]:
        """Our offer while it is one: who slept wakes with one past its time, and signs the next in a moment."""
        return [self.own] if self.own is not None and self.own.left_s(now) > 0 else []

    def _relay(self, known: KnownOffer, link: Link, now: float) -> RelayedOffer:
        """An offer with those addresses of its node that are of use where the link leads."""
        addresses: tuple[str, ...] = self._network.told(link.source)
        if known is not self.own:
            addresses = tuple(one for one in known.addresses if self._network.may_tell(one, link.source))
        return replace(known.relay(now), addresses=addresses)

    async def _answer(self, link: Link, ask: Ask) -> Offers:
        assert isinstance(ask, AskOffers)
        with link.charged():
            answer = self._answer_of(link, ask)
            if ask.seek and ask.model and self.on_seek is not None:
                self.on_seek(link, ModelId(ask.model))
        return answer

    def _answer_of(self, link: Link, ask: AskOffers) -> Offers:
        now, digest, model = self._now(), Digest(ask), model_or_none(ask.model)
        ours = [own for own in self._own_fresh(now) if model in (None, own.offer.record.model)]
        whole = [own for own in ours if not digest.names(own)]
        renewals: list[Renewal] = []
        for known in (*ours, *self.table.fresh(now, model)) if ask.known else ():  # anybody may ask, of a full table
            if digest.names(known) and digest.is_news(known, now):
                if (renewal := digest.renewal(known, now)) is not None:
                    renewals.append(renewal)
                else:
                    whole.append(known)
        whole += self.table.spread(now, model, ask.limit, lambda one: _made_by(one, link) or digest.names(one))
        told = tuple(self._relay(known, link, now) for known in whole[: ask.limit])
        return Offers(ask.call, told, tuple(renewals[:MAX_NAMED]))

    # Asking

    def gathering(self) -> AbstractAsyncContextManager[Gathering]:
        """Meet and ask several peers at once: MEET_S for the silent, up to LOOK_S for those who get on."""
        return open_gathering(self._network, MEET_S, LOOK_S, lambda: bool(self.fresh()))

    async def ask(
        self,
        link: Link,
        model: ModelId | None,
        *,
        seek: bool = False,
        gain_s: int = LOOK_GAIN_S,
        limit: int = MAX_OFFERS,
    ) -> bool:
        """Ask a peer for offers of one model, or of all, and take its answer; False if it gives none.

        seek:   have it look elsewhere, too, and tell us later
        gain_s: seconds that an offer must be younger than ours to be told again
        limit:  offers that it may tell whole
        """
        known = self.fresh(model)
        named = drawn(known, min(MAX_NAMED, max(0, len(known) - (LOTS.random() < UNNAMED))), LOTS)
        at, now = LOTS.randrange(LAST_SLICE + 1), self._now()
        names = name_all(named, at, now)

        def question(call: int) -> AskOffers:
            return AskOffers(call, model or b"", limit, int(seek), gain_s, at, names)

        try:
            answer = await self._exchange.call(link, question, Offers)
        except (LinkDead, Refused, RemoteProtocolError) as error:
            logger.info("no offers from a peer: %s", error)
            return False
        self.owed.discard(link)
        with Contained(f"the offers of {short_name(link.peer)}", link.fail), link.charged():
            self._take(link, answer.offers[:limit], answer.renewals, named)
            return True
        return False

    def _hear(self, link: Link, message: Offers) -> None:
        """Take what nobody asked for."""
        held, announced = self.table.get(link.peer), self._announced.get(link)
        self._take(link, message.offers)
        for renewal in message.renewals[:1]:
            if announced is not None and renewal.place == 0:
                self._take_renewal(link, announced, renewal, renews=False)  # as told whole, with its addresses
        if message.renewals and self.table.get(link.peer) is held:
            self.owed.add(link)

    def _take(
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
            if known is not None and _made_by(known, link):
                self._announced[link] = replace(known, addresses=_leading_to(known.node, addresses))
        left = dict(enumerate(named))
        for renewal in renewals:
            if (base := left.pop(renewal.place, None)) is None:
                continue
            if (held := self.table.get(base.node)) is not None:
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
        if (node := self.table.node_of(told.offer)) is not None:
            told = replace(told, addresses=_leading_to(node, told.addresses))
        if self.table.recognise(told, link.peer, link.source.key, now=now):
            return None if node is None else self.table.get(node)
        try:
            known = verify_relayed(told, now, self._clock(), certificate)
        except RemoteProtocolError as error:
            logger.info("an offer is ignored: %s", error)
            return None
        if known.node == self._network.key:
            if self.on_own is not None:
                self.on_own(known.offer.record)
            return None
        known = replace(known, network=link.source.key, addresses=_leading_to(known.node, known.addresses))
        held = self.table.get(known.node)
        if not self.table.add(known, now, itself=known.node == link.peer, renews=renews):
            if held is not None:
                self._tell_of_twin(known, held, link.peer)
            return known
        if held is not None and _made_by(known, link) and not _made_by(held, link):
            self.tell(link, [held])  # of another process with its key: who was a copy, or started anew, finds out which
        if _differs(known, held):
            self._pass_on(known, link.peer, now)
        if self.on_news is not None and (held is None or _differs(known, held)):
            self.on_news(known)
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
            for link in drawn_links(links, RUMOUR_LINKS, LOTS):
                self.tell(link, [known])


def _differs(known: KnownOffer, held: KnownOffer | None) -> bool:
    """True if a node has just started, or does something else than before.

    One of which we have not heard is no news by that: of a large swarm everybody knows a part.
    """
    if held is None:
        return known.offer.record.seq <= FIRST_SEQ
    one, other = known.offer.record, held.offer.record
    return (one.boot, one.state, one.model, one.span) != (other.boot, other.state, other.model, other.span)


def _leading_to(node: PeerKey, addresses: Sequence[str]) -> tuple[str, ...]:
    return tuple(address for address in addresses if leads_to(address) == node)


def _made_by(known: KnownOffer, link: Link) -> bool:
    """True if the very process at a link's other end made an offer; another one with its key is news to it."""
    return known.node == link.peer and known.offer.record.boot == link.hello.boot
