"""A stage that keeps the protocol to the letter, but for what a test tells it: it computes nothing and makes up ids."""

import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import ClassVar

import trio

from p2pinfer.core.money.stage_account import Proposal, StageAccount
from p2pinfer.core.records.contract import verify_request
from p2pinfer.core.records.offer import Load, ServingState, Speed
from p2pinfer.core.records.receipt import Receipt
from p2pinfer.core.records.records import SignedRecord, countersign, sign
from p2pinfer.core.records.sampling import decode_sampling
from p2pinfer.core.swarm.offers import KnownOffer
from p2pinfer.core.values.codes import Code
from p2pinfer.core.wire.messages import AskFile
from p2pinfer.core.wire.session_messages import (
    Accept,
    Open,
    Prompt,
    Propose,
    Sampled,
    SessionMessage,
    Signed,
    Stored,
    pack_ids,
    unpack_ids,
)
from p2pinfer.disk.boots import Boots
from p2pinfer.disk.identity import Identity
from p2pinfer.disk.store import Store, StoredModel
from p2pinfer.node.certification import Certifying
from p2pinfer.node.files import ModelFiles
from p2pinfer.node.own_offers import OwnOffers, Signer
from p2pinfer.node.settings import Settings, change
from p2pinfer.overlay.answers import Answering
from p2pinfer.overlay.directory import Directory
from p2pinfer.overlay.exchange import Exchange
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.machine import Machine
from p2pinfer.overlay.memory import MemoryWorld, open_memory_network
from p2pinfer.overlay.network import Network
from tests.swarms import tiny_settings

FIRST_ID = 97  # "a", and what follows it


class SoloStage:
    """The whole model's only stage. Overridden, it lies.

    signed: what the client signed. strays: whatever else came. prices: its own, in place of the default ones.
    """

    prices: ClassVar[Mapping[str, int]] = {}
    world: MemoryWorld

    def __init__(self, offering: OwnOffers, network: Network) -> None:
        self.offering = offering
        self.network = network
        self.signed: list[Signed] = []
        self.strays: list[SessionMessage] = []
        self.opens = 0

    def on_open(self, link: Link, message: Open) -> None:
        """Accept, and wait for the prompt."""
        self.opens += 1
        request = verify_request(message.contract, message.signature)
        self.message = message
        self.contract = countersign(request, self.offering.key)
        self.account = StageAccount(self.contract, message.secret, self.offering.key)
        self.accept(link, message)

    def accept(self, link: Link, message: Open) -> None:
        link.send_nowait(Accept(message.session, message.epoch, self.contract.signatures[1], 0))

    def on_stray(self, link: Link, message: SessionMessage) -> None:
        match message:
            case Prompt():
                self.answer(link, unpack_ids(message.ids))
            case Signed():
                self.signed.append(message)
                if (complete := self.account.sign(message.receipt, message.signature)) is not None:
                    link.send_nowait(Stored(message.session, complete.record.seq))
            case _:
                self.strays.append(message)

    def answer(self, link: Link, prompt: tuple[int, ...]) -> None:
        """All ids at once, then the receipts."""
        count = decode_sampling(self.message.sampling).max_tokens
        for at in range(count):
            link.send_nowait(self.sampled(len(prompt) + at, FIRST_ID + at, at == count - 1))
        self.compute(prompt, count)
        self.account.close(Code.LENGTH)
        for proposal in self.account.due(self.contract.record.issued):
            link.send_nowait(self.proposal(proposal))

    def compute(self, prompt: tuple[int, ...], count: int) -> None:
        """Count the work of `count` ids."""
        ids = [*prompt, *range(FIRST_ID, FIRST_ID + count)]
        positions = len(prompt) + count - 1
        self.account.add_inputs(0, pack_ids(ids[:positions]), positions)
        self.account.add_outputs(len(prompt), pack_ids(ids[len(prompt) :]), count)
        self.account.commit(positions)

    def sampled(self, position: int, id_: int, last: bool) -> Sampled:
        return Sampled(self.message.session, 0, 0, position, (id_,), Code.LENGTH if last else Code.NONE)

    def proposal(self, proposal: Proposal) -> Propose:
        return Propose(self.message.session, proposal.signed.body, proposal.signed.signatures[0])

    def altered(self, signed: SignedRecord[Receipt], **changes: object) -> Propose:
        """A proposal with other fields, signed by us all the same."""
        again = sign(replace(signed.record, **changes), self.offering.key)  # type: ignore[arg-type]
        return Propose(self.message.session, again.body, again.signatures[0])


@asynccontextmanager
async def open_stage(
    shape: type[SoloStage],
    world: MemoryWorld,
    store: Store,
    model: StoredModel,
    identity: Identity,
    files: Answering | None = None,
    settings: Settings | None = None,
    open_network: Callable[[Exchange], AbstractAsyncContextManager[Network]] | None = None,
) -> AsyncIterator[SoloStage]:
    """A stage that offers the whole model. files: hands out its files, in place of the store.

    open_network: another one than that of the world
    """
    settings = settings or change(tiny_settings(model), "prices", **shape.prices)
    certifying = Certifying(store.root, identity, None, Machine().unix)  # type: ignore[arg-type]  # it renews nothing here
    boots = Boots(store.root / "boots", bytes(16))
    offering = OwnOffers(Signer(identity.key, certifying, boots), model, settings, model.manifest.span)
    async with trio.open_nursery() as nursery:
        exchange = Exchange(nursery)
        exchange.answer(AskFile, files or ModelFiles(store).answer)
        opened = open_network(exchange) if open_network else open_memory_network(world, identity.key.public, exchange)
        async with opened as network:
            stage = shape(offering, network)
            stage.world = world
            directory = Directory(network, exchange)
            exchange.strays.append(stage.on_stray)
            exchange.greeters.append(directory.greet)
            offer = offering.make(ServingState.SERVING, Load(1000, 0, 0), Speed(100, 10, 0), int(time.time()))
            directory.announce(KnownOffer(offer, offering.certificate, network.addresses(), trio.current_time()))
            with exchange.hosted_by(stage.on_open):
                yield stage
        nursery.cancel_scope.cancel()
