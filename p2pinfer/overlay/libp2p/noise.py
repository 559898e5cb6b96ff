"""Noise's handshake XX, with X25519, ChaCha20-Poly1305 and SHA-256 (https://noiseprotocol.org/noise.html, revision 34).

Bytes in, bytes out. The primitives are those of `cryptography`; what libp2p says in the handshake is in `identity.py`.
"""

import hashlib
import hmac
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from p2pinfer.core.values.errors import RemoteProtocolError

NAME: Final = b"Noise_XX_25519_ChaChaPoly_SHA256"  # as long as a hash, so that it stands for one
XX: Final = (("e",), ("e", "ee", "s", "es"), ("s", "se"))  # the tokens of each message; the dialler sends the first
KEY: Final = 32  # bytes of a public key
TAG: Final = 16  # bytes that encryption adds


class Cipher:
    """One direction of a connection."""

    def __init__(self, key: bytes) -> None:
        self._cipher = ChaCha20Poly1305(key)
        self._count = 0

    def encrypt(self, data: bytes, associated: bytes | None = None) -> bytes:
        return self._cipher.encrypt(self._nonce(), data, associated)

    def decrypt(self, data: bytes, associated: bytes | None = None) -> bytes:
        """Raises RemoteProtocolError for what the other side did not encrypt, or not as the next."""
        try:
            return self._cipher.decrypt(self._nonce(), data, associated)
        except InvalidTag:
            raise RemoteProtocolError("bytes that were not encrypted for this connection") from None

    def _nonce(self) -> bytes:
        nonce = bytes(4) + self._count.to_bytes(8, "little")
        self._count += 1
        return nonce


class Handshake:
    """One side of a handshake: `write` and `read` in turn, three messages in all, then `ciphers`.

    static:    the key that the other side learns
    dialled:   we write the first message
    ephemeral: the key of this handshake alone; left out, it is drawn
    """

    def __init__(
        self,
        static: X25519PrivateKey,
        *,
        dialled: bool,
        prologue: bytes = b"",
        ephemeral: X25519PrivateKey | None = None,
    ) -> None:
        self._ours = {"s": static, "e": ephemeral or X25519PrivateKey.generate()}
        self._theirs: dict[str, X25519PublicKey] = {}
        self._dialled = dialled
        self._left = list(XX)
        self._chaining = self.hash = NAME
        self._cipher: Cipher | None = None
        self._mix_hash(prologue)

    @property
    def remote_static(self) -> bytes:
        """The other side's key, once it has come."""
        return self._theirs["s"].public_bytes_raw()

    def write(self, payload: bytes) -> bytes:
        """Our next message."""
        message = b""
        for token in self._left.pop(0):
            if token == "e":
                message += self._hashed(self._ours["e"].public_key().public_bytes_raw())
            elif token == "s":
                message += self._encrypt(self._ours["s"].public_key().public_bytes_raw())
            else:
                self._agree(token)
        return message + self._encrypt(payload)

    def read(self, message: bytes) -> bytes:
        """The payload of the other side's next message.

        Raises RemoteProtocolError for one that is none.
        """
        for token in self._left.pop(0):
            if token in ("e", "s"):
                size = KEY + (TAG if self._cipher is not None else 0)
                part, message = message[:size], message[size:]
                if len(part) < size:
                    raise RemoteProtocolError("a message of noise's handshake that is too short")
                key = self._hashed(part) if token == "e" else self._decrypt(part)
                self._theirs[token] = X25519PublicKey.from_public_bytes(key)
            else:
                self._agree(token)
        return self._decrypt(message)

    def ciphers(self) -> tuple[Cipher, Cipher]:
        """For what we send, and for what comes."""
        keys = _derive(self._chaining, b"")
        ours, theirs = keys if self._dialled else reversed(keys)
        return Cipher(ours), Cipher(theirs)

    def _agree(self, token: str) -> None:
        """Mix in what two keys come to: the dialler's, and the other side's."""
        ours, theirs = (token[0], token[1]) if self._dialled else (token[1], token[0])
        try:
            secret = self._ours[ours].exchange(self._theirs[theirs])
        except ValueError:
            raise RemoteProtocolError("a key of small order in noise's handshake") from None
        self._chaining, key = _derive(self._chaining, secret)
        self._cipher = Cipher(key)

    def _encrypt(self, plain: bytes) -> bytes:
        return self._hashed(plain if self._cipher is None else self._cipher.encrypt(plain, self.hash))

    def _decrypt(self, data: bytes) -> bytes:
        plain = data if self._cipher is None else self._cipher.decrypt(data, self.hash)
        self._mix_hash(data)
        return plain

    def _hashed(self, data: bytes) -> bytes:
        self._mix_hash(data)
        return data

    def _mix_hash(self, data: bytes) -> None:
        self.hash = hashlib.sha256(self.hash + data).digest()


def _derive(chaining: bytes, secret: bytes) -> tuple[bytes, bytes]:
    """HKDF of noise: two keys."""
    temporary = _hmac(chaining, secret)
    first = _hmac(temporary, b"\x01")
    return first, _hmac(temporary, first + b"\x02")


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")
