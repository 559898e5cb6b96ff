"""multistream-select: how the two ends of a stream agree on what is spoken on it.

https://github.com/multiformats/multistream-select: each line is `varint length ‖ text ‖ newline`. The dialler sends
both of its lines at once, so that agreeing costs one round trip where libp2p's own client takes two.
"""

from collections.abc import Callable
from typing import Final

from p2pinfer.core.values.errors import RemoteProtocolError

GREETING: Final = "/multistream/1.0.0"
REFUSAL: Final = "na"
MAX_LINE: Final = 1024  # bytes; names of protocols are far shorter
MAX_TRIES: Final = 16  # protocols a peer may ask for before it is given up


def encode_line(text: str) -> bytes:
    data = text.encode() + b"\n"
    assert len(data) < 128  # one byte of varint
    return bytes([len(data)]) + data


class LineDecoder:
    """Bytes in, lines out; what comes after the last line wanted stays in `rest`."""

    def __init__(self) -> None:
        self.rest = bytearray()

    def next_line(self) -> str | None:
        """The next complete line, or None until more bytes come.

        Raises RemoteProtocolError for what is no line.
        """
        if not self.rest:
            return None
        size, start = self.rest[0], 1
        if size >= 128:
            if len(self.rest) < 2:
                return None
            size, start = (size & 127) + (self.rest[1] << 7), 2
        if not 0 < size <= MAX_LINE:
            raise RemoteProtocolError(f"a line of {size} bytes, limit {MAX_LINE}")
        if len(self.rest) < start + size:
            return None
        line = bytes(self.rest[start : start + size])
        del self.rest[: start + size]
        if line[-1:] != b"\n" or not line.isascii():
            raise RemoteProtocolError(f"{line[:40]!r} is no line of multistream-select")
        return line[:-1].decode("ascii")


class Dialler:
    """The side that asks for one protocol."""

    def __init__(self, protocol: str) -> None:
        self._protocol = protocol
        self._expected = [GREETING, protocol]
        self._lines = LineDecoder()

    @property
    def opening(self) -> bytes:
        return encode_line(GREETING) + encode_line(self._protocol)

    def receive(self, data: bytes) -> bool:
        """Return True once it is agreed. `rest` is then what came after.

        Raises RemoteProtocolError if the other side will not, or speaks something else.
        """
        self._lines.rest += data
        while self._expected and (line := self._lines.next_line()) is not None:
            if line != self._expected[0]:
                raise RemoteProtocolError(f"asked for {self._protocol}, the peer says {line[:60]!r}")
            self._expected.pop(0)
        return not self._expected

    @property
    def rest(self) -> bytes:
        return bytes(self._lines.rest)


class Acceptor:
    """The side that is asked, and speaks one protocol."""

    def __init__(self, protocol: str, say: Callable[[bytes], None]) -> None:
        self._protocol = protocol
        self._say = say
        self._greeted = False
        self._tries = 0
        self._lines = LineDecoder()

    def receive(self, data: bytes) -> bool:
        """Return True once it is agreed; what there is to say is said meanwhile.

        Raises RemoteProtocolError for what is no multistream-select.
        """
        self._lines.rest += data
        while (line := self._lines.next_line()) is not None:
            if not self._greeted:
                if line != GREETING:
                    raise RemoteProtocolError(f"{line[:60]!r} is not {GREETING}")
                self._greeted = True
                self._say(encode_line(GREETING))
            elif line == self._protocol:
                self._say(encode_line(line))
                return True
            else:
                self._refuse(line)
        return False

    def _refuse(self, line: str) -> None:
        self._tries += 1
        if self._tries > MAX_TRIES:
            raise RemoteProtocolError(f"asked for {self._tries} protocols, the last one {line[:60]!r}")
        self._say(encode_line(REFUSAL))

    @property
    def rest(self) -> bytes:
        return bytes(self._lines.rest)
