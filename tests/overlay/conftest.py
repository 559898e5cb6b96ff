"""Both networks behind one fixture: `peers` opens peers of one network, in memory or over libp2p."""

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, TypeVar

import pytest
import trio
from trio.testing import MockClock

from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import LinkDead, RemoteProtocolError
from p2pinfer.core.values.keys import PrivateKey
from p2pinfer.core.values.units import PeerKey
from p2pinfer.core.wire.frames import FrameDecoder, encode_frame
from p2pinfer.core.wire.messages import MAX_BODY, VERSION, Goodbye, Hello, Message
from p2pinfer.overlay.libp2p import Listening, open_libp2p_network
from p2pinfer.overlay.libp2p.ground import Libp2pGround
from p2pinfer.overlay.memory import MemoryGround, MemoryWorld, open_memory_network
from p2pinfer.overlay.network import Link, Network
from p2pinfer.overlay.pipe import Address, Ground, Pipe
from tests.overlay.sides import OpenSide, Side, open_one_side

T = TypeVar("T")

# By their order as bytes, so that a test may say who has the smaller key
KEYS = tuple(sorted((PrivateKey(bytes([seed]) * 32) for seed in range(1, 9)), key=lambda key: key.public))


class Collector:
    """A receiver that keeps what came."""

    def __init__(self) -> None:
        self.links: list[Link] = []
        self.closed: list[LinkDead] = []
        self.needs: set[PeerKey] = set()
        self._send, self._receive = trio.open_memory_channel[tuple[Link, Message]](math.inf)
        self._changed = trio.Event()
        self.refusal: RemoteProtocolError | None = None  # raised at the next message

    def on_link(self, link: Link) -> None:
        self.links.append(link)
        self._wake()

    def on_message(self, link: Link, message: Message) -> None:
        if self.refusal is not None:
            raise self.refusal
        self._send.send_nowait((link, message))

    def on_closed(self, link: Link, why: LinkDead) -> None:
        self.closed.append(why)
        self._wake()

    def needed(self) -> Collection[PeerKey]:
        return self.needs

    async def next(self) -> Message:
        return (await self._receive.receive())[1]

    def waiting(self) -> int:
        return self._send.statistics().current_buffer_used

    async def wait_links(self, count: int) -> None:
        while len(self.links) < count:
            await self._changed.wait()

    async def wait_closed(self, count: int = 1) -> LinkDead:
        while len(self.closed) < count:
            await self._changed.wait()
        return self.closed[-1]

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


class Peer:
    """One peer of a test: its network, and what came to it."""

    def __init__(self, network: Network, collector: Collector, scope: trio.CancelScope) -> None:
        self.network = network
        self.came = collector
        self._scope = scope

    @property
    def key(self) -> PeerKey:
        return self.network.key

    @property
    def address(self) -> str:
        return self.network.addresses()[0]

    async def dial(self, other: "Peer") -> Link:
        return await self.network.dial(other.address)

    def leave(self) -> None:
        """Close the network, as at the end of its block."""
        self._scope.cancel()


OpenPeer = Callable[[int], Awaitable[Peer]]
OpenRaw = Callable[[Peer], Awaitable[Pipe]]


@pytest.fixture(params=["memory", "libp2p"])
def ground_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def clock(ground_name: str) -> MockClock | None:
    """Time jumps where no socket is involved."""
    return MockClock(autojump_threshold=0) if ground_name == "memory" else None


@pytest.fixture
def world() -> MemoryWorld:
    """The memory network of one test."""
    return MemoryWorld()


@pytest.fixture
async def open_peer(ground_name: str, clock: MockClock | None, world: MemoryWorld, nursery: trio.Nursery) -> OpenPeer:
    """Opens the peer with the n-th smallest key, in a network of the test's own."""

    def open_network(number: int, collector: Collector) -> AbstractAsyncContextManager[Network]:
        key = KEYS[number]
        if ground_name == "memory":
            return open_memory_network(world, key.public, collector)
        return open_libp2p_network(key, collector, Listening(["/ip4/127.0.0.1/tcp/0"], dht=False))

    async def open_one(number: int) -> Peer:
        collector = Collector()
        keep = partial(keep_open, open_network(number, collector))
        network, scope = await nursery.start(keep)
        return Peer(network, collector, scope)

    return open_one


@pytest.fixture
async def open_side(world: MemoryWorld, nursery: trio.Nursery) -> OpenSide:
    """Opens a peer with a directory in memory, by a name; then bootstrap addresses, and who hears of what."""

    async def open_one(name: str, *bootstrap: str, **hearers: Any) -> Side:
        side, _ = await nursery.start(partial(keep_open, open_one_side(world, name, bootstrap, **hearers)))
        return side

    return open_one


@pytest.fixture
async def open_raw(ground_name: str, world: MemoryWorld, nursery: trio.Nursery) -> AsyncIterator[OpenRaw]:
    """Opens a pipe to a peer that speaks nothing by itself; its key is the greatest."""

    ground: Ground = MemoryGround(world, KEYS[7].public)
    if ground_name == "libp2p":
        ground = Libp2pGround(KEYS[7], nursery)
    pipes = []

    async def open_one(peer: Peer) -> Pipe:
        pipes.append(await ground.dial(Address(peer.address)))
        return pipes[-1]

    yield open_one
    for pipe in pipes:
        await pipe.abort()


async def say(pipe: Pipe, *messages: Message) -> None:
    await pipe.write(b"".join(map(encode_frame, messages)))


async def hear_goodbye(pipe: Pipe) -> Code:
    """Close the pipe when the other side says goodbye, as a peer should; the code it gave."""
    decoder = FrameDecoder()
    while data := await pipe.read():
        decoder.feed(data)
        for message in iter(decoder.next_message, None):
            if isinstance(message, Goodbye):
                await pipe.abort()
                return Code(message.code)
    raise AssertionError("no goodbye came")


HELLO = Hello(VERSION, 0, MAX_BODY, 0, bytes(16), "test")


async def keep_open(
    context: AbstractAsyncContextManager[T], *, task_status: trio.TaskStatus[tuple[T, trio.CancelScope]]
) -> None:
    with trio.CancelScope() as scope:
        async with context as opened:
            task_status.started((opened, scope))
            await trio.sleep_forever()
