"""Nodes that lie: they answer calls with what a test gives them, over real libp2p, beside an honest node or without."""

import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import trio

from p2pinfer.core.records.pricing import Prices
from p2pinfer.core.records.records import sign
from p2pinfer.core.swarm.offers import KnownOffer
from p2pinfer.core.values.errors import LinkDead
from p2pinfer.core.values.keys import PrivateKey
from p2pinfer.core.wire.messages import AskFile, AskOffers, CallRefused, Message, Offers
from p2pinfer.core.wire.session_messages import Open
from p2pinfer.overlay.greeting import new_greeting
from p2pinfer.overlay.link import Link

from .arena import Arena
from .strangers import Ears, Stranger, new_key

NOTHING = Prices(0, 0, 0, 0, 0)

Says = Callable[[Link, Message], None]


class Mouth(Ears):
    """Answers for offers with all that it is told to offer; for the rest each liar has words of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.offers: list[KnownOffer] = []
        self.says: dict[type[Message], Says] = {}

    def on_message(self, link: Link, message: Message) -> None:
        super().on_message(link, message)
        if isinstance(message, AskOffers):
            now = trio.current_time()
            link.send_nowait(Offers(message.call, tuple(known.relay(now) for known in self.offers)))
        elif (says := self.says.get(type(message))) is not None:
            says(link, message)

    @property
    def asked(self) -> list[Message]:
        return [message for _, message in self.came if isinstance(message, AskFile)]

    @property
    def opened(self) -> list[Open]:
        return [message for _, message in self.came if isinstance(message, Open)]


class Liar(Stranger):
    """A stranger that others may dial and believe."""

    @property
    def mouth(self) -> Mouth:
        assert isinstance(self.ears, Mouth)
        return self.ears

    @property
    def own_address(self) -> str:
        return str(self.network.addresses()[0])

    def offers(self, like: KnownOffer, addresses: tuple[str, ...] | None = None, **changes: object) -> KnownOffer:
        """Offer something from now on: as an honest node does, but for the changes."""
        made = forged_offer(like, self.key, addresses or (self.own_address,), **changes)
        self.mouth.offers.append(made)
        return made

    def passes_on(self, known: KnownOffer) -> None:
        self.mouth.offers.append(known)


def forged_offer(like: KnownOffer, key: PrivateKey, addresses: tuple[str, ...], **changes: object) -> KnownOffer:
    """An offer of this key's, rightly signed, with a certificate of an owner whom nobody knows."""
    owner = new_key()
    certificate = sign(replace(like.certificate.record, owner=owner.public, node=key.public), owner)
    own = {"node": key.public, "owner": owner.public, "cert": certificate.id, "boot": os.urandom(16)}
    record = replace(like.offer.record, **own, issued=int(time.time()), **changes)  # type: ignore[arg-type]
    return KnownOffer(sign(record, key), certificate, addresses, trio.current_time())


@asynccontextmanager
async def open_liar(arena: Arena) -> AsyncIterator[Liar]:
    key, mouth = new_key(), Mouth()
    async with arena.network(key, mouth, new_greeting()) as network:
        yield Liar(key, network, mouth, arena.address)


def refuse(call: int, code: int, text: str) -> CallRefused:
    return CallRefused(call, code, text, 0)


def quietly(link: Link, *messages: Message) -> None:
    """Say it, if the link is still there."""
    try:
        for message in messages:
            link.send_nowait(message)
    except LinkDead:
        return
