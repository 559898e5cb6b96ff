"""A network inside one process: for tests, for examples, and for trying things without sockets.

Same links, same rules, same tests as over libp2p; a `MemoryWorld` is what the peers of one network share.
"""

from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from math import inf
from typing import Final
from weakref import WeakKeyDictionary

import trio

from p2pinfer.core.swarm.source import NOWHERE, Source
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import LinkDead
from p2pinfer.core.values.keys import peer_name
from p2pinfer.core.values.units import PeerKey
from p2pinfer.overlay.greeting import Greeting, new_greeting
from p2pinfer.overlay.ground_network import open_ground_network
from p2pinfer.overlay.limits import MAX_LINKS
from p2pinfer.overlay.link import Receiver
from p2pinfer.overlay.network import Network
from p2pinfer.overlay.pipe import Address, Pipe, hear_nothing, peer_of
from p2pinfer.overlay.toll import Meter

BUFFER_BYTES: Final = 256 * 1024  # one way of a pipe holds so much before a writer waits, like a socket
READ_BYTES: Final = 64 * 1024  # the most one read returns


class MemoryWorld:
    """A world of peers: who can reach whom, and the directory of keys.

    latency_s: one way, of every pipe; a link is up after three round trips, as elsewhere
    rate:      bytes a second one way of a pipe carries; 0 is without bound
    uplink:    bytes a second that all pipes of a peer carry together, from it; 0 is without bound
    sources:   the networks that peers come from; who is not in it comes from none
    parts:     into which the world fell, by peer: nobody can dial into another
    neighbours: that each peer hears on its local network
    asleep_s:  how long each peer's machine has slept
    """

    def __init__(self, *, latency_s: float = 0.0, rate: float = 0.0, uplink: float = 0.0) -> None:
        self.latency_s = latency_s
        self.rate = rate
        self.uplink = uplink
        self._uplinks: dict[PeerKey, _Wire] = {}
        self.unreachable: set[PeerKey] = set()  # can dial, cannot be dialled
        self.grounds: dict[PeerKey, MemoryGround] = {}
        self.providers: dict[bytes, list[Address]] = {}
        self.sources: dict[PeerKey, Source] = {}
        self.parts: dict[PeerKey, int] = {}
        self.neighbours: dict[PeerKey, list[Address]] = {}
        self.asleep_s: dict[PeerKey, float] = {}
        self._pipes: WeakKeyDictionary[MemoryPipe, frozenset[PeerKey]] = WeakKeyDictionary()

    def open_pipe(self, near: PeerKey, far: PeerKey) -> tuple["MemoryPipe", "MemoryPipe"]:
        """Two ends of a pipe: the one `near` holds, and the one `far` holds."""
        there, back = (_Way(self.latency_s, self.rate, self._uplink_of(peer)) for peer in (near, far))
        pair = MemoryPipe(far, back, there), MemoryPipe(near, there, back)
        self._pipes.update(dict.fromkeys(pair, frozenset((near, far))))
        return pair

    def _uplink_of(self, peer: PeerKey) -> "_Wire":
        return self._uplinks.setdefault(peer, _Wire(self.uplink))

    def cut(self, one: PeerKey, other: PeerKey) -> None:
        """Break the pipes between two peers; what is under way is lost, and both know at once."""
        for pipe in self._between(one, other):
            pipe.cut()

    def mute(self, one: PeerKey, other: PeerKey) -> None:
        """Lose from now on whatever is put into the pipes between two peers, and tell neither."""
        for pipe in self._between(one, other):
            pipe.mute()

    def _between(self, one: PeerKey, other: PeerKey) -> list["MemoryPipe"]:
        return [pipe for pipe, ends in self._pipes.items() if ends == {one, other}]


@asynccontextmanager
async def open_memory_network(
    world: MemoryWorld,
    key: PeerKey,
    receiver: Receiver,
    greeting: Greeting | None = None,
    keep_s: float = inf,
    most: int = MAX_LINKS,
) -> AsyncIterator[Network]:
    """A peer of `world` for as long as the block lasts. keep_s, most: as of `open_ground_network`."""
    ground = MemoryGround(world, key)
    world.grounds[key] = ground
    try:
        async with open_ground_network(ground, receiver, greeting or new_greeting(), keep_s, most) as network:
            yield network
    finally:
        del world.grounds[key]


class MemoryGround:
    """`Ground` within a world."""

    def __init__(self, world: MemoryWorld, key: PeerKey) -> None:
        self._world = world
        self._key = key
        # A dialler does not wait for the accepting side, as the kernel's backlog lets it not wait
        self._knocks, self._heard = trio.open_memory_channel[Pipe](64)

    @property
    def key(self) -> PeerKey:
        return self._key

    def addresses(self) -> tuple[Address, ...]:
        return (Address(f"/memory/p2p/{peer_name(self._key)}"),)

    def told(self, to: Source) -> tuple[Address, ...]:
        return self.addresses()

    def may_tell(self, address: str, to: Source) -> bool:
        return True

    async def wait_moved(self) -> None:
        await trio.sleep_forever()

    def asleep_s(self) -> float:
        return self._world.asleep_s.get(self._key, 0.0)

    def check(self, address: str) -> None:
        peer_of(address)

    def may_dial(self, address: str, word: Source) -> bool:
        return address.startswith("/memory/")

    async def dial(self, address: Address, heard: Callable[[], None] = hear_nothing) -> Pipe:
        await trio.sleep(2 * self._world.latency_s)
        heard()
        peer, world = peer_of(address), self._world
        ground = world.grounds.get(peer)
        if ground is None or peer in world.unreachable or world.parts.get(peer) != world.parts.get(self._key):
            raise LinkDead(f"nobody answers at {address}", Code.UNREACHABLE)
        await trio.sleep(2 * self._world.latency_s)  # in which a key is proven, elsewhere
        near, far = world.open_pipe(self._key, peer)
        near.source, far.source = (world.sources.get(key, NOWHERE) for key in (peer, self._key))
        try:
            ground._knocks.send_nowait(far)
        except trio.WouldBlock:
            raise LinkDead(f"too many peers wait at {address}", Code.UNREACHABLE) from None
        return near

    async def accept(self) -> Pipe:
        return await self._heard.receive()

    def neighbours(self) -> tuple[Address, ...]:
        return tuple(self._world.neighbours.get(self._key, ()))

    def directory_addresses(self) -> tuple[Address, ...]:
        return ()  # the world's one directory needs no meeting

    async def meet(self, addresses: Sequence[str], word: Source) -> None:
        await trio.lowlevel.checkpoint()

    async def provide(self, key: bytes) -> None:
        providers = self._world.providers.setdefault(key, [])
        providers.extend(address for address in self.addresses() if address not in providers)
        await trio.lowlevel.checkpoint()

    async def find(self, key: bytes) -> tuple[Address, ...]:
        await trio.lowlevel.checkpoint()
        return tuple(self._world.providers.get(key, ()))


def memory_pipe_pair(
    near: PeerKey, far: PeerKey, latency_s: float = 0.0, rate: float = 0.0
) -> tuple["MemoryPipe", "MemoryPipe"]:
    """Two ends of a pipe: the one `near` holds, and the one `far` holds."""
    there, back = _Way(latency_s, rate, _Wire(0.0)), _Way(latency_s, rate, _Wire(0.0))
    return MemoryPipe(far, back, there), MemoryPipe(near, there, back)


class MemoryPipe:
    """`Pipe` in memory."""

    def __init__(self, peer: PeerKey, incoming: "_Way", outgoing: "_Way") -> None:
        self.source = NOWHERE
        self.meter = Meter()
        self._peer = peer
        self._incoming = incoming
        self._outgoing = outgoing

    @property
    def peer(self) -> PeerKey:
        return self._peer

    @property
    def unsent(self) -> int:
        return 0  # what is under way is the network's

    async def read(self) -> bytes:
        return await self._incoming.get()

    async def write(self, data: bytes) -> None:
        await self._outgoing.put(data)

    def write_nowait(self, data: bytes) -> bool:
        return self._outgoing.put_nowait(data)

    async def abort(self) -> None:
        """End after what was written has arrived; what was not read is lost, as with a socket."""
        self._outgoing.end()
        self._incoming.break_()

    def cut(self) -> None:
        self._outgoing.break_()
        self._incoming.break_()

    def mute(self) -> None:
        self._outgoing.is_lost = True


class _Wire:
    """Carries one portion after the other. rate: bytes a second; 0 is without bound"""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._free_s = 0.0

    def send(self, size: int, at_s: float) -> float:
        """Return when so many bytes have left that were put on it then."""
        self._free_s = max(self._free_s, at_s) + (size / self._rate if self._rate else 0.0)
        return self._free_s


class _Way:
    """Bytes one way, each portion not before its time. uplink: before the way's own wire; other ways share it"""

    def __init__(self, latency_s: float, rate: float, uplink: _Wire) -> None:
        self._latency_s = latency_s
        self._wires = uplink, _Wire(rate)
        self._portions: deque[tuple[float, bytes]] = deque()  # when it arrives, and what
        self._size = 0
        self._ended = False
        self._broken = False
        self.is_lost = False  # whatever is put from now on
        self._changed = trio.lowlevel.ParkingLot()

    async def put(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        for start in range(0, len(data), READ_BYTES):
            while not self.put_nowait(data[start : start + READ_BYTES]):
                await self._changed.park()

    def put_nowait(self, portion: bytes) -> bool:
        """Take the portion; False where the buffer is full."""
        if self._broken or self._ended:
            raise trio.BrokenResourceError("the other end is closed")
        if self._size >= BUFFER_BYTES:
            return False
        self._add(portion)
        return True

    def _add(self, portion: bytes) -> None:
        if self.is_lost:
            return
        sent_s = trio.current_time()
        for wire in self._wires:
            sent_s = wire.send(len(portion), sent_s)
        self._portions.append((sent_s + self._latency_s, portion))
        self._size += len(portion)
        self._changed.unpark_all()

    async def get(self) -> bytes:
        await trio.lowlevel.checkpoint()
        while not self._portions and not self._ended and not self._broken:
            await self._changed.park()
        if self._broken:
            raise trio.BrokenResourceError("this end is closed")
        if not self._portions:
            return b""
        await trio.sleep_until(self._portions[0][0])
        if self._broken:
            raise trio.BrokenResourceError("this end is closed")
        _, portion = self._portions.popleft()
        self._size -= len(portion)
        self._changed.unpark_all()
        return portion

    def end(self) -> None:
        """The writer is done."""
        self._ended = True
        self._changed.unpark_all()

    def break_(self) -> None:
        """The reader is gone."""
        self._broken = True
        self._portions.clear()
        self._size = 0
        self._changed.unpark_all()
