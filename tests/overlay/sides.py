"""Peers of the memory network with a directory each, as nodes and clients have one."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio

from p2pinfer.core.records.offer import ServingState
from p2pinfer.core.swarm.acquaintances import Acquaintances
from p2pinfer.core.swarm.offers import KnownOffer
from p2pinfer.core.values.keys import PrivateKey, peer_name
from p2pinfer.core.values.units import ModelId, PeerKey, Roles, Span
from p2pinfer.overlay.directory import Directory
from p2pinfer.overlay.exchange import Exchange
from p2pinfer.overlay.first_peers import FirstPeers, open_first_peers
from p2pinfer.overlay.greeting import Greeting, new_greeting
from p2pinfer.overlay.machine import JumpingClock, Machine
from p2pinfer.overlay.memory import MemoryWorld, open_memory_network
from p2pinfer.overlay.network import Network
from p2pinfer.overlay.news import News
from p2pinfer.overlay.pipe import Address
from tests.core.paid_route import BOOT, NOW, certificate_for, key, offer_of

LIFE_S = 60.0
RENEW_S = 20.0
WHOLE = Span(0, 30)
AT_NOW = Machine(JumpingClock(NOW))  # where records of the tests are quite new


class Book(Acquaintances):
    """An address book without a disk: the clock that jumps does not wait for one."""

    async def load(self, _now: int) -> bool:
        await trio.lowlevel.checkpoint()
        return True

    async def save(self, _now: int) -> None:
        await trio.lowlevel.checkpoint()


class Near:
    """Neighbours that a test makes up."""

    def __init__(self) -> None:
        self.news = News()
        self.opened = 0
        self.heard: list[Address] = []

    def addresses(self) -> Sequence[Address]:
        return self.heard

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Near"]:
        self.opened += 1
        await trio.lowlevel.checkpoint()
        yield self

    def hear(self, address: str) -> None:
        self.heard.append(Address(address))
        self.news.tell()


class Side:
    """A peer with a directory."""

    def __init__(
        self,
        key_: PrivateKey,
        exchange: Exchange,
        network: Network,
        directory: Directory,
        world: MemoryWorld,
        scope: trio.CancelScope,
    ) -> None:
        self.key = key_
        self.exchange = exchange
        self.network = network
        self.directory = directory
        self._world = world
        self._scope = scope

    @property
    def address(self) -> str:
        return self.network.addresses()[0]

    def offer(self, span: Span = WHOLE, seq: int = 1, **changes: object) -> KnownOffer:
        roles = (Roles.HEAD if span.first == 0 else Roles.MIDDLE) | (Roles.TAIL if span.last == 30 else Roles.MIDDLE)
        offer = offer_of(self.key, span, roles, seq=seq, **changes)
        return KnownOffer(offer, certificate_for(self.key), (self.address,), trio.current_time())

    def serve(self, span: Span = WHOLE, seq: int = 1, **changes: object) -> KnownOffer:
        """Announce an offer."""
        known = self.offer(span, seq, **changes)
        self.directory.announce(known)
        return known

    async def keep_serving(self, span: Span = WHOLE, **changes: object) -> None:
        """A node's life: joins, serves, renews its offer, meets others and asks them for news; until cancelled."""
        async with trio.open_nursery() as nursery:
            self.serve(span, 1, state=ServingState.JOINING, **changes)
            nursery.start_soon(self.directory.keep_meeting)
            nursery.start_soon(self.directory.keep_pulling)
            seq = 1
            while True:
                await trio.sleep(RENEW_S if seq > 1 else 1.0)
                seq += 1
                self.serve(span, seq, **changes)

    def nodes(self, model: ModelId | None = None) -> set[PeerKey]:
        """Whose offers are known."""
        return {known.node for known in self.directory.offers(model)}

    def linked(self) -> set[PeerKey]:
        return {link.peer for link in self.network.links()}

    async def kill(self) -> None:
        """End it without a word, as a killed process ends: its links break, and nobody answers where it was."""
        self._world.unreachable.add(self.key.public)
        for link in self.network.links():
            self._world.cut(self.key.public, link.peer)
        self._scope.cancel()


OpenSide = Callable[..., Awaitable[Side]]


@asynccontextmanager
async def open_one_side(
    world: MemoryWorld, name: str, bootstrap: Sequence[str] = (), **hearers: Any
) -> AsyncIterator[Side]:
    """One peer for as long as the block lasts. hearers: as of `Directory`"""
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as inner:
            exchange = Exchange(inner)
            greeting = Greeting(BOOT, AT_NOW)  # the boot of its offers
            async with open_memory_network(world, key(name).public, exchange, greeting=greeting) as network:
                directory = Directory(network, exchange, bootstrap, **hearers)
                exchange.greeters.append(directory.greet)
                yield Side(key(name), exchange, network, directory, world, scope)
                inner.cancel_scope.cancel()


class Sought:
    """A peer of a test."""

    def __init__(self, network: Network, directory: Directory, first_peers: FirstPeers, read: list[str]) -> None:
        self.network = network
        self.directory = directory
        self.first_peers = first_peers
        self.read = read

    @property
    def linked(self) -> set[PeerKey]:
        return {link.peer for link in self.network.links()}


@asynccontextmanager
async def open_sought(
    world: MemoryWorld,
    key: PrivateKey,
    book: Book,
    *named: str,
    here: Sequence[str] = (),
    near: Near | None = None,
) -> AsyncIterator[Sought]:
    read: list[str] = []

    async def nodes_here() -> list[str]:
        await trio.lowlevel.checkpoint()
        read.extend(here)
        return list(here)

    async with trio.open_nursery() as nursery:
        exchange = Exchange(nursery)
        greeting = new_greeting(Machine(trio.current_time))
        async with open_memory_network(world, key.public, exchange, greeting) as network:
            directory = Directory(network, exchange, named)
            neighbours = near.open if near is not None else None
            async with open_first_peers(directory, book, here=nodes_here, neighbours=neighbours) as first_peers:
                yield Sought(network, directory, first_peers, read)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_plain(world: MemoryWorld, key: PrivateKey) -> AsyncIterator[Sought]:
    async with open_sought(world, key, Book()) as peer:
        yield peer


def address_of(key: PrivateKey) -> str:
    return f"/memory/p2p/{peer_name(key.public)}"


async def look_until_linked(we: Sought) -> None:
    while not we.linked:
        await we.directory.look()
        await trio.sleep(0.5)
