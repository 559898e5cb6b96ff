"""Fewer parsers for strangers' bytes: libp2p takes more than anybody here says (protocols/wire.md, 2.1).

libp2p hands a peer's identity key to parsers of every kind of key. The one of RSA keys also reads private keys, whose
primes it inverts before anybody looks at their size: 64 kB of them hold a processor for 10 s, in the event loop, before
the peer has proven anything. All of libp2p's ways to a key go through the functions that are replaced here.
"""

from typing import Final, NoReturn

from libp2p.abc import IRawConnection
from libp2p.crypto import serialization
from libp2p.crypto.exceptions import MissingDeserializerError
from libp2p.crypto.keys import KeyType
from libp2p.crypto.rsa import RSAPrivateKey, RSAPublicKey
from libp2p.crypto.secp256k1 import Secp256k1PrivateKey, Secp256k1PublicKey
from libp2p.io.exceptions import MessageTooLarge
from libp2p.security.noise.io import BaseNoiseMsgReadWriter, NoiseHandshakeReadWriter, NoisePacketReadWriter
from noise.connection import NoiseConnection

from p2pinfer.overlay.limits import MAX_NOISE

OTHER_KEYS: Final = (RSAPublicKey, RSAPrivateKey, Secp256k1PublicKey, Secp256k1PrivateKey)


def bound_parsers() -> None:
    """Of keys, let Ed25519's alone be parsed in this process; and bound the messages of noise's handshake."""
    for kind in OTHER_KEYS:
        kind.from_bytes = staticmethod(_refuse_key)
        kind.deserialize = staticmethod(_refuse_key)
    for table in (
        serialization.key_type_to_public_key_deserializer,  # they hold the functions as they were
        serialization.key_type_to_private_key_deserializer,
    ):
        for other in table.keys() - {KeyType.Ed25519.value}:
            del table[other]
    NoiseHandshakeReadWriter.__init__ = _read_bounded


def _refuse_key(_data: bytes) -> NoReturn:
    raise MissingDeserializerError("a peer's key is an Ed25519 key")


class _BoundedPackets(NoisePacketReadWriter):  # type: ignore[misc]  # libp2p is untyped to us
    async def next_msg_len(self) -> int:
        size: int = await super().next_msg_len()
        if size > MAX_NOISE:
            raise MessageTooLarge(f"{size} bytes of a handshake, limit {MAX_NOISE}")
        return size


def _read_bounded(
    handshake: NoiseHandshakeReadWriter, connection: IRawConnection, noise_state: NoiseConnection
) -> None:
    BaseNoiseMsgReadWriter.__init__(handshake, connection, noise_state)
    handshake.read_writer = _BoundedPackets(connection)
