"""Where strangers and a node meet: real libp2p on loopback, or memory. Both look the same to who attacks."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

import trio

from p2pinfer.core.values.keys import PrivateKey
from p2pinfer.overlay.greeting import Greeting
from p2pinfer.overlay.libp2p import Listening, open_libp2p_network
from p2pinfer.overlay.libp2p.ground import Libp2pGround
from p2pinfer.overlay.link import Receiver
from p2pinfer.overlay.memory import MemoryGround
from p2pinfer.overlay.network import Network
from p2pinfer.overlay.pipe import Address, Pipe
from tests.swarms import TinySwarm

ANY_PORT = "/ip4/127.0.0.1/tcp/0"


class Arena(Protocol):
    """address: the node under attack."""

    address: str

    def network(self, key: PrivateKey, receiver: Receiver, greeting: Greeting) -> AbstractAsyncContextManager[Network]:
        """A stranger's own network."""

    def pipes(self, key: PrivateKey) -> "AbstractAsyncContextManager[Pipes]":
        """Raw streams under a stranger's key: whoever opens one says what it likes on it."""


class Pipes:
    """Streams to the node, each closed at the end of the block they belong to."""

    def __init__(self, arena: "LiveArena | MemoryArena", ground: Libp2pGround | MemoryGround) -> None:
        self._address = Address(arena.address)
        self._ground = ground
        self._opened: list[Pipe] = []

    async def open(self) -> Pipe:
        self._opened.append(await self._ground.dial(self._address))
        return self._opened[-1]

    async def abort(self) -> None:
        for pipe in self._opened:
            await pipe.abort()


class LiveArena:
    """A node that is a process of its own."""

    def __init__(self, address: str) -> None:
        self.address = address

    def network(self, key: PrivateKey, receiver: Receiver, greeting: Greeting) -> AbstractAsyncContextManager[Network]:
        return open_libp2p_network(key, receiver, Listening([ANY_PORT], mdns=False, dht=False), greeting=greeting)

    @asynccontextmanager
    async def pipes(self, key: PrivateKey) -> AsyncIterator[Pipes]:
        async with trio.open_nursery() as nursery:
            pipes = Pipes(self, Libp2pGround(key, nursery))
            try:
                yield pipes
            finally:
                with trio.CancelScope(shield=True):
                    await pipes.abort()
                nursery.cancel_scope.cancel()


class MemoryArena:
    """A node of a swarm in this process."""

    def __init__(self, swarm: TinySwarm) -> None:
        self._world = swarm.world
        self._swarm = swarm
        self.address = swarm.nodes[0].addresses[0]

    def network(self, key: PrivateKey, receiver: Receiver, greeting: Greeting) -> AbstractAsyncContextManager[Network]:
        return self._swarm.network(key, receiver, greeting)  # type: ignore[arg-type]

    @asynccontextmanager
    async def pipes(self, key: PrivateKey) -> AsyncIterator[Pipes]:
        pipes = Pipes(self, MemoryGround(self._world, key.public))
        try:
            yield pipes
        finally:
            with trio.CancelScope(shield=True):
                await pipes.abort()
