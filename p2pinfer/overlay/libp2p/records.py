"""Noise's transport records on a socket: `u16be length ‖ ciphertext` (libp2p's noise spec)."""

from typing import Final

from p2pinfer.overlay.libp2p.noise import TAG, Cipher
from p2pinfer.overlay.libp2p.tcp import Socket
from p2pinfer.overlay.toll import Meter

PREFIX: Final = 2  # bytes of the length
MAX_PLAIN: Final = 65_535 - TAG


class Records:
    """An encrypted connection, for one reader, and one writer at a time. ours, theirs: the ciphers of what is sent

    A cancelled write loses the connection: what was encrypted has to be sent.
    """

    def __init__(self, socket: Socket, ours: Cipher, theirs: Cipher) -> None:
        self._socket = socket
        self.meter = Meter()
        self._ours = ours
        self._theirs = theirs
        self._plain = bytearray()

    async def read(self, n: int | None = None) -> bytes:
        """Exactly `n` bytes, or whatever is there if n is None.

        Raises Disconnected, and RemoteProtocolError for what is no record.
        """
        while len(self._plain) < (1 if n is None else n):
            if not self._decrypt():
                self.meter.rest()
                await self._socket.fill()
                self.meter.run()
        size = len(self._plain) if n is None else n
        data = bytes(self._plain[:size])
        del self._plain[:size]
        return data

    def _decrypt(self) -> bool:
        """Decrypt all whole records; False if there was none."""
        buffer, start = self._socket.buffer, 0
        while len(buffer) >= start + PREFIX:
            end = start + PREFIX + int.from_bytes(buffer[start : start + PREFIX], "big")
            if len(buffer) < end:
                break
            self._plain += self._theirs.decrypt(bytes(buffer[start + PREFIX : end]))
            start = end
        del buffer[:start]
        return start > 0

    async def write(self, data: bytes) -> None:
        """Encrypt and send, in one piece where the socket takes it.

        Raises what the socket raises.
        """
        await self._socket.write(self.encrypt(data))

    def write_nowait(self, data: bytes) -> None:
        """Encrypt and send as far as the socket takes it at once; the socket keeps the rest.

        Raises what the socket raises.
        """
        self._socket.write_nowait(self.encrypt(data))

    def encrypt(self, data: bytes) -> bytes:
        """The records of the bytes; all that is encrypted has to be sent, in this order."""
        records: list[bytes] = []
        for start in range(0, len(data), MAX_PLAIN):
            record = self._ours.encrypt(data[start : start + MAX_PLAIN])
            records += (len(record).to_bytes(PREFIX, "big"), record)
        return b"".join(records)
