"""The worker's end of the door: what the parent sends, message by message."""

import socket
from typing import Final, Protocol

from p2pinfer.engine.messages import LENGTH_BYTES

READ_BYTES: Final = 1 << 16


class Inbox(Protocol):
    """A taker of requests."""

    def receive(self) -> bytes | bytearray:
        """The next message's body that is to be answered. Raises EOFError when the parent is gone."""


class SocketInbox(Inbox):
    """Every message. A short one takes one call of the system."""

    def __init__(self, door: socket.socket) -> None:
        self._door = door
        self._received = bytearray()

    def receive(self) -> bytearray:
        self._fill(LENGTH_BYTES)
        size = LENGTH_BYTES + int.from_bytes(self._received[:LENGTH_BYTES], "little")
        self._fill(size)
        body = self._received[LENGTH_BYTES:size]
        del self._received[:size]
        return body

    def _fill(self, size: int) -> None:
        while len(self._received) < size:
            if not (data := self._door.recv(READ_BYTES)):
                raise EOFError("the parent closed the door")
            self._received += data
