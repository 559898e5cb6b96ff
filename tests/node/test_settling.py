"""Receipts that a node's journal holds are settled when it meets their client again, whatever it serves today."""

import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from p2pinfer.core.money.stage_account import StageAccount
from p2pinfer.core.records.contract import Contract
from p2pinfer.core.records.receipt import FINAL, Receipt
from p2pinfer.core.records.records import SignedRecord, countersign, sign
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.keys import PrivateKey
from p2pinfer.core.values.units import Roles, SessionId, Span
from p2pinfer.core.wire.session_messages import Propose, SessionMessage, Signed, Stored
from p2pinfer.disk.identity import load_identity
from p2pinfer.disk.journal import open_journal
from p2pinfer.disk.places import node_journal
from p2pinfer.disk.store import Store
from p2pinfer.node.daemon import Node, Surroundings, open_node
from p2pinfer.node.settings import Settings
from p2pinfer.overlay.exchange import Exchange
from p2pinfer.overlay.greeting import Greeting
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.memory import MemoryWorld, open_memory_network
from tests.core.paid_route import CLIENT, SECRET, SMALL, STRANGER, PaidRoute, contract_on, offer_of

SESSION = SessionId(os.urandom(16))
PROMPT, DONE = 6, 9
HANG_S = 30.0


@dataclass
class Owed:
    """A node's folder after a session whose client vanished: two receipts and the final one are unsigned."""

    folder: Path
    contract: SignedRecord[Contract]
    proposals: list[SignedRecord[Receipt]]

    @asynccontextmanager
    async def node(self, world: MemoryWorld) -> AsyncIterator[Node]:
        """The node started again, without a model."""
        store = Store(self.folder / "store")

        def network(key: PrivateKey, exchange: Exchange, greeting: Greeting):  # type: ignore[no-untyped-def]
            return open_memory_network(world, key.public, exchange, greeting=greeting)

        async with open_node(Settings(), self.folder, store, Surroundings(network)) as node:
            yield node

    def signed(self, number: int, key: PrivateKey = CLIENT) -> Signed:
        receipt = countersign(self.proposals[number], key)
        return Signed(SESSION, receipt.body, receipt.signatures[1])


@pytest.fixture
async def owed(tmp_path: Path) -> Owed:
    now = int(time.time())
    key = load_identity(tmp_path, now).key
    offer = offer_of(key, Span(0, 6), Roles.HEAD | Roles.TAIL, SMALL)
    contract = countersign(sign(contract_on(offer, prompt=PROMPT, issued=now, expires=now + 3600), CLIENT), key)
    account = StageAccount(contract, SECRET, key)
    PaidRoute(list(range(1, PROMPT + 1)), [contract], [account], None, []).compute(DONE)  # type: ignore[arg-type]
    account.close(Code.CANCELLED)
    proposals = [proposal.signed for proposal in account.due(now)]
    async with open_journal(node_journal(tmp_path)) as journal:
        await journal.agree(contract, SESSION)
        for proposal in proposals:
            await journal.propose(proposal)
    return Owed(tmp_path, contract, proposals)


class Visitor:
    """A client that meets the node. heard: what the node said of sessions that are over."""

    def __init__(self, link: Link, heard: trio.MemoryReceiveChannel[SessionMessage]) -> None:
        self.link = link
        self._heard = heard

    async def next(self) -> SessionMessage:
        with trio.fail_after(HANG_S):
            return await self._heard.receive()


@asynccontextmanager
async def visit(world: MemoryWorld, node: Node, key: PrivateKey = CLIENT) -> AsyncIterator[Visitor]:
    send, heard = trio.open_memory_channel[SessionMessage](100)
    async with trio.open_nursery() as nursery:
        exchange = Exchange(nursery)
        exchange.strays.append(lambda _, message: send.send_nowait(message))
        async with open_memory_network(world, key.public, exchange) as network:
            yield Visitor(await network.dial(node.addresses[0]), heard)
        nursery.cancel_scope.cancel()


async def complete(node: Node, owed: Owed) -> int:
    """The number of the highest receipt that the node has complete; 0 for none."""
    found = await node.journal.read(lambda reader: reader.complete(owed.contract.id))
    return found.receipt.record.seq if found else 0


async def test_a_client_that_comes_back_is_shown_what_it_has_not_signed(owed: Owed) -> None:
    world = MemoryWorld()
    async with owed.node(world) as node, visit(world, node) as client:
        shown = [await client.next() for _ in owed.proposals]
    assert shown == [Propose(SESSION, one.body, one.signatures[0]) for one in owed.proposals]


async def test_what_it_signs_is_stored_and_acknowledged(owed: Owed) -> None:
    world = MemoryWorld()
    async with owed.node(world) as node, visit(world, node) as client:
        for _ in owed.proposals:
            await client.next()
        client.link.send_nowait(owed.signed(2))
        assert await client.next() == Stored(SESSION, 3)
        assert await complete(node, owed) == 3
        assert await node.journal.read(lambda reader: reader.pending()) == []
    assert owed.proposals[2].record.state == FINAL


async def test_a_client_that_never_heard_that_it_is_stored_hears_it_at_last(owed: Owed) -> None:
    world = MemoryWorld()
    async with owed.node(world) as node:
        for _ in range(2):
            async with visit(world, node) as client:
                client.link.send_nowait(owed.signed(2))
                while not isinstance(message := await client.next(), Stored):
                    pass
                assert message == Stored(SESSION, 3)


def of_somebody_else(owed: Owed) -> Signed:
    return owed.signed(2, STRANGER)


def of_another_body(owed: Owed) -> Signed:
    signed = owed.signed(2)
    return Signed(SESSION, signed.receipt[:-1] + bytes([Code.LOST]), signed.signature)


@pytest.mark.parametrize("lie", [of_somebody_else, of_another_body])
async def test_a_signature_on_anything_else_settles_nothing(owed: Owed, lie: Callable[[Owed], Signed]) -> None:
    world = MemoryWorld()
    async with owed.node(world) as node, visit(world, node) as client:
        for _ in owed.proposals:
            await client.next()
        client.link.send_nowait(lie(owed))
        client.link.send_nowait(owed.signed(0))
        assert await client.next() == Stored(SESSION, 1)
        assert await complete(node, owed) == 1


async def test_another_client_is_shown_nothing_and_settles_nothing(owed: Owed) -> None:
    world = MemoryWorld()
    async with owed.node(world) as node:
        async with visit(world, node, STRANGER) as thief:
            thief.link.send_nowait(owed.signed(2))
            assert await thief.link.check()
        async with visit(world, node) as client:
            for _ in owed.proposals:
                assert isinstance(await client.next(), Propose)
        assert await complete(node, owed) == 0
