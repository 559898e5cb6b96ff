"""TCP below libp2p's protocols: multiaddrs in and out, listeners that know when a port is taken, and a buffered socket.

libp2p's own listener shares a busy port silently, and keeps a task for every connection it ever took; its own stream
reads headers of two bytes from the kernel one by one.
"""

import errno
import ipaddress
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, Protocol

import trio

from p2pinfer.core.swarm.address import host_and_port
from p2pinfer.core.swarm.source import IP, Source, source_of
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import LinkDead, UsageError
from p2pinfer.system import receive_nowait, send_nowait

READ_BYTES: Final = 64 * 1024  # so that nobody's bytes hold others up for long
BACKLOG: Final = 128  # connections the kernel holds for us while we are busy


async def listen_tcp(address: str) -> Sequence[trio.SocketListener]:
    """Listeners at a multiaddr such as /ip4/0.0.0.0/tcp/4001.

    Raises UsageError if it is no such address, or somebody listens there already.
    """
    host, port = host_and_port(address)
    try:
        return await trio.open_tcp_listeners(port, host=host, backlog=BACKLOG)
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            everywhere = "/ip6/::" if ":" in host else "/ip4/0.0.0.0"
            hint = f"no interface here has it now; {everywhere}/tcp/{port} listens at whatever addresses come"
            raise UsageError(f"cannot listen at {address}: {hint}") from None
        if error.errno == errno.EADDRINUSE:
            hint = "another program, perhaps another node, listens there; give another port, or 0 for any"
            raise UsageError(f"{address} is in use: {hint}") from None
        raise UsageError(f"cannot listen at {address}: {error.strerror or error}") from None


class KeptPorts(Protocol):
    """The ports that listeners had before, where any would do."""

    def kept(self, place: str) -> int:
        """The one that a multiaddr with port 0 stood for last; 0 where none is known."""

    def note(self, place: str, port: int) -> None:
        """It stands for this one now."""


async def listen_again(address: str, ports: KeptPorts) -> Sequence[trio.SocketListener]:
    """Listeners at a multiaddr; where its port is 0, with the port of the last time, unless that is taken.

    Raises UsageError as `listen_tcp` does.
    """
    if host_and_port(address)[1]:
        return await listen_tcp(address)
    listeners: Sequence[trio.SocketListener] = ()
    if port := ports.kept(address):
        with suppress(UsageError):  # of anything else the next line says it again
            listeners = await listen_tcp(f"{address.removesuffix('/0')}/{port}")
    listeners = listeners or await listen_tcp(address)
    ports.note(address, place_of(listeners[0])[1])
    return listeners


def place_of(listener: trio.SocketListener) -> tuple[IP, int]:
    """The IP address and port of a listener; 0.0.0.0 and :: stand for all interfaces."""
    host, port = listener.socket.getsockname()[:2]
    return ipaddress.ip_address(host.partition("%")[0]), port


def _parse_ip(text: str) -> IP | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None  # a hardware address, or an address with a scope


def ip_of(address: str) -> IP | None:
    """The IP address a multiaddr begins with; None for a name."""
    return _parse_ip(host_and_port(address)[0])


def host_of(address: str) -> tuple[IP, int] | None:
    """IP address and port of a multiaddr, the port perhaps 0; None for a name."""
    host, port = host_and_port(address)
    return None if (ip := _parse_ip(host)) is None else (ip, port)


async def dial_tcp(address: str) -> trio.SocketStream:
    """A TCP connection, Nagle's delay off (trio sees to that).

    Raises LinkDead (UNREACHABLE) where nobody answers.
    """
    host, port = host_and_port(address)
    try:
        return await trio.open_tcp_stream(host, port)
    except (OSError, UnicodeError) as error:  # the latter of a name that nobody can have
        raise LinkDead(f"nobody answers at {address}: {error}", Code.UNREACHABLE) from None


def source_at(stream: trio.SocketStream) -> Source | None:
    """The network at the other end; None where the connection broke already."""
    try:
        return source_of(stream.socket.getpeername()[0])
    except OSError:
        return None


class Disconnected(Exception):
    """There is no connection any more."""


class Socket:
    """A TCP connection, buffered: `read(n)` returns exactly n bytes.

    It reads and writes the non-blocking descriptor itself: trio's stream goes round the scheduler once more for each.

    remote: the address and port at the other end
    source: the network there
    buffer: what came and was not taken yet
    unsent: what was written and the connection has not taken yet
    ended:  the peer closed the connection, and not in the middle of something that was being read

    Raises Disconnected.
    """

    def __init__(self, stream: trio.SocketStream) -> None:
        try:
            self.remote: tuple[str, int] = stream.socket.getpeername()[:2]
        except OSError as error:  # it broke meanwhile
            raise _closed(error) from None
        self.source = source_of(self.remote[0])
        self.buffer = bytearray()
        self.unsent = bytearray()
        self.ended = False
        self._stream = stream
        self._closed = False

    async def read(self, n: int | None = None) -> bytes:
        """Exactly `n` bytes, or whatever is there if n is None."""
        wanted = 1 if n is None else n
        while len(self.buffer) < wanted:
            await self.fill()
        size = len(self.buffer) if n is None else n
        with memoryview(self.buffer)[:size] as view:
            data = bytes(view)
        del self.buffer[:size]
        return data

    async def fill(self) -> None:
        """Wait for more, and add it to the buffer.

        Raises Disconnected at the end, which `ended` tells from a loss.
        """
        try:
            await trio.lowlevel.wait_readable(self._descriptor())
            data = receive_nowait(self._descriptor(), READ_BYTES)
        except BlockingIOError:
            return  # somebody woke us for nothing; the caller asks again
        except (OSError, trio.ClosedResourceError) as error:
            raise _closed(error) from None
        if not data:
            self.ended = not self.buffer
            raise Disconnected("the connection ended")
        self.buffer += data

    async def write(self, data: bytes) -> None:
        """Send the bytes, and before them what is unsent.

        Raises Disconnected if the connection broke.
        """
        self.write_nowait(data)
        while self.unsent:
            try:
                await trio.lowlevel.wait_writable(self._descriptor())
            except (OSError, trio.ClosedResourceError) as error:
                raise _closed(error) from None
            self.write_nowait(b"")

    def write_nowait(self, data: bytes) -> None:
        """Send as far as the connection takes it at once, and keep the rest in `unsent`.

        Raises Disconnected if the connection broke.
        """
        if self.unsent:
            self.unsent += data
            data = bytes(self.unsent)
        try:
            sent = send_nowait(self._descriptor(), data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise _closed(error) from None
        self.unsent = bytearray(data[sent:])

    def _descriptor(self) -> int:
        if self._closed:
            raise Disconnected("the connection is closed")
        return self._stream.socket.fileno()

    async def close(self) -> None:
        self._closed = True
        self.buffer.clear()
        self.unsent.clear()
        await trio.aclose_forcefully(self._stream)


def _closed(error: Exception) -> Disconnected:
    return Disconnected(f"the connection broke: {error}")
