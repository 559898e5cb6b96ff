"""Nodes that place themselves on the memory network, with real directories and no engines: loading takes a while."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count

import trio

from p2pinfer.core.models.manifest import EMBEDDING, HEAD, layer_file
from p2pinfer.core.records.offer import ServingState, Speed
from p2pinfer.core.swarm.offers import KnownOffer
from p2pinfer.core.swarm.placement import gaps
from p2pinfer.core.values.keys import PrivateKey
from p2pinfer.core.values.units import Numerics, Roles, Span
from p2pinfer.disk.store import StoredModel
from p2pinfer.node.placement import Placement
from p2pinfer.node.settings import Serve
from p2pinfer.overlay.directory import Directory
from p2pinfer.overlay.exchange import Exchange
from p2pinfer.overlay.memory import MemoryWorld, open_memory_network
from p2pinfer.overlay.network import Network
from tests.core.paid_route import certificate_for, key, offer_of

LOAD_S = 5.0
RENEW_S = 20.0
MEGABYTE = 1_000_000


def room_for(model: StoredModel, length: int, numerics: str = "f32-1") -> Serve:
    """Settings of a node that has memory for so many layers, in f32; the model's layers are of some 0.5 MB."""
    manifest = model.manifest
    sizes = {file.name: 2 * file.size for file in manifest.files}
    ends = max(sizes[EMBEDDING], sizes[HEAD])
    megabytes = -int(-(ends + length * sizes[layer_file(0)]) // (0.7 * MEGABYTE))
    return Serve(model=manifest.name, numerics=numerics, memory_mb=megabytes)


@dataclass(eq=False)
class Lodger:
    """A node. held: the layers that it serves."""

    key: PrivateKey
    network: Network
    directory: Directory
    model: StoredModel
    numerics: Numerics = Numerics.F32_1
    held: Span | None = None
    moves: list[Span] = field(default_factory=list)
    _state: ServingState = ServingState.JOINING
    _said: Span | None = None
    _seq: "count[int]" = field(default_factory=lambda: count(1))

    async def lodge(self, serve: Serve, at: Span | None = None) -> None:
        """Choose, load, serve, and move for ever. at: it serves these layers already"""
        placing = Placement(self.directory, self.network, self.model, serve)
        span = at or await placing.choose(self.join)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._renew)
            while True:
                await trio.sleep(0 if span is at else LOAD_S)
                self.held = span
                await self.stay()
                span = await placing.wait_move(span, self, self._look)
                self.held = None
                self.moves.append(span)

    async def join(self, span: Span) -> None:
        self._state, self._said = ServingState.JOINING, span
        self._tell()

    async def stay(self) -> None:
        self._state, self._said = ServingState.SERVING, self.held
        self._tell()

    async def _look(self, span: Span) -> None:
        assert span.last <= self.model.manifest.layers
        await trio.lowlevel.checkpoint()

    async def _renew(self) -> None:
        while True:
            await trio.sleep(RENEW_S)
            self._tell()

    def _tell(self) -> None:
        assert self._said is not None
        speed = Speed(2_000, 40, 0) if self._state is ServingState.SERVING else Speed(0, 0, 0)
        self.directory.announce(
            known_offer(
                self.key, self.model, self._said, self.network.addresses(), state=self._state, speed=speed,
                seq=next(self._seq), numerics=self.numerics,
            )
        )  # fmt: skip


def known_offer(
    who: PrivateKey, model: StoredModel, span: Span, addresses: Sequence[str], **changes: object
) -> KnownOffer:
    offer = offer_of(who, span, Roles.MIDDLE, model=model.id, issued=int(time.time()), **changes)
    return KnownOffer(offer, certificate_for(who), tuple(addresses), trio.current_time())


class Street:
    """A memory network of lodgers who met through one peer."""

    def __init__(self, model: StoredModel) -> None:
        self.model = model
        self.world = MemoryWorld(latency_s=0.02)
        self.lodgers: list[Lodger] = []
        self.bootstrap: tuple[str, ...] = ()

    @property
    def holes(self) -> list[Span]:
        held = [lodger.held for lodger in self.lodgers if lodger.held is not None]
        return gaps(self.model.manifest.layers, held)

    @asynccontextmanager
    async def lodger(self, name: str, numerics: Numerics = Numerics.F32_1) -> AsyncIterator[Lodger]:
        """A peer of the network while the block lasts."""
        who = key(name)
        async with trio.open_nursery() as nursery:
            exchange = Exchange(nursery)
            async with open_memory_network(self.world, who.public, exchange) as network:
                directory = Directory(network, exchange, self.bootstrap)
                exchange.greeters.append(directory.greet)
                nursery.start_soon(directory.keep_meeting)
                yield Lodger(who, network, directory, self.model, numerics)
            nursery.cancel_scope.cancel()

    async def live(self, name: str, serve: Serve, at: Span | None = None, wait_s: float = 0.0) -> None:
        """A node for ever, from `wait_s` on."""
        await trio.sleep(wait_s)
        async with self.lodger(name) as lodger:
            self.lodgers.append(lodger)
            try:
                await lodger.lodge(serve, at)
            finally:
                self.lodgers.remove(lodger)


@asynccontextmanager
async def open_street(model: StoredModel) -> AsyncIterator[Street]:
    street = Street(model)
    async with street.lodger("bootstrap") as first:
        street.bootstrap = first.network.addresses()
        yield street
