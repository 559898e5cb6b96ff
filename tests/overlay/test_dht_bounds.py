"""What strangers may take of a DHT host, over a connection of their own to a real one on loopback."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trio
from libp2p.kad_dht.common import BUCKET_SIZE
from libp2p.peer.id import ID
from libp2p.peer.peerdata import PeerData
from libp2p.peer.peerinfo import PeerInfo
from multiaddr import Multiaddr
from varint import encode

from p2pinfer.core.swarm.source import NOWHERE, Source
from p2pinfer.core.values.keys import PEER_ID_PREFIX
from p2pinfer.core.wire.messages import MAX_ADDRESSES
from p2pinfer.overlay.libp2p import dht_bounds
from p2pinfer.overlay.libp2p.dht import ANYWHERE, Dht, open_dht
from p2pinfer.overlay.libp2p.dht_bounds import BoundedProviders, forget_some
from p2pinfer.overlay.libp2p.yamux import FIRST_WINDOW, Flag, Type, encode_header
from p2pinfer.overlay.limits import DHT_ASK_BYTES, DHT_STREAMS, KEY_PROVIDERS
from tests.hostile.dht_strangers import KAD, WITHIN_S, DhtStranger, adding, open_dht_stranger

from .conftest import KEYS

KEY = b"\x12\x20" + bytes(32)
PLACE = Multiaddr("/ip4/198.51.100.7/tcp/4001")


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[Dht, DhtStranger]]:
    async with AsyncExitStack() as stack:
        dht = await stack.enter_async_context(open_dht(bytes(32), ["/ip4/127.0.0.1/tcp/0"], []))
        yield dht, await stack.enter_async_context(open_dht_stranger(dht.addresses()[0], KEYS[0]))


async def test_a_stream_that_nobody_reads_ends_its_connection_beyond_its_window() -> None:
    async with connected() as (_, stranger):
        await stranger.open("/no/such/protocol")
        await stranger.send(bytes([255]) * (FIRST_WINDOW + 1))
        assert await stranger.is_closed()


async def test_streams_that_nobody_reads_are_counted_together() -> None:
    async with connected() as (_, stranger):
        for _ in range(3):
            await stranger.open(KAD)
            await stranger.send(b"\xff\xff" + bytes(FIRST_WINDOW // 2))
        assert await stranger.is_closed()


async def test_a_connection_has_so_many_streams() -> None:
    async with connected() as (_, stranger):
        for number in range(1, 2 * DHT_STREAMS + 2, 2):
            await stranger.write(encode_header(Type.WINDOW_UPDATE, Flag.SYN, number, 0))
        assert await stranger.is_closed()


async def test_a_long_name_of_a_protocol_is_not_read() -> None:
    async with connected() as (_, stranger):
        await stranger.open(KAD[:-5] + "x" * 60)
        await stranger.send(bytes(encode(1 << 20)) + b"x" * FIRST_WINDOW)
        assert await stranger.is_closed()


async def test_a_long_message_is_refused_before_it_has_come() -> None:
    async with connected() as (_, stranger):
        await stranger.open(KAD)
        with trio.fail_after(WITHIN_S):
            await stranger.send(bytes(encode(DHT_ASK_BYTES + 1)))
            await stranger.wait_reset()


async def test_a_stream_that_says_nothing_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dht_bounds, "DHT_STREAM_S", 0.1)
    async with connected() as (_, stranger):
        await stranger.open(KAD)
        with trio.fail_after(WITHIN_S):
            await stranger.wait_reset()


async def test_a_provider_has_few_addresses() -> None:
    async with connected() as (dht, stranger):
        await stranger.open(KAD)
        await stranger.send(adding(KEYS[0], KEY, 1000))
        with trio.fail_after(WITHIN_S):
            while not (found := dht._dht.provider_store.get_providers(KEY)):
                await stranger.records.read()
        assert [len(provider.addrs) for provider in found] == [MAX_ADDRESSES]


def test_a_peer_has_few_addresses_and_none_that_is_long() -> None:
    dht_bounds.bound_libp2p()
    peer, long = PeerData(), Multiaddr("/dns4/example.org/tcp/1" * 20)
    places = [Multiaddr(f"/ip4/198.51.100.7/tcp/{port}") for port in range(1, 1001)]
    peer.add_addrs([*places, long, *places])
    assert peer.get_addrs() == places[-MAX_ADDRESSES:]


class FakeHost:
    def get_id(self) -> ID:
        return id_of(999)


def id_of(number: int) -> ID:
    return ID(PEER_ID_PREFIX + number.to_bytes(32, "big"))


@pytest.mark.parametrize(
    ("source_of", "left"),
    [
        (lambda number: ANYWHERE, [8, 9]),  # a network has so many
        (lambda number: Source(str(number), ANYWHERE.scope), [5, 6, 7, 8, 9]),  # and so have all
        (lambda number: NOWHERE, [5, 6, 7, 8, 9]),  # peers on this machine count for these alone
        (lambda number: ANYWHERE if number > 1 else Source("other", ANYWHERE.scope), [0, 1, 8, 9]),
    ],
)
def test_the_oldest_records_give_way(
    source_of: Callable[[int], Source], left: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = {id_of(number): source_of(number) for number in range(10)}
    monkeypatch.setattr(dht_bounds, "_source_of", lambda host, peer: sources[peer])
    monkeypatch.setattr(dht_bounds, "NETWORK_PROVIDERS", 2)
    monkeypatch.setattr(dht_bounds, "ALL_PROVIDERS", 5)
    store = BoundedProviders(FakeHost(), None)
    for number in range(10):
        store.add_provider(number.to_bytes(2, "big"), PeerInfo(id_of(number), [PLACE]))
    assert sorted(store.providers) == [number.to_bytes(2, "big") for number in left]


@pytest.mark.parametrize(
    ("source_of", "left"),
    [
        (lambda number: ANYWHERE if number else Source("other", ANYWHERE.scope), {0, 8, 9}),  # its own give way
        (lambda number: Source(f"2a00:0:0:{number:x}::/64", ANYWHERE.scope) if number else ANYWHERE, {0, 8, 9}),
        (lambda number: Source(str(number), ANYWHERE.scope), {7, 8, 9}),
        (lambda number: NOWHERE, {7, 8, 9}),
    ],
    ids=["one network", "one site", "many", "here"],
)
def test_of_one_key_newcomers_take_the_place_of_those_of_whom_there_are_most(
    source_of: Callable[[int], Source], left: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = {id_of(number): source_of(number) for number in range(10)}
    monkeypatch.setattr(dht_bounds, "_source_of", lambda host, peer: sources[peer])
    monkeypatch.setattr(dht_bounds, "KEY_PROVIDERS", 4)
    store = BoundedProviders(FakeHost(), None)
    store.add_provider(KEY, PeerInfo(id_of(999), [PLACE]))  # our own, which never does
    for number in range(10):
        store.add_provider(KEY, PeerInfo(id_of(number), [PLACE]))
    assert {one.peer_id for one in store.get_providers(KEY)} == {id_of(number) for number in (*left, 999)}


def test_a_record_that_is_told_again_is_as_new_as_any(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dht_bounds, "_source_of", lambda host, peer: NOWHERE)
    monkeypatch.setattr(dht_bounds, "KEY_PROVIDERS", 3)
    store = BoundedProviders(FakeHost(), None)
    for number in (0, 1, 2, 0, 3):
        store.add_provider(KEY, PeerInfo(id_of(number), [PLACE]))
    assert [one.peer_id for one in store.get_providers(KEY)] == [id_of(2), id_of(0), id_of(3)]


def test_libp2p_keeps_as_many_records_of_a_key() -> None:
    assert KEY_PROVIDERS <= BUCKET_SIZE


async def test_peers_that_are_gone_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dht_bounds, "MAX_STRANGERS", 2)
    async with connected() as (dht, stranger):
        await stranger.open(KAD)
        known = dht._host.get_peerstore()
        for number in range(5):
            known.add_addrs(id_of(number), [PLACE], 60)
        forget_some(dht._host, dht._dht)
        assert {id_of(number) for number in range(5)} & set(known.peer_ids()) == {id_of(3), id_of(4)}
        assert dht._host.get_id() in known.peer_ids()
