"""The bounds on strangers at a DHT host, by connection, by network and in all (protocols/wire.md, 7.1).

libp2p's own bounds are for machines with gigabytes to spare, or are none: a message may have 4 MiB, a protocol's name
any length; a connection that sends beyond its window goes on; a provider is kept with all its addresses for two days,
and whoever ever connected for ever. With bounds, the common ways to fill the DHT's process do not cost even its end,
which the system and the node see to (`dht_process.py`, `dht_life.py`).
"""

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import trio
from libp2p.abc import IHost, INetStream
from libp2p.exceptions import BaseLibp2pError
from libp2p.io.abc import Reader
from libp2p.kad_dht import kad_dht, peer_routing, provider_store
from libp2p.kad_dht.common import PROTOCOL_ID
from libp2p.kad_dht.kad_dht import KadDHT
from libp2p.kad_dht.provider_store import ProviderStore
from libp2p.kad_dht.utils import sort_peer_ids_by_distance
from libp2p.peer.id import ID
from libp2p.peer.peerdata import PeerData
from libp2p.peer.peerinfo import PeerInfo
from libp2p.stream_muxer.yamux import yamux
from libp2p.stream_muxer.yamux.yamux import YamuxStream
from libp2p.utils import varint
from multiaddr import Multiaddr

from p2pinfer.core.swarm.source import NOWHERE, Scope, Source, site_of, source_of
from p2pinfer.overlay.libp2p.dht_lookup import MAX_HOSTS, SilentHosts, Walk, few, taken_in_turn
from p2pinfer.overlay.libp2p.multistream import MAX_LINE
from p2pinfer.overlay.libp2p.yamux import FIRST_WINDOW
from p2pinfer.overlay.limits import (
    ALL_PROVIDERS,
    DHT_ANSWER_BYTES,
    DHT_ASK_BYTES,
    DHT_STREAM_S,
    DHT_STREAMS,
    DHT_UNREAD_BYTES,
    KEY_PROVIDERS,
    NETWORK_PROVIDERS,
)

MAX_STRANGERS: Final = 1_000  # peers that are neither connected nor in the table
TOLD_HOSTS: Final = 20  # nearest to a key, that are told who provides it: some of them go before they are told again
TELL_S: Final = 5.0  # for hosts to answer who are to be told that we provide a key, and to be told
FORGET_STRANGERS_S: Final = 60.0  # between looks for more: by then ALL_HANDSHAKES_RATE lets a few MB of them come


def bound_libp2p() -> None:
    """Put our bounds in place of libp2p's, in this process."""
    kad_dht.MAX_DHT_MESSAGE_SIZE = DHT_ASK_BYTES
    peer_routing.MAX_DHT_MESSAGE_SIZE = provider_store.MAX_DHT_MESSAGE_SIZE = DHT_ANSWER_BYTES
    varint.read_varint_prefixed_bytes = _read_line  # of multistream-select
    varint.read_length_prefixed_protobuf.__defaults__ = (True, DHT_ASK_BYTES)  # of identify
    yamux.MAX_WINDOW_SIZE = FIRST_WINDOW
    yamux.YamuxStream = BoundedStream
    PeerData.add_addrs = _add_addresses


async def _read_line(reader: Reader) -> bytes:
    line: bytes = await varint.read_varint_prefixed_bytes_limited(reader, MAX_LINE)
    return line


def _add_addresses(data: PeerData, addresses: Sequence[Multiaddr]) -> None:
    data.addrs = few(dict.fromkeys((*data.addrs, *addresses)))


class Overrun(trio.TooSlowError):
    """A peer sent more than it may; yamux ends a connection for this error, and goes on after most others."""


class BoundedStream(YamuxStream):  # type: ignore[misc]  # libp2p is untyped to us
    """A stream whose connection ends if the peer sends beyond its window, or opens or leaves too much at once."""

    def __init__(self, stream_id: int, conn: yamux.Yamux, is_initiator: bool) -> None:
        if not is_initiator and len(conn.streams) >= DHT_STREAMS:
            raise Overrun
        self._left = 0
        super().__init__(stream_id, conn, is_initiator)

    @property
    def recv_window(self) -> int:
        return self._left

    @recv_window.setter
    def recv_window(self, left: int) -> None:
        came, self._left = left < self._left, left
        if left < 0 or (came and sum(map(len, self.conn.stream_buffers.values())) > DHT_UNREAD_BYTES):
            raise Overrun

    async def read(self, n: int | None = -1) -> bytes:
        """As libp2p's; but where that reads to the end, however far it is, no more than an answer has."""
        data: bytes = await super().read(DHT_ANSWER_BYTES if n is None or n < 0 else n)
        return data


class BoundedProviders(ProviderStore):  # type: ignore[misc]  # libp2p is untyped to us
    """The records of who provides what: so many of a key, of a network and in all, of which the oldest gives way.

    And look-ups, for which they are one host's word.
    """

    def __init__(self, host: IHost, routing: peer_routing.PeerRouting) -> None:
        super().__init__(host, routing)
        self._sources: dict[tuple[bytes, str], Source] = {}  # in the order they came
        self._silent = SilentHosts()

    async def find_providers(self, key: bytes, count: int = 20) -> list[PeerInfo]:
        """As libp2p's, which answers from the records here alone where there are any (`dht_lookup.py`)."""
        walk = Walk(self.host, key, self._silent)
        await walk.run(self._hosts_near(key))
        return taken_in_turn([self.get_providers(key), *walk.told], count)

    async def provide(self, key: bytes) -> bool:
        """As libp2p's, which tells nobody before all silent hosts had ten seconds each to answer."""
        self.providing_keys.add(key)
        self.add_provider(key, PeerInfo(self.local_peer_id, self.host.get_addrs()))
        walk = Walk(self.host, key, self._silent, TOLD_HOSTS)
        await walk.run(self._hosts_near(key), TELL_S)
        async with trio.open_nursery() as nursery:
            for host in sort_peer_ids_by_distance(key, walk.answered):
                nursery.start_soon(self._tell, host, key)
        return bool(walk.answered)

    async def _tell(self, host: ID, key: bytes) -> None:
        with trio.move_on_after(TELL_S):
            await self._send_add_provider(host, key)  # which fails for nobody

    def _hosts_near(self, key: bytes) -> list[ID]:
        """Hosts that we know, the nearest first; then those that are connected, which the table need not have taken."""
        near: list[ID] = self.peer_routing.routing_table.find_local_closest_peers(key, MAX_HOSTS)
        return [*near, *self.host.get_connected_peers()]

    def add_provider(self, key: bytes, provider: PeerInfo) -> None:
        place = (key, str(provider.peer_id))
        source = NOWHERE if provider.peer_id == self.local_peer_id else _source_of(self.host, provider.peer_id)
        self._forget(*place)  # what is told again stands last
        while (oldest := self._who_gives_way(key, source)) is not None:
            self._forget(*oldest)
        super().add_provider(key, PeerInfo(provider.peer_id, few(provider.addrs)))
        if place[1] in self.providers.get(key, ()):
            self._sources[place] = source

    def _who_gives_way(self, key: bytes, source: Source) -> tuple[bytes, str] | None:
        counts = Counter(other.key for other in self._sources.values())
        if source.scope is not Scope.LOOPBACK and counts[source.key] >= NETWORK_PROVIDERS:
            most = source.key
        elif len(self._sources) >= ALL_PROVIDERS:
            most = counts.most_common(1)[0][0]
        elif len(self.providers.get(key, ())) >= KEY_PROVIDERS:
            return self._who_gives_way_of(key, source)
        else:
            return None
        return next(place for place, other in self._sources.items() if other.key == most)

    def _who_gives_way_of(self, key: bytes, source: Source) -> tuple[bytes, str]:
        """Of the records of one key the oldest of the site that has most, the newcomer counted; never our own."""
        own = str(self.local_peer_id)
        sites = {place: site_of(self._sources[place]).key for place in self._sources if place[0] == key}
        counts = Counter([*sites.values(), site_of(source).key])
        most = max(counts[site] for place, site in sites.items() if place[1] != own)
        return next(place for place, site in sites.items() if counts[site] == most and place[1] != own)

    def _forget(self, key: bytes, name: str) -> None:
        self._sources.pop((key, name), None)
        records = self.providers.get(key, {})
        records.pop(name, None)
        if not records:
            self.providers.pop(key, None)


def _source_of(host: IHost, peer: ID) -> Source:
    """The network a peer is connected from; of one that others told of, a network of its own that all such share."""
    for connection in host.get_network().get_connections(peer):
        remote = connection.muxed_conn.get_remote_address()
        if remote is not None:
            return source_of(remote[0])
    return Source("hearsay", Scope.PUBLIC)


def bound_dht(host: IHost, dht: KadDHT) -> None:
    """Bound what one DHT host keeps, and how long it listens to a stream."""
    dht.provider_store = BoundedProviders(host, dht.peer_routing)

    async def handle(stream: INetStream) -> None:
        with trio.move_on_after(DHT_STREAM_S) as scope:
            await dht.handle_stream(stream)
        if scope.cancelled_caught:
            with suppress(BaseLibp2pError):  # it is reset already
                await stream.reset()

    host.set_stream_handler(PROTOCOL_ID, handle)


async def forget_strangers(host: IHost, dht: KadDHT) -> None:
    """Forget peers that are gone, beyond so many, until cancelled: libp2p keeps all for ever."""
    while True:
        await trio.sleep(FORGET_STRANGERS_S)
        forget_some(host, dht)


def forget_some(host: IHost, dht: KadDHT) -> None:
    known = host.get_peerstore()
    near = {host.get_id(), *host.get_connected_peers(), *dht.routing_table.get_peer_ids()}
    strangers = [peer for peer in known.peer_ids() if peer not in near]
    for peer in strangers[: max(0, len(strangers) - MAX_STRANGERS)]:
        known.clear_peerdata(peer)
