"""Noise's handshake: published vectors, another implementation, and what a peer may do wrong in it."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_x25519_key_pair
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.peer.id import ID
from libp2p.security.noise.pb.noise_pb2 import NoiseHandshakePayload
from libp2p.security.noise.transport import Transport

from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import LinkDead, RemoteProtocolError
from p2pinfer.core.values.keys import PEER_ID_PREFIX, PrivateKey
from p2pinfer.overlay.libp2p.connection import Handshaker
from p2pinfer.overlay.libp2p.dht_transport import _Buffered
from p2pinfer.overlay.libp2p.identity import ED25519, encode_identity, read_identity
from p2pinfer.overlay.libp2p.multistream import encode_line
from p2pinfer.overlay.libp2p.noise import Cipher, Handshake
from p2pinfer.overlay.limits import MAX_NOISE

from .conftest import KEYS

# Noise_XX_25519_ChaChaPoly_SHA256 of https://github.com/haskell-cryptography/cacophony (vectors/cacophony.txt, public
# domain): payload and message, by turns of the dialler and the other side
PROLOGUE: Final = "4a6f686e2047616c74"
STATIC: Final = (
    "e61ef9919cde45dd5f82166404bd08e38bceb5dfdfded0a34c8df7ed542214d1",
    "4a3acbfdb163dec651dfa3194dece676d437029c62a408b4c5ea9114246e4893",
)
EPHEMERAL: Final = (
    "893e28b9dc6ca8d611ab664754b8ceb7bac5117349a4439a6b0569da977c464a",
    "bbdb4cdbd309f1a1f2e1456967fe288cadd6f712d65dc7b7793d5e63da6b375b",
)
HASH: Final = "c8e5f64e846193be2a834104c2a009868d6c9f3bd3c186299888b488b2f1f58e"
MESSAGES: Final = (
    (
        "4c756477696720766f6e204d69736573",
        "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c79444c756477696720766f6e204d69736573",
    ),
    (
        "4d757272617920526f746862617264",
        "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f14480884381cbad1f276e038c48378ffce2b65285e08d6b68aaa362"
        "9a5a8639392490e5b9bd5269c2f1e4f488ed8831161f19b7815528f8982ffe09be9b5c412f8a0db50f8814c7194e83f23dbd8d162c9326"
        "ad",
    ),
    (
        "462e20412e20486179656b",
        "c7195ffacac1307ff99046f219750fc47693e23c3cb08b89c2af808b444850a80ae475b9df0f169ae80a89be0865b57f58c9fea0d4ec82"
        "a286427402f113e4b6ae769a1d95941d49b25030",
    ),
    ("4361726c204d656e676572", "96763ed773f8e47bb3712f0e29b3060ffc956ffc146cee53d5e1df"),
    ("4a65616e2d426170746973746520536179", "3e40f15f6f3a46ae446b253bf8b1d9ffb6ed9b174d272328ff91a7e2e5c79c07f5"),
    (
        "457567656e2042f6686d20766f6e2042617765726b",
        "eb3f3515110702e047a6c9da4478b6ead94873c11c0f2d710ddb3f09fce024b3a58502ae3f",
    ),
)


def private(key: str) -> X25519PrivateKey:
    return X25519PrivateKey.from_private_bytes(bytes.fromhex(key))


def published(place: int) -> Handshake:
    keys = private(STATIC[place]), private(EPHEMERAL[place])
    return Handshake(keys[0], dialled=place == 0, prologue=bytes.fromhex(PROLOGUE), ephemeral=keys[1])


def test_the_published_vector() -> None:
    sides = published(0), published(1)
    for turn, (payload, message) in enumerate(MESSAGES[:3]):
        says, hears = sides[turn % 2], sides[1 - turn % 2]
        assert says.write(bytes.fromhex(payload)).hex() == message
        assert hears.read(bytes.fromhex(message)).hex() == payload
    assert [side.hash.hex() for side in sides] == [HASH, HASH]
    assert sides[1].remote_static == private(STATIC[0]).public_key().public_bytes_raw()
    ciphers = [side.ciphers() for side in sides]
    for turn, (payload, message) in enumerate(MESSAGES[3:], 3):
        says, hears = ciphers[turn % 2][0], ciphers[1 - turn % 2][1]
        assert says.encrypt(bytes.fromhex(payload)).hex() == message
        assert hears.decrypt(bytes.fromhex(message)).hex() == payload


@pytest.mark.parametrize("turn", [1, 2])
@given(data=st.data())
def test_a_message_that_was_changed_or_cut_is_none(turn: int, data: st.DataObject) -> None:
    says = [bytes.fromhex(message) for _, message in MESSAGES[:3]]
    side = published(1 - turn % 2)
    for at in range(turn):
        side.write(bytes.fromhex(MESSAGES[at][0])) if at % 2 != turn % 2 else side.read(says[at])
    message = says[turn]
    at = data.draw(st.integers(0, len(message) - 1))
    wrong = data.draw(st.sampled_from([message[:at], message[:at] + bytes([message[at] ^ 1]) + message[at + 1 :]]))
    with pytest.raises(RemoteProtocolError):
        side.read(wrong)


def test_a_first_message_that_is_too_short_is_none() -> None:
    with pytest.raises(RemoteProtocolError, match="too short"):
        published(1).read(bytes(31))


def test_a_key_of_small_order_ends_the_handshake() -> None:
    side = published(1)
    side.read(bytes(32))
    with pytest.raises(RemoteProtocolError, match="small order"):
        side.write(b"")


def test_records_come_in_their_order() -> None:
    ours, theirs = Cipher(bytes(32)), Cipher(bytes(32))
    first, second = ours.encrypt(b"one"), ours.encrypt(b"two")
    with pytest.raises(RemoteProtocolError):
        theirs.decrypt(second)
    assert Cipher(bytes(32)).decrypt(first) == b"one"


# What libp2p says within it

STATIC_KEY: Final = bytes(range(32))


def test_an_identity_is_read_as_it_was_written_and_as_libp2p_writes_it() -> None:
    payload = encode_identity(KEYS[0], STATIC_KEY)
    assert read_identity(payload, STATIC_KEY) == KEYS[0].public
    message = NoiseHandshakePayload.FromString(payload)
    assert message.SerializeToString() == payload
    message.extensions.stream_muxers.append("/yamux/1.0.0")
    assert read_identity(message.SerializeToString(), STATIC_KEY) == KEYS[0].public


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"identity_key": b"\x08\x00\x12\x04abcd"}, Code.BAD_KEY),
        ({"identity_key": ED25519 + bytes(32)}, Code.BAD_KEY),
        ({"identity_key": ED25519 + KEYS[1].public}, Code.BAD_SIGNATURE),
        ({"identity_sig": bytes(64)}, Code.BAD_SIGNATURE),
        ({"identity_sig": b""}, Code.BAD_SIGNATURE),
    ],
)
def test_an_identity_that_is_not_proven_is_refused(change: dict[str, bytes], code: Code) -> None:
    message = NoiseHandshakePayload.FromString(encode_identity(KEYS[0], STATIC_KEY))
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(RemoteProtocolError) as caught:
        read_identity(message.SerializeToString(), STATIC_KEY)
    assert caught.value.code is code


def test_an_identity_for_another_static_key_is_refused() -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        read_identity(encode_identity(KEYS[0], STATIC_KEY), bytes(32))
    assert caught.value.code is Code.BAD_SIGNATURE


@given(st.binary(max_size=MAX_NOISE))
def test_no_bytes_are_an_identity_by_chance(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        read_identity(data, STATIC_KEY)


# Another implementation: libp2p's


def libp2p_side(key: PrivateKey) -> Transport:
    return Transport(create_new_key_pair(key.seed), noise_privkey=create_x25519_key_pair().private_key)


async def connected() -> tuple[trio.SocketStream, trio.SocketStream]:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        near = await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])
        return near, await listener.accept()


async def speak(stream: trio.SocketStream, *lines: str) -> None:
    for line in lines:
        await stream.send_all(encode_line(line))


@pytest.mark.parametrize("dialled", [True, False], ids=["we dial", "we are dialled"])
async def test_libp2p_shakes_hands_with_us(nursery: trio.Nursery, dialled: bool) -> None:
    """Both sides prove their keys, and what one encrypts the other reads."""
    near, far = await connected()
    other = libp2p_side(KEYS[1])
    socket = _Buffered(far)
    raw = RawConnection(socket, not dialled)
    names: list[bytes] = []

    async def theirs() -> None:
        if dialled:
            assert await socket.read(20 + 8) == encode_line("/multistream/1.0.0") + encode_line("/noise")
            await speak(far, "/multistream/1.0.0", "/noise")
            session = await other.secure_inbound(raw)
            expected = encode_line("/multistream/1.0.0") + encode_line("/yamux/1.0.0")
            assert await session.read(len(expected)) == expected
        else:
            await speak(far, "/multistream/1.0.0", "/noise")
            assert await socket.read(20 + 8) == encode_line("/multistream/1.0.0") + encode_line("/noise")
            session = await other.secure_outbound(raw, ID(PEER_ID_PREFIX + KEYS[0].public))
            await session.write(encode_line("/multistream/1.0.0"))
            assert await session.read(20) == encode_line("/multistream/1.0.0")
        names.append(session.get_remote_peer().to_bytes())
        await far.aclose()

    with trio.fail_after(5):
        async with trio.open_nursery() as inner:
            inner.start_soon(theirs)
            if dialled:
                pipe = await Handshaker(KEYS[0]).dial(near, KEYS[1].public)
                assert pipe.peer == KEYS[1].public
            else:
                with pytest.raises(LinkDead, match="the connection"):
                    await Handshaker(KEYS[0]).accept(near)  # it goes away once its name is proven
    assert names == [PEER_ID_PREFIX + KEYS[0].public]
    await trio.aclose_forcefully(near)


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        (lambda far: Handshaker(KEYS[2]).accept(far), "another peer answers"),
        (lambda far: speak(far, "/multistream/1.0.0", "na"), "asked for /noise"),
        (lambda far: far.aclose(), "the connection"),
    ],
    ids=["another key", "no noise", "nobody"],
)
async def test_a_dial_that_meets_somebody_else_fails(
    nursery: trio.Nursery, answers: Callable[[trio.SocketStream], Awaitable[object]], words: str
) -> None:
    near, far = await connected()

    async def answer() -> None:
        async with far:
            with suppress(LinkDead):
                await answers(far)
            await trio.sleep_forever()

    nursery.start_soon(answer)
    with trio.fail_after(5), pytest.raises(LinkDead, match=words) as caught:
        await Handshaker(KEYS[0]).dial(near, KEYS[1].public)
    assert caught.value.code is Code.UNREACHABLE
    nursery.cancel_scope.cancel()


async def test_a_handshake_too_long_ends_before_it_has_come() -> None:
    """WIRE-1"""
    near, far = await connected()
    async with far, near:
        await speak(near, "/multistream/1.0.0", "/noise")
        await near.send_all((MAX_NOISE + 1).to_bytes(2, "big"))
        with pytest.raises(LinkDead, match=f"{MAX_NOISE + 1} bytes of a handshake"), trio.fail_after(5.0):
            await Handshaker(KEYS[0]).accept(far)


async def test_a_key_of_another_kind_is_not_parsed(nursery: trio.Nursery) -> None:
    """WIRE-1: parsers of other keys take seconds for some."""
    near, far = await connected()
    dialler = Handshaker(KEYS[0])
    dialler._identity = b"\x0a\x08\x08\x00\x12\x04abcd"

    async def dial() -> None:
        with pytest.raises(LinkDead):
            pipe = await dialler.dial(near, KEYS[1].public)
            await pipe.run()

    nursery.start_soon(dial)
    with pytest.raises(LinkDead, match="no Ed25519 key"), trio.fail_after(5):
        await Handshaker(KEYS[1]).accept(far)
    nursery.cancel_scope.cancel()
