"""Strangers at a DHT host: noise and yamux to it, and frames as nobody sends them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import trio
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from libp2p.kad_dht.pb.kademlia_pb2 import Message
from multiaddr import Multiaddr
from varint import encode

from p2pinfer.core.values.keys import PEER_ID_PREFIX, PrivateKey
from p2pinfer.overlay.libp2p.connection import CONNECTION_ERRORS, NOISE, YAMUX, framed, learn_identity
from p2pinfer.overlay.libp2p.identity import encode_identity
from p2pinfer.overlay.libp2p.multistream import Dialler, encode_line
from p2pinfer.overlay.libp2p.noise import Handshake
from p2pinfer.overlay.libp2p.records import Records
from p2pinfer.overlay.libp2p.tcp import Socket, dial_tcp
from p2pinfer.overlay.libp2p.yamux import HEADER, Flag, Type, encode_header
from p2pinfer.overlay.pipe import peer_of

KAD = "/ipfs/kad/1.0.0"
WITHIN_S = 10.0


@dataclass
class DhtStranger:
    """A connection. number: of the stream that was opened last"""

    records: Records
    number: int = -1

    async def open(self, protocol: str) -> None:
        self.number += 2
        await self.write(encode_header(Type.WINDOW_UPDATE, Flag.SYN, self.number, 0))
        await self.send(encode_line("/multistream/1.0.0") + encode_line(protocol))

    async def send(self, data: bytes) -> None:
        for start in range(0, len(data), 60_000):
            part = data[start : start + 60_000]
            await self.write(encode_header(Type.DATA, Flag.NONE, self.number, len(part)) + part)

    async def write(self, frame: bytes) -> None:
        with suppress(*CONNECTION_ERRORS):  # the host may have ended the connection, which `is_closed` tells
            await self.records.write(frame)

    async def wait_reset(self) -> None:
        """Until the host resets the stream; a connection that ends is an error."""
        while True:
            _, kind, flags, stream, length = HEADER.unpack(await self.records.read(HEADER.size))
            if kind == Type.DATA:
                await self.records.read(length)
            if flags & Flag.RST and stream == self.number:
                return

    async def is_closed(self) -> bool:
        with trio.move_on_after(WITHIN_S):
            try:
                while True:
                    await self.records.read()
            except CONNECTION_ERRORS:
                return True
        return False


@asynccontextmanager
async def open_dht_stranger(address: str, key: PrivateKey) -> AsyncIterator[DhtStranger]:
    socket = Socket(await dial_tcp(address))
    try:
        await _ask(socket, NOISE)
        static = X25519PrivateKey.generate()
        noise = Handshake(static, dialled=True)
        await socket.write(framed(noise.write(b"")))
        assert await learn_identity(socket, noise) == peer_of(address)
        await socket.write(framed(noise.write(encode_identity(key, static.public_key().public_bytes_raw()))))
        records = Records(socket, *noise.ciphers())
        await _ask(records, YAMUX)
        yield DhtStranger(records)
    finally:
        await socket.close()


async def _ask(connection: Socket | Records, protocol: str) -> None:
    dialler = Dialler(protocol)
    await connection.write(dialler.opening)
    while not dialler.receive(await connection.read(1)):
        pass


def adding(stranger: PrivateKey, key: bytes, addresses: int) -> bytes:
    """An ADD_PROVIDER with so many addresses, behind its length."""
    message = Message(type=Message.MessageType.ADD_PROVIDER, key=key)
    start = Multiaddr("/ip4/198.51.100.7/tcp/4001").to_bytes()[:-2]
    places = [start + (port % 65_536).to_bytes(2, "big") for port in range(addresses)]
    message.providerPeers.add(id=PEER_ID_PREFIX + stranger.public, addrs=places)
    body: bytes = message.SerializeToString()
    return bytes(encode(len(body))) + body
