"""Offers told, asked for and answered: who serves what, as peers tell each other (protocols/offer.md, 3.7).

A peer tells its own offer over each of its links; others' it tells when it is asked. Answers hold news alone: a
question names what its asker knows. Others choose whom to ask, and when; `hearing.py` takes what is heard.
"""

import logging
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import replace
from typing import Final
from weakref import WeakKeyDictionary

import trio

from p2pinfer.core.swarm.coverage import WELL_HELD, thinnest
from p2pinfer.core.swarm.digest import Digest, name_all, renewal_of, terms_of
from p2pinfer.core.swarm.offer_table import OfferTable
from p2pinfer.core.swarm.offers import KnownOffer, reachable
from p2pinfer.core.values.errors import LinkDead, Refused, RemoteProtocolError
from p2pinfer.core.values.keys import short_name
from p2pinfer.core.values.units import ModelId
from p2pinfer.core.wire.messages import (
    LAST_SLICE,
    MAX_NAMED,
    MAX_OFFERS,
    AskOffers,
    Offers,
    RelayedOffer,
    Renewal,
    model_or_none,
)
from p2pinfer.overlay.calls import Ask
from p2pinfer.overlay.contained import Contained
from p2pinfer.overlay.exchange import Exchange
from p2pinfer.overlay.gathering import Gathering, open_gathering
from p2pinfer.overlay.hearing import Audience, Hearing, made_by
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.lots import drawn
from p2pinfer.overlay.network import Network
from p2pinfer.overlay.sleep import Sleep

MEET_S: Final = 2.0  # for peers that one look-up meets and asks to answer
LOOK_S: Final = 20.0  # for those of them that answer and are slow: 4 round trips of 2 s, and lost packets
LOOK_GAIN_S: Final = 2  # that an offer must be younger than one we know to be news to a person who waits
MAX_MODELS: Final = 64  # whose layers are remembered
UNNAMED: Final = 0.25  # part of questions that leave one offer unnamed: it is told whole, with new addresses

NOBODY: Final = Audience()

logger = logging.getLogger(__name__)


class Tidings:
    """Our knowledge of offers, and our talk of them.

    own:     the offer that we serve, or None
    hearing: how what peers tell gets into the table
    """

    def __init__(self, network: Network, exchange: Exchange, audience: Audience = NOBODY) -> None:
        self._lots = network.machine.lots
        self.table = OfferTable(self._lots.randrange)
        self.own: KnownOffer | None = None
        self._layers: dict[ModelId, int] = {}  # of models whose manifests are known here
        self._network = network
        self._exchange = exchange
        self._audience = audience
        self._sleep = Sleep(network.asleep_s)
        self.hearing = Hearing(network, self.table, self._now, self._tell, audience)
        self._told: WeakKeyDictionary[Link, object] = WeakKeyDictionary()  # the terms of ours that a peer was told
        exchange.answer(AskOffers, self._answer)
        exchange.hearers.append(self.hearing.hear)

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
        self._tell(link, [known for known in offers if not made_by(known, link)])

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
            if ask.seek and ask.model and self.hearing.relays:
                self._audience.wish(link, ModelId(ask.model))
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
        whole += self.table.spread(now, model, ask.limit, lambda one: made_by(one, link) or digest.names(one))
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
        named = drawn(known, min(MAX_NAMED, max(0, len(known) - (self._lots.random() < UNNAMED))), self._lots)
        at, now = self._lots.randrange(LAST_SLICE + 1), self._now()
        names = name_all(named, at, now)

        def question(call: int) -> AskOffers:
            return AskOffers(call, model or b"", limit, int(seek), gain_s, at, names)

        try:
            answer = await self._exchange.call(link, question, Offers)
        except (LinkDead, Refused, RemoteProtocolError) as error:
            logger.info("no offers from a peer: %s", error)
            return False
        self.hearing.owed.discard(link)
        with Contained(f"the offers of {short_name(link.peer)}", link.fail), link.charged():
            self.hearing.take(link, answer.offers[:limit], answer.renewals, named)
            return True
        return False
