"""The TCP of a DHT host: what it dials on others' word, and who may connect to it.

libp2p bounds only the connections of all peers together, and closes any of them; a host that one network fills is lost
to the others.
"""

from collections import deque
from typing import Final
from weakref import WeakSet

import trio
from libp2p.abc import IListener
from libp2p.custom_types import THandler
from libp2p.io.abc import ReadWriteCloser
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.transport.exceptions import OpenConnectionError
from libp2p.transport.tcp.tcp import TCP
from multiaddr import Multiaddr

from p2pinfer.core.swarm.address import endpoint_of, may_dial
from p2pinfer.core.swarm.allowance import Allowance, Rate
from p2pinfer.core.swarm.source import Source, source_of
from p2pinfer.core.values.errors import LinkDead, UsageError
from p2pinfer.overlay.crowd import Crowd
from p2pinfer.overlay.libp2p.knocks import Knocks
from p2pinfer.overlay.libp2p.tcp import Disconnected, Socket, dial_tcp
from p2pinfer.overlay.limits import ALL_DIALS_BURST, ALL_DIALS_RATE, DHT_CONNECTIONS, NETWORK_HANDSHAKES

MAX_INTRODUCED: Final = 256  # addresses of DHT hosts that peers of links have named


class GuardedTcp(TCP):  # type: ignore[misc]  # libp2p is untyped to us
    """libp2p's TCP, with an end, for a cancelled swarm leaves sockets open.

    word: where other DHT hosts are. Whatever libp2p dials, some DHT host has said. We do not learn which, so none is
          believed to be near us; unless all of us is on this machine.
    """

    def __init__(self, word: Source) -> None:
        super().__init__()
        self._streams: WeakSet[trio.SocketStream] = WeakSet()
        self._word = word
        self._introduced: deque[object] = deque(maxlen=MAX_INTRODUCED)
        rate = Rate(ALL_DIALS_BURST, ALL_DIALS_RATE)
        self._dials = Allowance(rate, rate)
        self.knocks = Knocks()
        self._connections = Crowd(NETWORK_HANDSHAKES, DHT_CONNECTIONS)

    def introduce(self, address: str) -> None:
        """Let an address be dialled that the peer of a link has named."""
        self._introduced.append(endpoint_of(address))

    async def dial(self, maddr: Multiaddr) -> RawConnection:
        address = str(maddr)
        if endpoint_of(address) not in self._introduced and not may_dial(address, self._word):
            raise OpenConnectionError(f"{address} is not dialled on another's word")
        if not self._dials.take(self._word, trio.current_time()):
            raise OpenConnectionError("too many dials at once")
        try:
            stream = await dial_tcp(str(maddr))
        except (LinkDead, UsageError) as error:
            raise OpenConnectionError(str(error)) from None
        self._streams.add(stream)
        return RawConnection(_Buffered(stream), True)

    def create_listener(self, handler_function: THandler) -> IListener:
        async def handle(stream: ReadWriteCloser) -> None:
            remote = stream.get_remote_address()
            if remote is None:
                return  # it broke meanwhile
            source = source_of(remote[0])
            if self.knocks.may_wait(source):
                with self._connections.entered(source):
                    await self.knocks.wait(source)
                    await handler_function(stream)

        return super().create_listener(handle)

    def close(self) -> None:
        for stream in self._streams:
            stream.socket.close()


class _Buffered(ReadWriteCloser):  # type: ignore[misc]  # libp2p is untyped to us
    """Our socket as libp2p has it."""

    def __init__(self, stream: trio.SocketStream) -> None:
        try:
            self._socket = Socket(stream)
        except Disconnected as error:
            raise OpenConnectionError(str(error)) from None

    async def read(self, n: int | None = None) -> bytes:
        try:
            return await self._socket.read(n)
        except Disconnected as error:
            raise _closed(error) from None

    async def write(self, data: bytes) -> None:
        try:
            await self._socket.write(data)
        except Disconnected as error:
            raise _closed(error) from None

    async def close(self) -> None:
        await self._socket.close()

    def get_remote_address(self) -> tuple[str, int] | None:
        return self._socket.remote


def _closed(error: Disconnected) -> ConnectionClosedError:
    return ConnectionClosedError(str(error), transport="tcp")
