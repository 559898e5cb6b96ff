"""Frames: how messages are laid one after the other on a stream (protocols/wire.md, 2.2).

A frame is `u32be length ‖ body`, the body one message. Lengths are checked before memory is taken. `overlay/link.py`,
and those above it, know what messages mean and when they are allowed.
"""

from typing import Final

from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import RemoteProtocolError
from p2pinfer.core.wire.message_codec import decode_message, encode_message
from p2pinfer.core.wire.messages import MAX_BODY, Message

PREFIX: Final = 4  # bytes of the length
MAX_HELLO: Final = 1024  # bytes of the first message: nothing is known of the peer before it


def encode_frame(message: Message) -> bytes:
    """The bytes of one message on the wire."""
    body = encode_message(message)
    return len(body).to_bytes(PREFIX, "big") + body


class FrameDecoder:
    """Bytes in, in any portions; messages out, in order.

    limit: bytes of the longest body taken; starts at MAX_HELLO, and becomes MAX_BODY after the first message.
    """

    def __init__(self) -> None:
        self.limit = MAX_HELLO
        self._buffer = bytearray()
        self._start = 0  # of the first frame not yet handed out

    @property
    def waiting(self) -> int:
        """Bytes of a message that has not all come."""
        return len(self._buffer) - self._start

    def clear(self) -> None:
        """Forget what came; nothing more will."""
        self._buffer.clear()
        self._start = 0

    def feed(self, data: bytes | bytearray) -> None:
        """Add what came; `next_message` hands out what it completes."""
        self._buffer += data

    def next_message(self) -> Message | None:
        """The next complete message, or None until more bytes come.

        Raises RemoteProtocolError for a length out of bounds or a body that is no message; the stream is lost then.
        """
        body_at = self._start + PREFIX
        if len(self._buffer) < body_at:
            self._let_go()
            return None
        size = int.from_bytes(self._buffer[self._start : body_at], "big")
        if not 0 < size <= self.limit:
            raise RemoteProtocolError(f"frame of {size} bytes, limit {self.limit}", Code.BAD_FRAME)
        if len(self._buffer) < body_at + size:
            self._let_go()
            return None
        with memoryview(self._buffer)[body_at : body_at + size] as body:
            message = decode_message(body)
        self._start = body_at + size
        self.limit = MAX_BODY
        return message

    def _let_go(self) -> None:
        """Keep no bytes of messages that were handed out."""
        if self._start:
            del self._buffer[: self._start]
            self._start = 0
