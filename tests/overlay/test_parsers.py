"""No bytes of a peer reach a general parser of keys in the DHT's process."""

from collections.abc import Callable

import pytest
from Crypto.PublicKey import RSA
from libp2p.crypto.exceptions import MissingDeserializerError
from libp2p.crypto.keys import KeyType
from libp2p.crypto.serialization import deserialize_private_key, deserialize_public_key
from libp2p.peer.envelope import pub_key_from_protobuf
from libp2p.peer.pb.crypto_pb2 import PrivateKey as PrivateKeyMessage
from libp2p.peer.pb.crypto_pb2 import PublicKey as PublicKeyMessage
from libp2p.records.pubkey import unmarshal_public_key

import p2pinfer.overlay.libp2p.dht  # noqa: F401 - it bounds them
from p2pinfer.core.values.keys import PEER_ID_PREFIX

from .conftest import KEYS

KINDS = [KeyType.RSA.value, KeyType.Secp256k1.value]


def public(kind: int) -> bytes:
    return bytes(PublicKeyMessage(Type=kind, Data=b"any bytes").SerializeToString())


PARSERS: dict[str, Callable[[int], object]] = {
    "identify and handshakes": lambda kind: deserialize_public_key(public(kind)),
    "signed records": lambda kind: pub_key_from_protobuf(PublicKeyMessage(Type=kind, Data=b"any bytes")),
    "records of keys": lambda kind: unmarshal_public_key(public(kind)),
    "private keys": lambda kind: deserialize_private_key(
        PrivateKeyMessage(Type=kind, Data=b"any bytes").SerializeToString()
    ),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("parser", PARSERS)
def test_no_key_but_ed25519_is_parsed(parser: str, kind: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """WIRE-1: RSA's parser inverts primes of any size."""
    parsed: list[object] = []
    monkeypatch.setattr(RSA, "import_key", parsed.append)
    with pytest.raises(MissingDeserializerError):
        PARSERS[parser](kind)
    assert not parsed


def test_an_ed25519_key_is_parsed() -> None:
    key = deserialize_public_key(PEER_ID_PREFIX[2:] + KEYS[0].public)
    assert key.to_bytes() == KEYS[0].public
