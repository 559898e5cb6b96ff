"""The word of libp2p in noise's handshake whose static key it is (https://github.com/libp2p/specs, noise, peer-ids).

A payload is the protobuf {1: identity key, 2: signature, 4: extensions}, an identity key the protobuf {1: kind, 2: key}
of which no kind but Ed25519 is parsed.
"""

from collections.abc import Iterator
from typing import Final

from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import RemoteProtocolError
from p2pinfer.core.values.keys import KEY_BYTES, PEER_ID_PREFIX, PrivateKey, check_key, verify
from p2pinfer.core.values.units import PeerKey

DOMAIN: Final = b"noise-libp2p-static-key:"
ED25519: Final = PEER_ID_PREFIX[2:]  # an identity key without its 32 bytes: kind 1, and the length
IDENTITY, SIGNATURE = 1, 2
# Protobuf: how a field's value is written
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
FIXED: Final = {FIXED64: 8, FIXED32: 4}
MAX_VARINT: Final = 10  # bytes


def encode_identity(key: PrivateKey, static: bytes) -> bytes:
    """The payload that proves the key's holder to hold the static key, too."""
    return _field(IDENTITY, ED25519 + key.public) + _field(SIGNATURE, key.sign(DOMAIN, static))


def read_identity(payload: bytes, static: bytes) -> PeerKey:
    """The key that the payload of who holds `static` proves.

    Raises RemoteProtocolError: BAD_KEY, BAD_SIGNATURE, or what is no payload.
    """
    fields = dict(_fields(payload))
    identity, signature = fields.get(IDENTITY, b""), fields.get(SIGNATURE, b"")
    if not identity.startswith(ED25519) or len(identity) != len(ED25519) + KEY_BYTES:
        raise RemoteProtocolError("the peer's key is no Ed25519 key", Code.BAD_KEY)
    key = identity[len(ED25519) :]
    check_key(key)
    verify(key, DOMAIN, static, signature)
    return PeerKey(key)


def _field(number: int, data: bytes) -> bytes:
    assert len(data) < 128  # one byte of varint
    return bytes([number << 3 | BYTES, len(data)]) + data


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The fields of a protobuf message that hold bytes; others, and what no one of us knows, are passed over."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        size, value_at = (FIXED[kind], at) if kind in FIXED else _varint(data, at)
        if kind == VARINT:
            at = value_at
            continue
        if kind not in (BYTES, *FIXED) or value_at + size > len(data):
            raise RemoteProtocolError("the payload of noise's handshake is no protobuf")
        at = value_at + size
        if kind == BYTES:
            yield tag >> 3, data[value_at:at]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at a place, and where it ends."""
    number = 0
    for shift, byte in enumerate(data[at : at + MAX_VARINT]):
        number |= (byte & 127) << 7 * shift
        if byte < 128:
            return number, at + shift + 1
    raise RemoteProtocolError("the payload of noise's handshake is no protobuf")
