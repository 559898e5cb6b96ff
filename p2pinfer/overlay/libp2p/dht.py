"""The DHT: who serves what, found without knowing anybody who knows (protocols/wire.md, 6).

libp2p's DHT puts deadlines around its reads, which kills connections; so it has a host of its own, with a random key,
and shares no connection with links. It finds DHT hosts; each says over `/p2pinfer/where/1` where its links are taken,
and the link's handshake proves the rest. Keys are multihashes, as other implementations expect.
"""

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import trio
from libp2p import new_host
from libp2p.abc import IHost, INetStream
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_x25519_key_pair
from libp2p.custom_types import TProtocol
from libp2p.exceptions import BaseLibp2pError
from libp2p.kad_dht.kad_dht import DHTMode, KadDHT
from libp2p.network.config import ConnectionConfig
from libp2p.peer.peerinfo import PeerInfo, info_from_p2p_addr
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX
from libp2p.stream_muxer.yamux.yamux import Yamux
from libp2p.tools.anyio_service import background_trio_service
from multiaddr import Multiaddr
from multiaddr.exceptions import Error as MultiaddrError

from p2pinfer.core.swarm.address import may_dial, may_tell
from p2pinfer.core.swarm.source import NOWHERE, Scope, Source, source_of
from p2pinfer.core.values.alternation import in_turn
from p2pinfer.core.values.errors import RemoteProtocolError
from p2pinfer.core.wire.frames import FrameDecoder, encode_frame
from p2pinfer.core.wire.messages import MAX_ADDRESSES, Contacts
from p2pinfer.overlay.libp2p.dht_bounds import bound_dht, bound_libp2p, forget_strangers
from p2pinfer.overlay.libp2p.dht_frames import FIND_S, PROVIDE_S, WHERE_S
from p2pinfer.overlay.libp2p.dht_lookup import SilentHosts
from p2pinfer.overlay.libp2p.dht_rest import calm_libp2p, fill_table
from p2pinfer.overlay.libp2p.dht_transport import GuardedTcp
from p2pinfer.overlay.libp2p.parsers import bound_parsers
from p2pinfer.overlay.libp2p.tcp import ip_of
from p2pinfer.overlay.limits import DHT_CONNECTIONS, MAX_FOUND
from p2pinfer.overlay.pipe import Address, leads_to

WHERE: Final = TProtocol("/p2pinfer/where/1")
MULTIHASH_SHA256: Final = "1220"  # hex of the code and the length before a SHA-256
MAX_CONTACTS: Final = 8_192  # bytes in which it says so: 16 addresses of 256, and what is around them
ANYWHERE: Final = Source("the DHT", Scope.PUBLIC)

# What libp2p's host raises for peers that are away, or speak something else
DHT_ERRORS: Final = (BaseLibp2pError, MultiaddrError, OSError, trio.TooSlowError, RemoteProtocolError)

logger = logging.getLogger(__name__)

bound_parsers()  # at the import, so that no process of ours has a host without it


@asynccontextmanager
async def open_dht(seed: bytes, listen: Sequence[str], links: Sequence[Address]) -> AsyncIterator["Dht"]:
    """A DHT host for as long as the block lasts.

    seed:   32 random bytes; the host's key is nobody's
    listen: multiaddrs, port 0 for any
    links:  where we take links, told to whoever asks
    """
    bound_libp2p()
    calm_libp2p()
    key_pair = create_new_key_pair(seed)
    addresses = [Multiaddr(address) for address in listen]
    noise = NoiseTransport(key_pair, noise_privkey=create_x25519_key_pair().private_key)
    transport = GuardedTcp(_word_of_others(listen))
    host = new_host(
        key_pair=key_pair,
        transports=[transport],
        sec_opt={NOISE: noise},  # the defaults would offer plaintext
        muxer_opt={YAMUX: Yamux},
        connection_config=ConnectionConfig(
            min_connections=0, low_watermark=0, high_watermark=DHT_CONNECTIONS // 4, max_connections=DHT_CONNECTIONS
        ),
    )
    dht = KadDHT(host, DHTMode.SERVER, strict_validation=True, enable_values=False)
    bound_dht(host, dht)
    try:
        async with host.run(listen_addrs=addresses), background_trio_service(dht), trio.open_nursery() as nursery:
            nursery.start_soon(transport.knocks.run)
            nursery.start_soon(forget_strangers, host, dht)
            nursery.start_soon(fill_table, dht)
            yield Dht(host, dht, transport, links)
            nursery.cancel_scope.cancel()
    finally:
        transport.close()


class Dht:
    """Our part of the DHT."""

    def __init__(self, host: IHost, dht: KadDHT, transport: GuardedTcp, links: Sequence[Address]) -> None:
        self._host = host
        self._dht = dht
        self._transport = transport
        self._links = tuple(links)
        self._silent = SilentHosts()  # of those that provided something
        host.set_stream_handler(WHERE, self._say_where)

    def addresses(self) -> tuple[Address, ...]:
        return tuple(Address(str(address)) for address in self._host.get_addrs())

    async def meet(self, addresses: Sequence[str]) -> None:
        """Take another DHT host, found at any of these, into our table."""
        for address in addresses:
            self._transport.introduce(address)
            try:
                peer = info_from_p2p_addr(Multiaddr(address))
                with trio.move_on_after(WHERE_S):
                    await self._host.connect(peer)
                    await self._dht.add_peer(peer.peer_id, skip_server_mode_check=True)
                    return
            except (*DHT_ERRORS, ValueError) as error:
                logger.info("no DHT host at %s: %s", address, error)

    async def provide(self, key: bytes) -> None:
        with trio.move_on_after(PROVIDE_S):
            await self._dht.provide(MULTIHASH_SHA256 + key.hex())

    async def find(self, key: bytes) -> tuple[Address, ...]:
        """Link addresses of those who provide `key`, as far as they answer within FIND_S; hosts in turn.

        Each is one peer's, as it says. So one that names a false place of another peer hides no true one.
        """
        found: list[Sequence[Address]] = []
        with trio.move_on_after(FIND_S):
            providers = await self._dht.find_providers(MULTIHASH_SHA256 + key.hex(), MAX_FOUND)
            async with trio.open_nursery() as nursery:
                for provider in {provider.peer_id: provider for provider in providers}.values():
                    if provider.peer_id != self._host.get_id() and str(provider.peer_id) not in self._silent:
                        nursery.start_soon(self._ask_where, provider, found)
        return tuple(dict.fromkeys(in_turn(found)))

    async def _ask_where(self, provider: PeerInfo, found: list[Sequence[Address]]) -> None:
        name = str(provider.peer_id)
        self._silent.note_asked(name)
        try:
            with trio.fail_after(WHERE_S):
                await self._host.connect(provider)
                stream = await self._host.new_stream(provider.peer_id, [WHERE])
                contacts = await _read_contacts(stream)
                word = _source_of(stream)
                await stream.close()
        except DHT_ERRORS as error:
            logger.info("no answer from the DHT host %s: %s", name, error)
            return
        self._silent.note_answer(name)
        found.append([Address(address) for address in of_one_peer(contacts.link) if may_dial(address, word)])

    async def _say_where(self, stream: INetStream) -> None:
        try:
            with trio.fail_after(WHERE_S):
                there = _source_of(stream)
                links, own = ([one for one in all_ if may_tell(one, there)] for all_ in (self._links, self.addresses()))
                await stream.write(encode_frame(Contacts(0, tuple(links[:MAX_ADDRESSES]), tuple(own[:MAX_ADDRESSES]))))
                await stream.close()
        except DHT_ERRORS as error:
            logger.info("a peer asked where we are, and left: %s", error)


def of_one_peer(addresses: Sequence[str]) -> list[str]:
    """Those that lead to the peer that the first one does: a DHT host is one peer's, whatever it says."""
    peer = leads_to(addresses[0]) if addresses else None
    return [address for address in addresses if peer is not None and leads_to(address) == peer]


def _word_of_others(listen: Sequence[str]) -> Source:
    """The place where other DHT hosts are taken to be: near us, if nobody else could reach us."""
    ips = [ip_of(address) for address in listen]
    return NOWHERE if all(ip is not None and ip.is_loopback for ip in ips) else ANYWHERE


def _source_of(stream: INetStream) -> Source:
    remote = stream.get_remote_address()
    return ANYWHERE if remote is None else source_of(remote[0])


async def _read_contacts(stream: INetStream) -> Contacts:
    decoder = FrameDecoder()
    decoder.limit = MAX_CONTACTS
    while (message := decoder.next_message()) is None:
        decoder.feed(await stream.read(MAX_CONTACTS))
    if not isinstance(message, Contacts):
        raise RemoteProtocolError(f"{type(message).__name__} for Contacts")
    return message
