"""yamux as one connection of ours needs it: a single stream, its windows, and an answer to everything else.

https://github.com/hashicorp/yamux/blob/master/spec.md. Pure: bytes in, data and frames out; `connection.py` moves
them. libp2p's own yamux speaks the same on the wire; a 1 KB round trip through it takes about 54 task switches, and it
gives a connection up when the peer's window stays shut for 5 s.
"""

import struct
from collections import deque
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from p2pinfer.core.values.errors import RemoteProtocolError
from p2pinfer.overlay.libp2p.multistream import Acceptor, Dialler
from p2pinfer.overlay.limits import MAX_ASKING, MAX_REPLIES

HEADER: Final = struct.Struct("!BBHII")  # version, type, flags, stream, length
FIRST_WINDOW: Final = 256 * 1024  # by the spec
WINDOW: Final = 4 * 1024 * 1024  # what we let a peer send ahead; links hold back long before
MAX_DATA: Final = 64 * 1024 - HEADER.size  # go-yamux takes no longer frame


class Type(IntEnum):
    DATA = 0
    WINDOW_UPDATE = 1
    PING = 2
    GO_AWAY = 3


class Flag:
    """Plain integers: of its own kind of flags, Python makes a new object at every `&`."""

    NONE = 0
    SYN = 1
    ACK = 2
    FIN = 4
    RST = 8


def encode_header(kind: Type, flags: int, stream: int, length: int) -> bytes:
    return HEADER.pack(0, kind, flags, stream, length)


@dataclass(slots=True)
class _Asking:
    """A stream that is agreeing on a protocol. window: what the peer lets us send on it."""

    acceptor: Acceptor
    window: int = FIRST_WINDOW


class Yamux:
    """Both ends' view of one connection and its one stream, which the dialling side opens.

    replies: frames to be written at the next opportunity
    data:    portions that came on the stream and were not taken yet
    ended:   the peer will send nothing more on it
    agreed:  the protocol is agreed, and the stream may be used
    """

    def __init__(self, protocol: str, *, dialled: bool) -> None:
        self.replies = bytearray()
        self.data: deque[bytes] = deque()
        self.ended = False
        self.agreed = False
        self.send_window = FIRST_WINDOW
        self._protocol = protocol
        self._dialled = dialled
        self._stream = 0  # none yet
        self._asking: dict[int, _Asking] = {}
        self._dialler = Dialler(protocol)
        self._buffer = bytearray()
        self._body: tuple[int, int] | None = None  # the DATA frame under way: its stream, bytes still to come
        self._ending = False
        self._receive_window = FIRST_WINDOW
        if dialled:
            self._stream = 1
            self._reply(Type.WINDOW_UPDATE, Flag.SYN, self._stream, 0)
            self._widen_window()
            self.replies += self.encode_data(self._dialler.opening)

    def encode_data(self, data: bytes | memoryview) -> bytes:
        """Frames of data for our stream; never more than `send_window` bytes."""
        assert len(data) <= self.send_window
        self.send_window -= len(data)
        parts: list[bytes | memoryview] = []
        for start in range(0, len(data), MAX_DATA):
            part = data[start : start + MAX_DATA]
            parts += (encode_header(Type.DATA, Flag.NONE, self._stream, len(part)), part)
        return b"".join(parts)

    def take_replies(self) -> bytes:
        replies = bytes(self.replies)
        self.replies.clear()
        return replies

    def receive(self, data: bytes) -> None:
        """Take what came on the connection.

        Raises RemoteProtocolError for what breaks the spec; the connection is lost then.
        """
        self._buffer += data
        start = 0
        while not self.ended:
            if self._body is not None:
                start = self._receive_body(start)
                if self._body is not None:
                    break
            elif len(self._buffer) - start >= HEADER.size:
                header = HEADER.unpack_from(self._buffer, start)
                start += HEADER.size
                self._receive_header(*header)
            else:
                break
        del self._buffer[:start]
        if len(self.replies) > MAX_REPLIES:
            raise RemoteProtocolError(f"{len(self.replies)} bytes of replies wait for a peer that does not read")

    def _receive_header(self, version: int, kind: int, flags: int, stream: int, length: int) -> None:
        if version != 0 or kind > Type.GO_AWAY or flags > 15:
            raise RemoteProtocolError(f"yamux header {version} {kind} {flags}")
        match kind:
            case Type.PING:
                if flags & Flag.SYN:
                    self._reply(Type.PING, Flag.ACK, 0, length)
            case Type.GO_AWAY:
                self.ended = True
            case Type.WINDOW_UPDATE:
                if flags & Flag.SYN:
                    self._open(stream)
                self._add_window(stream, length)
                self._close(stream, flags)
            case _:
                if flags & Flag.SYN:
                    self._open(stream)
                self._start_body(stream, length)
                self._close(stream, flags)

    def _add_window(self, stream: int, length: int) -> None:
        if stream == self._stream:
            self.send_window = min(self.send_window + length, 2**32 - 1)
        elif (asking := self._asking.get(stream)) is not None:
            asking.window = min(asking.window + length, 2**32 - 1)

    def _start_body(self, stream: int, length: int) -> None:
        if length > self._receive_window:
            raise RemoteProtocolError(f"{length} bytes of data, the window takes {self._receive_window}")
        self._body = (stream, length) if length else None

    def _receive_body(self, start: int) -> int:
        """Hand out what came of a DATA frame; where the next byte is then."""
        assert self._body is not None
        stream, left = self._body
        portion = bytes(self._buffer[start : start + left])
        left -= len(portion)
        self._body = (stream, left) if left else None
        self.ended = self._ending and not left
        if stream != self._stream:
            self._ask(stream, portion)
        elif portion:
            self._receive_window -= len(portion)
            self._take(portion)
            if self._receive_window <= WINDOW - WINDOW // 4:
                self._widen_window()
        return start + len(portion)

    def _take(self, portion: bytes) -> None:
        if self.agreed:
            self.data.append(portion)
        elif self._dialler.receive(portion):
            self.agreed = True
            if self._dialler.rest:
                self.data.append(self._dialler.rest)

    def _open(self, stream: int) -> None:
        """The peer opens a stream. One becomes ours; all others are refused."""
        if self._dialled or self.agreed or len(self._asking) >= MAX_ASKING:
            self._reply(Type.WINDOW_UPDATE, Flag.RST, stream, 0)
        elif stream not in self._asking:
            self._reply(Type.WINDOW_UPDATE, Flag.ACK, stream, 0)
            self._asking[stream] = _Asking(Acceptor(self._protocol, lambda line: self._say(stream, line)))

    def _say(self, stream: int, line: bytes) -> None:
        self._reply(Type.DATA, Flag.NONE, stream, len(line))
        self.replies += line
        self._asking[stream].window -= len(line)

    def _ask(self, stream: int, portion: bytes) -> None:
        """Data on a stream that is not ours yet: which protocol is wanted?"""
        asking = self._asking.get(stream)
        if asking is None or not asking.acceptor.receive(portion):
            return
        del self._asking[stream]
        self._stream = stream
        self.send_window = asking.window
        self.agreed = True
        if asking.acceptor.rest:
            self.data.append(asking.acceptor.rest)
        for other in self._asking:
            self._reply(Type.WINDOW_UPDATE, Flag.RST, other, 0)
        self._asking.clear()
        self._widen_window()

    def _close(self, stream: int, flags: int) -> None:
        if not flags & (Flag.FIN | Flag.RST):
            return
        self._asking.pop(stream, None)
        if stream == self._stream:
            self._ending = True
            self.ended = self._body is None  # else after the data that comes with it

    def _widen_window(self) -> None:
        self._reply(Type.WINDOW_UPDATE, Flag.NONE, self._stream, WINDOW - self._receive_window)
        self._receive_window = WINDOW

    def _reply(self, kind: Type, flags: int, stream: int, length: int) -> None:
        self.replies += encode_header(kind, flags, stream, length)
