"""Noise's transport records on a socket: `u16be length ‖ ciphertext` (https://noiseprotocol.org, libp2p's noise spec).

libp2p makes the handshake and holds the ciphers; its own session reads each record's length from the connection by
itself and writes every record by itself, and a 1 KB round trip takes twice as long.
"""

from typing import Final

from libp2p.abc import ISecureConn

from p2pinfer.overlay.libp2p.tcp import Socket
from p2pinfer.overlay.toll import Meter

PREFIX: Final = 2  # bytes of the length
TAG: Final = 16  # bytes that encryption adds
MAX_PLAIN: Final = 65_535 - TAG


class Records:
    """An encrypted connection, for one reader, and one writer at a time.

    A cancelled write loses the connection: what was encrypted has to be sent.
    """

    def __init__(self, socket: Socket, session: ISecureConn) -> None:
        self._socket = socket
        self.meter = Meter()
        self._cipher = session.conn
        self._plain = bytearray()

    async def read(self, n: int | None = None) -> bytes:
        """Exactly `n` bytes, or whatever is there if n is None.

        Raises what the socket and the cipher raise.
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
            self._plain += self._cipher.decrypt(bytes(buffer[start + PREFIX : end]))
            start = end
        del buffer[:start]
        return start > 0

    async def write(self, data: bytes) -> None:
        """Encrypt and send, in one piece where the socket takes it.

        Raises what the socket raises.
        """
        await self._socket.write(self._encrypt(data))

    def write_nowait(self, data: bytes) -> None:
        """Encrypt and send as far as the socket takes it at once; the socket keeps the rest.

        Raises what the socket raises.
        """
        self._socket.write_nowait(self._encrypt(data))

    def _encrypt(self, data: bytes) -> bytes:
        records: list[bytes] = []
        for start in range(0, len(data), MAX_PLAIN):
            record = self._cipher.encrypt(data[start : start + MAX_PLAIN])
            records += (len(record).to_bytes(PREFIX, "big"), record)
        return b"".join(records)
