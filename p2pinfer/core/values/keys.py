"""Ed25519 keys and signatures, under rules on which two implementations cannot differ (protocols/identity.md).

A key must be canonical and of prime order, a signature's S below the group order and its R no identity: libraries
differ on what they accept beyond that. `disk/key_files.py` keeps keys on the disk.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

import base58
from nacl import bindings
from nacl.exceptions import BadSignatureError

from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import RemoteProtocolError, UsageError
from p2pinfer.core.values.units import PeerKey

KEY_BYTES: Final = 32
SEED_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
KNOWN_KEYS: Final = 65_536  # keys whose check (80 us each) is remembered

# libp2p's peer id of an Ed25519 key: an identity multihash (00, 36 bytes) of the protobuf {Type: 1, Data: key}
PEER_ID_PREFIX: Final = bytes.fromhex("002408011220")
SHORT_NAME: Final = 8  # last characters of a peer's name
MAX_NAME: Final = 64  # characters; a peer's name has 52, and base58 takes time quadratic in its length


class PrivateKey:
    """A key that signs; `seed` is all that need be kept."""

    def __init__(self, seed: bytes) -> None:
        if type(seed) is not bytes or len(seed) != SEED_BYTES:
            raise ValueError(f"a seed has {SEED_BYTES} bytes")
        self.seed: Final = seed
        public, self._secret = bindings.crypto_sign_seed_keypair(seed)
        self.public: Final = PeerKey(public)

    def __repr__(self) -> str:
        return f"PrivateKey of {peer_name(self.public)}"  # never the seed

    def sign(self, domain: bytes, body: bytes) -> bytes:
        """The signature over `domain` and `body`."""
        return bindings.crypto_sign(domain + body, self._secret)[:SIGNATURE_BYTES]


def domain(kind: str) -> bytes:
    """The bytes before every body of this kind when it is signed or hashed."""
    return b"p2pinfer/1/" + kind.encode("ascii") + b"\0"


def check_key(key: bytes) -> None:
    """Raise RemoteProtocolError (BAD_KEY) unless `key` is canonical and of prime order.

    Small-order keys verify any message; keys of mixed order verify with one library and not with another.
    """
    if type(key) is not bytes or len(key) != KEY_BYTES or not _is_valid(key):
        shown = key.hex() if isinstance(key, bytes) else repr(key)
        raise RemoteProtocolError(f"{shown:.80} is no canonical key of prime order", Code.BAD_KEY)


@lru_cache(maxsize=KNOWN_KEYS)
def _is_valid(key: bytes) -> bool:
    return bindings.crypto_core_ed25519_is_valid_point(key)


def verify(key: bytes, domain: bytes, body: bytes, signature: bytes) -> None:
    """Hold `signature` over `domain` and `body` to `key`.

    Raises RemoteProtocolError: BAD_KEY, or BAD_SIGNATURE where `key` did not sign these bytes.
    """
    check_key(key)
    if type(signature) is not bytes or len(signature) != SIGNATURE_BYTES:
        raise RemoteProtocolError(f"a signature has {SIGNATURE_BYTES} bytes", Code.BAD_SIGNATURE)
    try:
        # libsodium: S < L, no cofactor, R compared as bytes, R not of small order
        bindings.crypto_sign_open(signature + domain + body, key)
    except BadSignatureError:
        raise RemoteProtocolError(f"not signed by {peer_name(key)}", Code.BAD_SIGNATURE) from None


def peer_name(key: bytes) -> str:
    """The key as people and libp2p write it: `12D3Koo...`."""
    name: bytes = base58.b58encode(PEER_ID_PREFIX + key)
    return name.decode("ascii")


def short_name(key: bytes) -> str:
    """A peer's name as people tell peers apart: by its end, since all names begin alike."""
    return f"…{peer_name(key)[-SHORT_NAME:]}"


def short_names(keys: Iterable[bytes]) -> str:
    """Several peers, in an order that a person can look through."""
    return ", ".join(sorted(map(short_name, keys)))


def parse_peer_name(name: str) -> PeerKey:
    """The key a name stands for.

    Raises UsageError for what is no name of an Ed25519 key.
    """
    try:
        data = base58.b58decode(name) if len(name) <= MAX_NAME else b""
    except ValueError:
        data = b""
    key = data[len(PEER_ID_PREFIX) :]
    if len(key) != KEY_BYTES or peer_name(key) != name:  # written again it has the prefix, and is the same
        raise UsageError(f"{name:.80} is no peer name: one looks like {peer_name(bytes(KEY_BYTES))}")
    if not _is_valid(key):
        raise UsageError(f"{name} stands for a key that is not canonical or not of prime order")
    return PeerKey(key)
