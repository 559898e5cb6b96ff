"""No bytes of a peer reach a general parser of keys, and a handshake is short."""

from collections.abc import Callable

import pytest
import trio
from Crypto.PublicKey import RSA
from libp2p.crypto.exceptions import MissingDeserializerError
from libp2p.crypto.keys import KeyType
from libp2p.crypto.serialization import deserialize_private_key, deserialize_public_key
from libp2p.peer.envelope import pub_key_from_protobuf
from libp2p.peer.pb.crypto_pb2 import PrivateKey as PrivateKeyMessage
from libp2p.peer.pb.crypto_pb2 import PublicKey as PublicKeyMessage
from libp2p.records.pubkey import unmarshal_public_key

from p2pinfer.core.errors import LinkDead
from p2pinfer.core.keys import PEER_ID_PREFIX
from p2pinfer.overlay.libp2p.connection import Handshaker
from p2pinfer.overlay.libp2p.multistream import encode_line
from p2pinfer.overlay.limits import MAX_NOISE

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


async def test_a_handshake_too_long_ends_before_it_has_come(nursery: trio.Nursery) -> None:
    """WIRE-1"""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    near = await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])
    far = await listener.accept()
    async with listener, near:
        await near.send_all(encode_line("/multistream/1.0.0") + encode_line("/noise"))
        await near.send_all((MAX_NOISE + 1).to_bytes(2, "big"))
        with pytest.raises(LinkDead, match=f"{MAX_NOISE + 1} bytes of a handshake"), trio.fail_after(5.0):
            await Handshaker(KEYS[0]).accept(far)
