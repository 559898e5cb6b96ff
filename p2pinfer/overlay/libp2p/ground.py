"""Peers over TCP and noise: dialling, accepting, and the opening of the whole network."""

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Final

import trio

from p2pinfer.core.swarm.address import may_dial, may_tell
from p2pinfer.core.swarm.source import NOWHERE, Source
from p2pinfer.core.values.alternation import in_turn
from p2pinfer.core.values.errors import LinkDead, UsageError
from p2pinfer.core.values.keys import PrivateKey, peer_name, short_name
from p2pinfer.core.values.units import PeerKey
from p2pinfer.overlay.contained import Contained
from p2pinfer.overlay.crowd import Crowd
from p2pinfer.overlay.greeting import Greeting, new_greeting
from p2pinfer.overlay.ground_network import open_ground_network
from p2pinfer.overlay.libp2p.connection import Handshaker, YamuxPipe
from p2pinfer.overlay.libp2p.dht_door import DhtDoor
from p2pinfer.overlay.libp2p.knocks import Knocks
from p2pinfer.overlay.libp2p.tcp import KeptPorts, dial_tcp, ip_of, listen_again, listen_tcp, place_of, source_at
from p2pinfer.overlay.libp2p.whereabouts import Whereabouts
from p2pinfer.overlay.limits import DESCRIPTORS, MAX_HANDSHAKES, MAX_LINKS, NETWORK_HANDSHAKES, NETWORK_LINKS
from p2pinfer.overlay.link import Receiver
from p2pinfer.overlay.network import Network
from p2pinfer.overlay.pipe import Address, Pipe, hear_nothing, peer_of
from p2pinfer.overlay.sleep import asleep_s
from p2pinfer.system import descriptors

if TYPE_CHECKING:
    from p2pinfer.overlay.libp2p.mdns import Neighbourhood

MDNS_AGAIN_S: Final = 30.0  # before mDNS is tried again where it failed
MOVE_REST_S: Final = 5.0  # from one move of the DHT's host, or of mDNS, to the next: an interface may come and go
HANDSHAKE_S: Final = 10.0  # for a peer that connected to prove its key and open its stream

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Listening:
    """The places where a peer can be met, and the ways to find it there.

    listen:   multiaddrs such as /ip4/0.0.0.0/tcp/4001; none for a peer that only dials
    announce: multiaddrs others reach us at, where those of the listeners are not it (a forwarded port)
    ports:    what port 0 stood for before, and is to stand for again
    mdns:     find peers on the local network, and be found there; never over loopback
    dht:      have a part in the DHT, in a process of its own; never without listeners
    """

    listen: Sequence[str] = ()
    announce: Sequence[str] = ()
    ports: KeptPorts | None = None
    mdns: bool = True
    dht: bool = True


NOT_LISTENING: Final = Listening()


@asynccontextmanager
async def open_libp2p_network(
    key: PrivateKey,
    receiver: Receiver,
    listening: Listening = NOT_LISTENING,
    *,
    greeting: Greeting | None = None,
    keep_s: float = inf,
) -> AsyncIterator[Network]:
    """A peer of the world for as long as the block lasts. keep_s: as of `open_ground_network`

    Raises UsageError if an address is no address, or in use.
    """
    logging.getLogger("libp2p").setLevel(logging.CRITICAL)  # it logs peers' faults, of which we report our own way
    logging.getLogger("zeroconf").setLevel(logging.CRITICAL)  # a traceback for each address that goes, as in a car
    check_announced(listening.announce)
    async with AsyncExitStack() as stack:
        listeners = await _listen(listening.listen, listening.ports, stack)
        async with trio.open_nursery() as nursery:
            where = Whereabouts(peer_name(key.public), [place_of(one) for one in listeners], listening.announce)
            ground = Libp2pGround(key, nursery, where)
            if listeners:
                nursery.start_soon(ground.knocks.run)
                nursery.start_soon(partial(trio.serve_listeners, ground.shake_hands, listeners))
                nursery.start_soon(where.follow)
            if listening.dht and listeners:
                nursery.start_soon(ground.run_dht, ground.open_dht())
            if listening.mdns and listeners:
                nursery.start_soon(ground.run_mdns)
            most = max(NETWORK_LINKS, min(MAX_LINKS, descriptors(MAX_LINKS + DESCRIPTORS) - DESCRIPTORS))
            async with open_ground_network(ground, receiver, greeting or new_greeting(), keep_s, most) as network:
                yield network
            nursery.cancel_scope.cancel()


def check_addresses(addresses: Sequence[str]) -> None:
    """Raises UsageError where one is no address at which a peer could be dialled; asks nobody."""
    for address in addresses:
        peer_of(address)
        ip_of(address)


def check_listened(addresses: Sequence[str]) -> None:
    """Raises UsageError where one is no address to listen at; opens none."""
    for address in addresses:
        ip_of(address)


def check_announced(addresses: Sequence[str]) -> None:
    """Raises UsageError where one is no address that others would dial on anybody's word."""
    for address in addresses:
        if not may_dial(address, NOWHERE):
            hint = "give an IP address and a TCP port, such as /ip4/198.51.100.7/tcp/4001; names are not dialled"
            raise UsageError(f"nobody could dial {address!r:.200}, which is to be announced: {hint}")


async def _listen(
    addresses: Sequence[str], ports: KeptPorts | None, stack: AsyncExitStack
) -> list[trio.SocketListener]:
    """Listeners at all addresses; the stack closes them, those too that were open when one failed."""
    listeners: list[trio.SocketListener] = []
    for address in addresses:
        opened = await (listen_tcp(address) if ports is None else listen_again(address, ports))
        listeners += [await stack.enter_async_context(listener) for listener in opened]
    return listeners


def _with_any_port(addresses: Sequence[str]) -> list[str]:
    """Return where the DHT's host listens: beside the links', for the two cannot share a port."""
    return list(dict.fromkeys(address.rpartition("/")[0] + "/0" for address in addresses))


class Libp2pGround:
    """`Ground` over TCP. where: our own addresses; none for a peer that only dials."""

    def __init__(self, key: PrivateKey, nursery: trio.Nursery, where: Whereabouts | None = None) -> None:
        self._key = key.public
        self._nursery = nursery
        self._dht: DhtDoor | None = None
        self._neighbourhood: Neighbourhood | None = None
        self._where = where or Whereabouts(peer_name(key.public))
        self._handshaker = Handshaker(key)
        self._handshakes = Crowd(NETWORK_HANDSHAKES, MAX_HANDSHAKES)
        self.knocks = Knocks()
        self._accepted, self._to_accept = trio.open_memory_channel[Pipe](0)

    @property
    def key(self) -> PeerKey:
        return self._key

    def addresses(self) -> tuple[Address, ...]:
        return self._where.addresses()

    def told(self, to: Source) -> tuple[Address, ...]:
        return self._where.told(to)

    def may_tell(self, address: str, to: Source) -> bool:
        return may_tell(address, to)

    async def wait_moved(self) -> None:
        await self._where.wait_moved()

    def asleep_s(self) -> float:
        return asleep_s()

    def check(self, address: str) -> None:
        ip_of(address)

    def may_dial(self, address: str, word: Source) -> bool:
        return may_dial(address, word) and not self._where.is_ours(address)

    async def dial(self, address: Address, heard: Callable[[], None] = hear_nothing) -> Pipe:
        peer = peer_of(address)
        stream = await dial_tcp(address)
        heard()
        pipe = await self._handshaker.dial(stream, peer)
        self._nursery.start_soon(self._run, pipe)
        return pipe

    async def _run(self, pipe: YamuxPipe) -> None:
        with Contained(f"the connection to {short_name(pipe.peer)}"):
            await pipe.run()

    async def shake_hands(self, stream: trio.SocketStream) -> None:
        """Hand a stream on if its peer proves a key; forget it otherwise."""
        with Contained("a connection"):  # the listener closes it when this returns
            if (pipe := await self._proven(stream)) is not None:
                await self._accepted.send(pipe)
                await pipe.run()

    async def _proven(self, stream: trio.SocketStream) -> YamuxPipe | None:
        """A pipe to whoever connected, or None; strangers come to nothing all day."""
        source = source_at(stream)
        if source is None or not self.knocks.may_wait(source):
            return None
        with self._handshakes.entered(source), trio.move_on_after(HANDSHAKE_S):
            await self.knocks.wait(source)
            try:
                return await self._handshaker.accept(stream)
            except LinkDead:
                return None
        return None

    def open_dht(self) -> DhtDoor:
        """Our part of the DHT, to be run. Links need none, and nothing waits until it has begun."""
        self._dht = DhtDoor(_with_any_port(self._where.listening()), self._where.addresses())
        return self._dht

    async def run_dht(self, door: DhtDoor) -> None:
        """Have a part in the DHT as soon as there is a network, and anew wherever we move."""
        where = self._where
        while not where.listening():
            await where.wait_moved()
        async with trio.open_nursery() as nursery:
            said: tuple[Sequence[str], ...] = ()
            while True:
                while said == (places := (where.listening(), where.addresses())):
                    await where.wait_moved()
                door.move(_with_any_port(places[0]), where.addresses())
                if not said:
                    nursery.start_soon(door.run)
                said = places
                await trio.sleep(MOVE_REST_S)

    async def run_mdns(self) -> None:
        """Be found on the local network, where there is one. Who serves what is not said: whoever is there is asked."""
        while True:
            async with trio.open_nursery() as nursery:
                if local := self._where.local():
                    nursery.start_soon(self._be_on, local)
                await trio.sleep(MOVE_REST_S)
                while local == self._where.local():
                    await self._where.wait_moved()
                nursery.cancel_scope.cancel()

    async def _be_on(self, local: Sequence[Address]) -> None:
        """Try again later where there is no mDNS: of a network that comes up the address is there before the routes."""
        from p2pinfer.overlay.libp2p.mdns import open_mdns  # zeroconf takes a while to import, and few need it

        said = ""
        while True:
            with Contained("mDNS, by which peers on the local network are found,"):
                try:
                    async with open_mdns(local) as self._neighbourhood:
                        await trio.sleep_forever()
                except OSError as error:
                    why, said = said, str(error)
                    if why != said:
                        logger.warning("no mDNS, so peers of the local network are not found by themselves: %s", error)
            await trio.sleep(MDNS_AGAIN_S)

    async def accept(self) -> Pipe:
        return await self._to_accept.receive()

    def neighbours(self) -> tuple[Address, ...]:
        return self._neighbourhood.addresses() if self._neighbourhood is not None else ()

    def directory_addresses(self) -> tuple[Address, ...]:
        return self._dht.addresses() if self._dht is not None else ()

    async def meet(self, addresses: Sequence[str], word: Source) -> None:
        if self._dht is not None:
            await self._dht.meet(addresses, word)

    async def provide(self, key: bytes) -> None:
        if self._dht is not None:
            await self._dht.provide(key)

    async def find(self, key: bytes) -> tuple[Address, ...]:
        found = await self._dht.find(key) if self._dht is not None else ()
        # In turn: whoever is met is so many at most, and neither is to hide the other
        return tuple(dict.fromkeys(in_turn((self.neighbours(), found))))
