"""A client in the hands of a test: it opens what it likes, signs what it likes, and keeps what it hears."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import trio

from p2pinfer.client.contracts import MAX_RESERVE, Order, Plan, StagePlan, make_plan
from p2pinfer.core.records.contract import Contract
from p2pinfer.core.records.records import SignedRecord, sign
from p2pinfer.core.records.sampling import SamplingRecord
from p2pinfer.core.values.errors import LinkDead
from p2pinfer.core.values.keys import PrivateKey
from p2pinfer.core.values.units import Codec, PeerKey
from p2pinfer.core.wire.session_messages import Accept, Close, Open, Prompt, SessionMessage, SessionRefused, pack_ids
from p2pinfer.overlay.directory import Directory
from p2pinfer.overlay.exchange import Exchange
from p2pinfer.overlay.greeting import new_greeting
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.machine import Machine
from p2pinfer.overlay.network import Network
from p2pinfer.overlay.reach import reach
from tests.swarms import LAYERS, TinySwarm

IDS = tuple(b"hello")


@dataclass
class Stranger:
    """A client; `heard` is what came for sessions that are not open here."""

    key: PrivateKey
    network: Network
    exchange: Exchange
    directory: Directory
    heard: list[tuple[PeerKey, SessionMessage]] = field(default_factory=list)

    async def plan(
        self, prompt: int = len(IDS), max_tokens: int = 8, now: int | None = None, model: bytes | None = None
    ) -> Plan:
        """A route over the three nodes, or the one that serves everything."""
        await self.directory.look()
        offers = sorted(self.directory.offers(), key=lambda known: known.offer.record.span)
        stages = [
            StagePlan(known.offer, known.addresses, known.offer.record.span, known.certificate.record.not_after)
            for known in offers
            if model in (None, known.offer.record.model) and known.offer.record.state == 0
        ]
        sampling = SamplingRecord(0, 0, 1_000_000, 0, max_tokens, ())
        moment = int(time.time()) if now is None else now
        order = Order(LAYERS, prompt, sampling, Codec.F32, MAX_RESERVE)
        return make_plan(self.key, stages, order, Machine(lambda: moment))

    async def link(self, plan: Plan, place: int) -> Link:
        return await reach(self.network, plan.stages[place].key, plan.stages[place].addresses)

    def signed(self, plan: Plan, place: int, **changes: object) -> SignedRecord[Contract]:
        """The contract of a stage with other terms, signed all the same."""
        return sign(replace(plan.contracts[place].record, **changes), self.key)  # type: ignore[arg-type]

    async def open(self, plan: Plan, place: int, message: Open | None = None) -> Accept | SessionRefused:
        """Open one stage, and close it again if it accepted; what it answered."""
        message = message or plan.opens[place]
        link = await self.link(plan, place)
        with self.exchange.open_session(message.session, [plan.stages[place].key]) as incoming:
            link.send_nowait(message)
            answer = (await incoming.receive())[1]
            link.send_nowait(Close(message.session, 0, 4, 0, ""))
        assert isinstance(answer, Accept | SessionRefused)
        return answer

    @asynccontextmanager
    async def running(self, plan: Plan, ids: tuple[int, ...] = IDS) -> AsyncIterator["Session"]:
        """A generation whose stages have accepted and whose prompt was sent; the test does the rest."""
        links = [await self.link(plan, place) for place in range(len(plan.stages))]
        with self.exchange.open_session(plan.session, [stage.key for stage in plan.stages]) as incoming:
            for link, message in zip(links, plan.opens, strict=True):
                link.send_nowait(message)
            session = Session(plan, links, incoming)
            for _ in links:
                assert isinstance(await session.next(Accept), Accept)
            links[0].send_nowait(Prompt(plan.session, 0, pack_ids(ids)))
            yield session


@dataclass
class Session:
    plan: Plan
    links: list[Link]
    incoming: trio.MemoryReceiveChannel[tuple[PeerKey, SessionMessage | LinkDead]]
    came: list[SessionMessage] = field(default_factory=list)

    async def next(self, shape: type[SessionMessage]) -> SessionMessage:
        """The next message of a kind; what came before it is kept in `came`."""
        while True:
            _, message = await self.incoming.receive()
            assert not isinstance(message, LinkDead), message
            self.came.append(message)
            if isinstance(message, shape):
                return message

    def say(self, place: int, message: SessionMessage) -> None:
        self.links[place].send_nowait(message)

    def close(self, committed: int = 0) -> None:
        for link in self.links:
            link.send_nowait(Close(self.plan.session, 0, 4, committed, ""))


@asynccontextmanager
async def open_stranger(swarm: TinySwarm, key: PrivateKey) -> AsyncIterator[Stranger]:
    async with trio.open_nursery() as nursery:
        exchange = Exchange(nursery)
        async with swarm.network(key, exchange, new_greeting()) as network:
            directory = Directory(network, exchange, swarm.bootstrap)
            stranger = Stranger(key, network, exchange, directory)
            exchange.strays.append(lambda link, message: stranger.heard.append((link.peer, message)))
            yield stranger
        nursery.cancel_scope.cancel()


Change = Callable[[Stranger, Plan], Open]
