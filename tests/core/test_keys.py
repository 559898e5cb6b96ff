"""Keys and signatures: what one library takes and another refuses, none of us takes."""

from hashlib import sha512

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.peer.id import ID
from nacl import bindings

from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import RemoteProtocolError, UsageError
from p2pinfer.core.values.keys import PrivateKey, check_key, domain, parse_peer_name, peer_name, verify

KEY = PrivateKey(bytes(range(32)))
DOMAIN = domain("receipt")
ORDER = 2**252 + 27742317777372353535851937790883648493
PRIME = 2**255 - 19
SMALL_ORDER = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
]


def refused(key: bytes, body: bytes, signature: bytes) -> Code:
    with pytest.raises(RemoteProtocolError) as error:
        verify(key, DOMAIN, body, signature)
    return error.value.code


def test_a_signature_verifies() -> None:
    verify(KEY.public, DOMAIN, b"body", KEY.sign(DOMAIN, b"body"))


def test_signatures_are_ed25519() -> None:
    other = Ed25519PrivateKey.from_private_bytes(KEY.seed)
    assert KEY.public == other.public_key().public_bytes_raw()
    assert KEY.sign(DOMAIN, b"body") == other.sign(DOMAIN + b"body")


def test_a_signature_under_another_domain_is_refused() -> None:
    assert refused(KEY.public, b"body", KEY.sign(domain("contract"), b"body")) is Code.BAD_SIGNATURE


def test_every_bit_of_a_signature_counts() -> None:
    signature = KEY.sign(DOMAIN, b"body")
    for bit in range(512):
        altered = bytearray(signature)
        altered[bit // 8] ^= 1 << bit % 8
        assert refused(KEY.public, b"body", bytes(altered)) is Code.BAD_SIGNATURE


@pytest.mark.parametrize("size", [0, 63, 65])
def test_a_signature_of_another_length_is_refused(size: int) -> None:
    assert refused(KEY.public, b"body", bytes(size)) is Code.BAD_SIGNATURE


def test_a_signature_with_s_beyond_the_order_is_refused() -> None:
    signature = KEY.sign(DOMAIN, b"body")
    larger = int.from_bytes(signature[32:], "little") + ORDER
    assert refused(KEY.public, b"body", signature[:32] + larger.to_bytes(32, "little")) is Code.BAD_SIGNATURE


def test_a_signature_whose_r_is_the_identity_is_refused() -> None:
    """OpenSSL takes it, libsodium does not; only the key's holder can make one, so that nobody loses by the rule."""
    secret = int.from_bytes(sha512(KEY.seed).digest()[:32], "little") & ((1 << 254) - 8) | 1 << 254
    identity = (1).to_bytes(32, "little")
    challenge = int.from_bytes(sha512(identity + KEY.public + DOMAIN + b"body").digest(), "little") % ORDER
    signature = identity + (challenge * secret % ORDER).to_bytes(32, "little")
    Ed25519PublicKey.from_public_bytes(KEY.public).verify(signature, DOMAIN + b"body")
    assert refused(KEY.public, b"body", signature) is Code.BAD_SIGNATURE


@pytest.mark.parametrize("key", SMALL_ORDER)
def test_a_key_of_small_order_is_refused(key: str) -> None:
    assert refused(bytes.fromhex(key), b"body", bytes(64)) is Code.BAD_KEY


def test_a_key_of_mixed_order_is_refused() -> None:
    mixed = bindings.crypto_core_ed25519_add(KEY.public, bytes.fromhex(SMALL_ORDER[4]))
    assert refused(mixed, b"body", bytes(64)) is Code.BAD_KEY


@pytest.mark.parametrize("value", [PRIME + 3, PRIME + 1, 2**255 - 1, 2])
def test_a_key_that_is_no_canonical_point_is_refused(value: int) -> None:
    assert refused(value.to_bytes(32, "little"), b"body", bytes(64)) is Code.BAD_KEY


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_key_of_another_length_is_refused(size: int) -> None:
    assert refused(bytes(size), b"body", bytes(64)) is Code.BAD_KEY


@given(st.binary(max_size=40))
def test_any_bytes_as_a_key_are_good_or_a_bad_key(data: bytes) -> None:
    try:
        check_key(data)
    except RemoteProtocolError as error:
        assert error.code is Code.BAD_KEY


@given(st.binary(max_size=70), st.binary(max_size=70))
def test_any_bytes_as_a_signature_are_refused(body: bytes, signature: bytes) -> None:
    assert refused(KEY.public, body, signature) is Code.BAD_SIGNATURE


def test_a_seed_of_another_length_is_our_bug() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        PrivateKey(bytes(31))


def test_a_private_key_does_not_show_its_seed() -> None:
    assert KEY.seed.hex() not in repr(KEY)


def test_names_are_those_of_libp2p() -> None:
    assert peer_name(KEY.public) == ID.from_pubkey(create_new_key_pair(KEY.seed).public_key).to_base58()


def test_a_name_gives_its_key_back() -> None:
    assert parse_peer_name(peer_name(KEY.public)) == KEY.public


@pytest.mark.parametrize(
    "name",
    [
        "",
        "12D3KooW",
        "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N",
        "12D3Koo" + "0" * 45,
        "1" + peer_name(KEY.public),
        peer_name(KEY.public) + " ",
        peer_name(bytes.fromhex(SMALL_ORDER[0])),
        "z" * 100_000,
        "é" * 52,
    ],
)
def test_what_is_no_name_is_a_usage_error(name: str) -> None:
    with pytest.raises(UsageError):
        parse_peer_name(name)
