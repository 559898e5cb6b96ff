"""`Network` over any ground of pipes: links, attempts at more and admission, put together; the rest is the ground's."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from math import inf

import trio

from p2pinfer.core.swarm.source import Source
from p2pinfer.core.values.units import PeerKey
from p2pinfer.core.wire.messages import MAX_ADDRESSES
from p2pinfer.overlay.admission import Admission
from p2pinfer.overlay.attempts import Attempts
from p2pinfer.overlay.greeting import Greeting
from p2pinfer.overlay.limits import MAX_LINKS, MAX_MET
from p2pinfer.overlay.link import Link, Receiver
from p2pinfer.overlay.links import Links
from p2pinfer.overlay.machine import Machine
from p2pinfer.overlay.network import Network
from p2pinfer.overlay.news import News
from p2pinfer.overlay.pipe import Address, Ground, leads_to, peer_of
from p2pinfer.overlay.sleep import Sleep
from p2pinfer.overlay.word import Word


@asynccontextmanager
async def open_ground_network(
    ground: Ground, receiver: Receiver, greeting: Greeting, keep_s: float = inf, most: int = MAX_LINKS
) -> AsyncIterator[Network]:
    """Dial and accept for as long as the block lasts; then say goodbye to everybody.

    keep_s: close links that were not used for so long; what peers announce unasked is no use
    most:   links at once
    """
    async with trio.open_nursery() as nursery:
        links = Links(receiver, nursery, most, greeting.machine.lots)
        attempts = Attempts(ground, links, greeting, nursery)
        nursery.start_soon(Admission(ground, links, attempts, greeting).accept_all, nursery)
        nursery.start_soon(links.commons.toll.run)
        nursery.start_soon(links.commons.uplink.run)
        network = GroundNetwork(ground, links, attempts, greeting.machine)
        nursery.start_soon(network.keep_telling_moves)
        nursery.start_soon(links.check_when_moved, network.wait_moved)
        if keep_s < inf:
            nursery.start_soon(links.close_unused, keep_s)
        try:
            yield network
        finally:
            with trio.CancelScope(shield=True):
                await links.close_all()
            nursery.cancel_scope.cancel()


class GroundNetwork:
    """One peer's `Network`."""

    def __init__(self, ground: Ground, links: Links, attempts: Attempts, machine: Machine) -> None:
        self.machine = machine
        self.turn = links.commons.turn
        self._ground = ground
        self._links = links
        self._attempts = attempts
        self._moves = News()
        self._sleep = Sleep(self.asleep_s)

    @property
    def key(self) -> PeerKey:
        return self._ground.key

    def addresses(self) -> tuple[Address, ...]:
        return self._ground.addresses()

    def told(self, to: Source) -> tuple[Address, ...]:
        return self._ground.told(to)[:MAX_ADDRESSES]

    def may_tell(self, address: str, to: Source) -> bool:
        return self._ground.may_tell(address, to)

    async def wait_moved(self) -> None:
        await self._moves.coming.wait()

    def asleep_s(self) -> float:
        return self._ground.asleep_s()

    async def keep_telling_moves(self) -> None:
        """Tell those who wait that our addresses have changed, until cancelled."""
        while True:
            await self._ground.wait_moved()
            self._moves.tell()

    def link(self, peer: PeerKey) -> Link | None:
        return self._links.link(peer)

    def links(self) -> tuple[Link, ...]:
        if self._sleep.passed_s():  # seen here, for a timer of its own would wake every process that idles
            self._moves.tell()
        return self._links.links()

    async def dial(self, address: str) -> Link:
        peer = peer_of(address)
        self._ground.check(address)
        return await self._attempts.reach(peer, (Address(address),), None)

    def due_s(self, peer: PeerKey) -> float:
        return self._attempts.due_s(peer)

    def may_dial(self, address: str, word: Source) -> bool:
        return self._ground.may_dial(address, word)

    def dialable(self, peer: PeerKey, addresses: Sequence[str], word: Source) -> tuple[Address, ...]:
        given = dict.fromkeys(addresses)  # one that is named twice is dialled once
        return tuple(Address(one) for one in given if self.may_dial(one, word) and leads_to(one) == peer)

    async def reach(self, peer: PeerKey, addresses: Sequence[str], word: Word) -> Link:
        return await self._attempts.reach(peer, self.dialable(peer, addresses, word.source), word)

    def neighbours(self) -> tuple[Address, ...]:
        return self._ground.neighbours()

    def directory_addresses(self) -> tuple[Address, ...]:
        return self._ground.directory_addresses()

    async def meet(self, addresses: Sequence[str], word: Source) -> None:
        dialable = [address for address in addresses if self.may_dial(address, word)]
        await self._ground.meet(dialable[:MAX_MET], word)

    async def provide(self, key: bytes) -> None:
        await self._ground.provide(key)

    async def find(self, key: bytes) -> tuple[Address, ...]:
        return await self._ground.find(key)
