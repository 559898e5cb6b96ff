"""The DHT over real hosts on loopback: who provides a key is found by whoever knows one of its hosts."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import trio

from p2pinfer.overlay.libp2p import open_libp2p_network
from p2pinfer.overlay.libp2p.dht import FIND_S
from p2pinfer.overlay.network import Network

from .conftest import KEYS, Collector

KEY = bytes(range(32))


@asynccontextmanager
async def open_peers(count: int) -> AsyncIterator[list[Network]]:
    """Peers each of which knows the first one's DHT host."""
    async with AsyncExitStack() as stack:
        peers = [
            await stack.enter_async_context(open_libp2p_network(key, Collector(), listen=["/ip4/127.0.0.1/tcp/0"]))
            for key in KEYS[:count]
        ]
        for peer in peers[1:]:
            await peer.meet(peers[0].directory_addresses())
        yield peers


async def test_a_provider_is_found_through_a_third_peer() -> None:
    async with open_peers(3) as (_, provider, seeker):
        await provider.provide(KEY)
        assert await seeker.find(KEY) == provider.addresses()


async def test_a_key_that_nobody_provides_has_no_addresses() -> None:
    async with open_peers(2) as (_, seeker):
        assert await seeker.find(KEY) == ()


async def test_a_peer_that_only_dials_has_no_part_in_the_dht() -> None:
    async with open_libp2p_network(KEYS[0], Collector()) as network:
        await network.provide(KEY)
        assert await network.find(KEY) == ()
        assert network.directory_addresses() == ()


async def test_meeting_somebody_who_is_not_there_does_no_harm() -> None:
    async with open_peers(2) as (first, second):
        gone = first.directory_addresses()[0].replace("/tcp/", "/tcp/1")[:-1]
        await second.meet([gone, "no address", "/ip4/127.0.0.1/tcp/9"])


async def test_a_dead_provider_does_not_hold_a_look_up_up() -> None:
    """WIRE-18"""
    async with open_peers(3) as (first, alive, seeker):
        async with open_libp2p_network(KEYS[5], Collector(), listen=["/ip4/127.0.0.1/tcp/0"]) as dying:
            await dying.meet(first.directory_addresses())
            await dying.provide(KEY)
        await alive.provide(KEY)
        started = trio.current_time()
        assert await seeker.find(KEY) == alive.addresses()
        assert trio.current_time() - started < FIND_S + 0.5
        started = trio.current_time()
        assert await seeker.find(KEY) == alive.addresses()
        assert trio.current_time() - started < FIND_S / 2  # the dead one is not asked again
