"""The DHT over real hosts on loopback: who provides a key is found by whoever knows one of its hosts."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from libp2p.transport.exceptions import OpenConnectionError
from multiaddr import Multiaddr
from trio.testing import MockClock

from p2pinfer.core.swarm.source import NOWHERE
from p2pinfer.core.values.keys import peer_name
from p2pinfer.overlay.libp2p import Listening, open_libp2p_network
from p2pinfer.overlay.libp2p.dht import ANYWHERE, of_one_peer, open_dht
from p2pinfer.overlay.libp2p.dht_door import LATE_S
from p2pinfer.overlay.libp2p.dht_frames import FIND_S
from p2pinfer.overlay.libp2p.dht_life import START_S
from p2pinfer.overlay.libp2p.dht_transport import GuardedTcp
from p2pinfer.overlay.libp2p.tcp import dial_tcp
from p2pinfer.overlay.limits import ALL_DIALS_BURST, HANDSHAKES_BURST
from p2pinfer.overlay.network import Network
from p2pinfer.overlay.pipe import Address
from tests.hostile.dht_strangers import KAD, WITHIN_S, adding, open_dht_stranger

from .conftest import KEYS, Collector

KEY = bytes(range(32))
RECORD_KEY = b"\x12\x20" + KEY
HONEST = f"/ip4/127.0.0.1/tcp/4001/p2p/{peer_name(KEYS[3].public)}"


@asynccontextmanager
async def open_peers(count: int) -> AsyncIterator[list[Network]]:
    """Peers each of which knows the first one's DHT host."""
    async with AsyncExitStack() as stack:
        peers = [
            await stack.enter_async_context(open_libp2p_network(key, Collector(), Listening(["/ip4/127.0.0.1/tcp/0"])))
            for key in KEYS[:count]
        ]
        await begun(peers[0])
        for peer in peers[1:]:
            await peer.meet(peers[0].directory_addresses(), NOWHERE)
        yield peers


async def begun(peer: Network) -> None:
    """Wait until a peer has its part of the DHT."""
    with trio.fail_after(START_S):
        while not peer.directory_addresses():
            await peer.meet((), NOWHERE)


async def test_a_provider_is_found_through_a_third_peer() -> None:
    async with open_peers(3) as (_, provider, seeker):
        await provider.provide(KEY)
        assert await seeker.find(KEY) == provider.addresses()


async def test_who_provides_a_key_itself_finds_others_who_do() -> None:
    async with open_peers(3) as (_, one, other):
        await one.provide(KEY)
        await other.provide(KEY)
        assert set(one.addresses()) <= set(await other.find(KEY))
        assert set(other.addresses()) <= set(await one.find(KEY))


async def test_a_record_that_a_stranger_left_here_hides_nobody() -> None:
    async with AsyncExitStack() as stack:
        third, here = [
            await stack.enter_async_context(open_dht(bytes([seed]) * 32, ["/ip4/127.0.0.1/tcp/0"], links))
            for seed, links in ((1, [Address(HONEST)]), (2, []))
        ]
        await here.meet(third.addresses())
        await third.provide(KEY)
        stranger = await stack.enter_async_context(open_dht_stranger(here.addresses()[0], KEYS[0]))
        await stranger.open(KAD)
        await stranger.send(adding(KEYS[0], RECORD_KEY, 1))
        here._dht.provider_store._forget(RECORD_KEY, str(third._host.get_id()))  # that it told us itself
        with trio.fail_after(WITHIN_S):
            while not here._dht.provider_store.get_providers(RECORD_KEY):
                await stranger.records.read()
        assert await here.find(KEY) == (HONEST,)


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
        await second.meet([gone, "no address", "/ip4/127.0.0.1/tcp/9"], NOWHERE)
        assert second.directory_addresses()


async def test_a_dead_provider_does_not_hold_a_look_up_up() -> None:
    """WIRE-18"""
    async with open_peers(3) as (first, alive, seeker):
        async with open_libp2p_network(KEYS[5], Collector(), Listening(["/ip4/127.0.0.1/tcp/0"])) as dying:
            await begun(dying)
            await dying.meet(first.directory_addresses(), NOWHERE)
            await dying.provide(KEY)
        await alive.provide(KEY)
        started = trio.current_time()
        assert await seeker.find(KEY) == alive.addresses()
        assert trio.current_time() - started < FIND_S + LATE_S + 0.5
        started = trio.current_time()
        assert await seeker.find(KEY) == alive.addresses()
        assert trio.current_time() - started < FIND_S / 2  # the dead one is not asked again


async def test_hosts_that_do_not_answer_take_no_memory_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2pinfer.overlay.libp2p.dht_lookup.MAX_SILENT", 2)
    async with open_dht(bytes(32), ["/ip4/127.0.0.1/tcp/0"], ()) as dht:
        peers = [PeerInfo(ID.from_pubkey(create_new_key_pair(key.seed).public_key), []) for key in KEYS[:3]]
        for peer in peers:
            await dht._ask_where(peer, [])
        assert [str(peer.peer_id) in dht._silent for peer in peers] == [False, True, True]


@pytest.mark.parametrize("place", ["/ip4/127.0.0.1/tcp/9", "/ip4/192.168.0.1/tcp/9", "/ip4/198.41.0.4/udp/9"])
async def test_the_dht_has_nobody_dial_what_is_near(place: str) -> None:
    """WIRE-19"""
    with pytest.raises(OpenConnectionError, match="not dialled"):
        await GuardedTcp(ANYWHERE).dial(Multiaddr(place))


async def test_what_a_peer_of_a_link_has_named_is_dialled(monkeypatch: pytest.MonkeyPatch) -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    place = f"/ip4/127.0.0.1/tcp/{listener.socket.getsockname()[1]}"
    transport = GuardedTcp(ANYWHERE)
    transport.introduce(f"{place}/p2p/{peer_name(KEYS[0].public)}")
    async with listener:
        await (await transport.dial(Multiaddr(place))).close()


async def test_the_dht_dials_few_a_second(mock_clock: MockClock) -> None:
    """WIRE-20"""
    transport, place = GuardedTcp(NOWHERE), Multiaddr("/ip4/127.0.0.1/tcp/9")
    for _ in range(ALL_DIALS_BURST):
        with pytest.raises(OpenConnectionError, match="nobody answers"):
            await transport.dial(place)
    with pytest.raises(OpenConnectionError, match="too many dials"):
        await transport.dial(place)


# Who may connect


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever connects comes from one network, which is not this machine."""
    monkeypatch.setattr("p2pinfer.overlay.libp2p.dht_transport.source_of", lambda text: ANYWHERE)


@asynccontextmanager
async def connected(count: int) -> AsyncIterator[list[trio.SocketStream]]:
    """So many connections to a DHT host, of which no more is heard."""
    async with open_dht(bytes(32), ["/ip4/127.0.0.1/tcp/0"], []) as dht, AsyncExitStack() as stack:
        yield [await stack.enter_async_context(await dial_tcp(dht.addresses()[0])) for _ in range(count)]


async def is_closed(stream: trio.SocketStream) -> bool:
    with trio.move_on_after(1.0):
        while await stream.receive_some():
            pass
        return True
    return False


async def test_one_network_holds_some_of_the_hosts_connections(
    elsewhere: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """WIRE-23: who came first gives way to the next."""
    monkeypatch.setattr("p2pinfer.overlay.libp2p.dht_transport.NETWORK_HANDSHAKES", 2)
    async with connected(3) as streams:
        assert [await is_closed(stream) for stream in streams] == [True, False, False]


async def test_one_network_knocks_so_often(elsewhere: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2pinfer.overlay.libp2p.knocks.HANDSHAKES_RATE", 0.0)
    async with connected(HANDSHAKES_BURST + 2) as streams:
        assert await is_closed(streams[-1])


def test_a_host_is_one_peers_whatever_it_says() -> None:
    names = [peer_name(key.public) for key in KEYS[:2]]
    addresses = [f"/ip4/198.41.0.{number}/tcp/1/p2p/{names[number % 2]}" for number in range(4)]
    assert of_one_peer(addresses) == addresses[::2]
    assert of_one_peer(["no address", *addresses]) == []
    assert of_one_peer([]) == []
