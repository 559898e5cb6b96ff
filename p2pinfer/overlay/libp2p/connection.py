"""One libp2p connection: noise, yamux, and in it the one stream a link uses, as a `Pipe`.

Here nothing is cancelled but together with its connection, and giving one up is closing its socket: a cancelled read or
write loses the connection, for noise has advanced its nonce by then.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import trio
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from p2pinfer.core.swarm.source import Source
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import LinkDead, RemoteProtocolError
from p2pinfer.core.values.keys import PrivateKey
from p2pinfer.core.values.units import PeerKey
from p2pinfer.overlay.contained import outlasting
from p2pinfer.overlay.libp2p.identity import encode_identity, read_identity
from p2pinfer.overlay.libp2p.multistream import Acceptor, Dialler
from p2pinfer.overlay.libp2p.noise import Handshake
from p2pinfer.overlay.libp2p.records import PREFIX, Records
from p2pinfer.overlay.libp2p.tcp import Disconnected, Socket
from p2pinfer.overlay.libp2p.yamux import Yamux
from p2pinfer.overlay.limits import MAX_NOISE
from p2pinfer.overlay.link import LINGER_S

NOISE: Final = "/noise"
YAMUX: Final = "/yamux/1.0.0"
LINK: Final = "/p2pinfer/link/1"

# What a connection raises for bytes that are not what they should be, and when it breaks
CONNECTION_ERRORS: Final = (Disconnected, RemoteProtocolError)


class Handshaker:
    """Turns TCP connections into pipes to proven peers."""

    def __init__(self, key: PrivateKey) -> None:
        self._static = X25519PrivateKey.generate()
        self._identity = encode_identity(key, self._static.public_key().public_bytes_raw())

    async def dial(self, stream: trio.SocketStream, peer: PeerKey) -> "YamuxPipe":
        """A pipe to `peer` over a new connection; the connection is closed if it comes to nothing.

        All this costs one round trip: whatever is asked for is used at once, and the pipe can be written to before the
        peer has agreed to it. What it does not agree to is found by whoever reads.

        Raises LinkDead (UNREACHABLE) if somebody else answers, or nobody who speaks this.
        """
        async with _shaking_hands(stream, Code.UNREACHABLE):
            socket, noise = Socket(stream), Handshake(self._static, dialled=True)
            security, muxer, yamux = Dialler(NOISE), Dialler(YAMUX), Yamux(LINK, dialled=True)
            await socket.write(security.opening + framed(noise.write(b"")))
            while not security.receive(await socket.read(1)):
                pass
            if await learn_identity(socket, noise) != peer:
                raise RemoteProtocolError("another peer answers there")
            last = framed(noise.write(self._identity))
            records = Records(socket, *noise.ciphers())
            await socket.write(last + records.encrypt(muxer.opening + yamux.take_replies()))
        return YamuxPipe(peer, socket, records, yamux, muxer)

    async def accept(self, stream: trio.SocketStream) -> "YamuxPipe":
        """A pipe to whoever connected; the connection is closed if it comes to nothing.

        Raises LinkDead if the peer breaks the handshake off.
        """
        async with _shaking_hands(stream, Code.LOST):
            socket, noise = Socket(stream), Handshake(self._static, dialled=False)
            await _answer(socket, NOISE)
            noise.read(await _read_message(socket))
            await socket.write(framed(noise.write(self._identity)))
            peer = await learn_identity(socket, noise)
            records = Records(socket, *noise.ciphers())
            await _answer(records, YAMUX)
            pipe = YamuxPipe(peer, socket, records, Yamux(LINK, dialled=False))
            await pipe.agree()
        return pipe


@asynccontextmanager
async def _shaking_hands(stream: trio.SocketStream, code: Code) -> AsyncIterator[None]:
    """Close the connection if the block fails. Raises LinkDead where that is the peer's doing."""
    try:
        yield
    except BaseException as error:
        await trio.aclose_forcefully(stream)
        if isinstance(error, CONNECTION_ERRORS):
            raise LinkDead(f"the handshake failed: {_reason(error)}", code) from None
        raise


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__


def framed(data: bytes) -> bytes:
    """A message of noise's handshake behind its length."""
    return len(data).to_bytes(PREFIX, "big") + data


async def _read_message(socket: Socket) -> bytes:
    """A message of noise's handshake. Raises RemoteProtocolError for one that is too long, before it has come."""
    size = int.from_bytes(await socket.read(PREFIX), "big")
    if size > MAX_NOISE:
        raise RemoteProtocolError(f"{size} bytes of a handshake, limit {MAX_NOISE}")
    return await socket.read(size) if size else b""


async def learn_identity(socket: Socket, noise: Handshake) -> PeerKey:
    """The key that the other side proves to be its own."""
    payload = noise.read(await _read_message(socket))
    return read_identity(payload, noise.remote_static)


async def _answer(connection: Socket | Records, protocol: str) -> None:
    lines: list[bytes] = []
    acceptor = Acceptor(protocol, lines.append)
    agreed = False
    while not agreed:
        agreed = acceptor.receive(await connection.read(1))
        if lines:
            await connection.write(b"".join(lines))
            lines.clear()


class YamuxPipe:
    """`Pipe` over one connection.

    `run` has to run as long as the pipe is used; it writes what yamux itself has to say, and what was left unsent.

    muxer: asked for yamux and has had no answer yet
    """

    def __init__(
        self, peer: PeerKey, socket: Socket, records: Records, yamux: Yamux, muxer: Dialler | None = None
    ) -> None:
        self._peer = peer
        self._socket = socket
        self._records = records
        self._yamux = yamux
        self._muxer = muxer
        self.meter = records.meter
        self._writing = trio.Lock()
        self._came = trio.Event()  # something came that a writer may wait for
        self._replies_due = trio.Event()  # or the rest of what the socket did not take at once
        self._scope = trio.CancelScope()  # `abort` ends it; a cancellation only after the goodbye

    @property
    def peer(self) -> PeerKey:
        return self._peer

    @property
    def source(self) -> Source:
        return self._socket.source

    @property
    def unsent(self) -> int:
        return len(self._socket.unsent)

    async def agree(self) -> None:
        """Let the side that was dialled agree on the protocol of the stream.

        Raises what the connection raises.
        """
        while True:
            if self._yamux.replies:
                await self._records.write(self._yamux.take_replies())
            if self._yamux.agreed:
                return
            if self._yamux.ended:
                raise RemoteProtocolError("the peer closed the stream")
            self._yamux.receive(await self._records.read())

    async def run(self) -> None:
        """Own the connection until `abort`, or LINGER_S after a cancellation."""
        try:
            async with outlasting(self._scope, LINGER_S):
                await self._write_replies()
        finally:
            await self._socket.close()

    async def _write_replies(self) -> None:
        while True:
            self._replies_due = trio.Event()
            try:
                async with self._writing:
                    if self._yamux.replies or self._socket.unsent:
                        await self._records.write(self._yamux.take_replies())
            except CONNECTION_ERRORS:
                return  # the reader finds the same, and tells
            await self._replies_due.wait()

    async def read(self) -> bytes:
        try:
            while not self._yamux.data and not self._yamux.ended:
                self._receive(await self._records.read())
        except CONNECTION_ERRORS as error:
            if self._socket.ended:
                return b""
            raise trio.BrokenResourceError(_reason(error)) from None
        return self._yamux.data.popleft() if self._yamux.data else b""

    def _receive(self, data: bytes) -> None:
        if self._muxer is not None:
            if not self._muxer.receive(data):
                return
            data, self._muxer = self._muxer.rest, None
        self._yamux.receive(data)
        self._came.set()
        if self._yamux.replies:
            self._replies_due.set()

    async def write(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                while not (window := self._yamux.send_window):
                    self._came = trio.Event()
                    await self._came.wait()
                await self._write_data(view[:window])
                view = view[window:]
        except CONNECTION_ERRORS as error:
            raise trio.BrokenResourceError(_reason(error)) from None

    def write_nowait(self, data: bytes) -> bool:
        if self._writing.locked() or self._socket.unsent or len(data) > self._yamux.send_window:
            return False
        try:
            self._records.write_nowait(self._yamux.take_replies() + self._yamux.encode_data(data))
        except CONNECTION_ERRORS as error:
            raise trio.BrokenResourceError(_reason(error)) from None
        if self._socket.unsent:
            self._replies_due.set()
        return True

    async def _write_data(self, data: memoryview) -> None:
        try:
            self._writing.acquire_nowait()  # nearly always free, and waiting for a free lock costs a turn
        except trio.WouldBlock:
            await self._writing.acquire()
        try:
            frames = self._yamux.encode_data(data)
            await self._records.write(self._yamux.take_replies() + frames)
        finally:
            self._writing.release()

    async def abort(self) -> None:
        self._scope.cancel()
        self._yamux.data.clear()
        await self._socket.close()
