"""Messages: any bytes raise nothing but RemoteProtocolError; what is written is read; lies cost no memory."""

import tracemalloc
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pinfer.core.values import fields
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import RemoteProtocolError
from p2pinfer.core.values.fields import Bin, Blob, FieldKind, Many, Struct, Text, UInt
from p2pinfer.core.values.units import Codec, SessionId
from p2pinfer.core.wire.message_codec import MESSAGES, decode_message, encode_message
from p2pinfer.core.wire.messages import MAX_BODY, MAX_TEXT, MIN_BODY, Hello, Message, cut_text, model_or_none
from p2pinfer.core.wire.session_messages import CODECS, Close, Forward, Sampled, SessionRefused, pack_ids, unpack_ids

SESSION = SessionId(bytes(16))


def values(kind: FieldKind) -> st.SearchStrategy[object]:
    """Any value of a kind; the long ones not to their full length."""
    match kind:
        case UInt(bits):
            return st.integers(0, (1 << bits) - 1)
        case Bin(size):
            return st.binary(min_size=size, max_size=size)
        case Blob(limit):
            return st.binary(max_size=min(limit, 64))
        case Text(limit):
            return st.text(st.characters(codec="utf-8"), max_size=min(limit // 4, 16))
        case Many(inner, limit):
            return st.lists(values(inner), max_size=min(limit, 4)).map(tuple)
        case Struct(shape):
            return st.builds(shape, *(values(part) for _, part in fields.kinds_of(shape)))
    raise TypeError(kind)


def any_message(shape: type[Message]) -> st.SearchStrategy[Message | None]:
    """Messages of one kind; those whose fields contradict each other are left out."""

    def built(parts: tuple[object, ...]) -> Message | None:
        try:
            return shape(*parts)
        except ValueError:
            return None

    parts = {name: values(kind) for name, kind in fields.kinds_of(shape)}
    if shape.__name__ == "Forward":  # random ones hardly ever fit
        parts["count"], parts["codec"] = st.just(2), st.sampled_from(sorted(CODECS))
        parts["rows"] = st.binary(max_size=32).map(lambda data: data * 2)
    if "reason" in parts:
        parts["reason"] = st.integers(1, 3)
    return st.tuples(*parts.values()).map(built).filter(lambda made: made is not None)


messages: st.SearchStrategy[Any] = st.sampled_from(list(MESSAGES.values())).flatmap(any_message)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.integers(0, 9) | st.text(), inner, max_size=3),
)


@given(messages)
def test_what_is_written_is_read(message: Message) -> None:
    assert decode_message(encode_message(message)) == message


@given(st.binary())
def test_any_bytes_are_a_message_or_a_bad_frame(data: bytes) -> None:
    decode_or_refuse(data)


@given(st.sampled_from(sorted(MESSAGES)), st.binary())
def test_any_bytes_after_a_number_are_a_message_or_a_bad_frame(number: int, data: bytes) -> None:
    decode_or_refuse(bytes([0x90 | len(fields.kinds_of(MESSAGES[number])) + 1, number]) + data)


@given(st.sampled_from(sorted(MESSAGES)), st.lists(plain, max_size=14))
def test_any_values_are_a_message_or_a_bad_frame(number: int, items: list[object]) -> None:
    decode_or_refuse(msgpack.packb([number, *items]))


@given(messages, st.data())
def test_a_message_with_one_bit_flipped_is_a_message_or_a_bad_frame(message: Message, data: st.DataObject) -> None:
    body = bytearray(encode_message(message))
    body[data.draw(st.integers(0, len(body) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    decode_or_refuse(bytes(body))


@given(messages, st.data())
def test_a_message_cut_short_is_a_bad_frame(message: Message, data: st.DataObject) -> None:
    body = encode_message(message)
    with pytest.raises(RemoteProtocolError):
        decode_message(body[: data.draw(st.integers(0, len(body) - 1))])


def decode_or_refuse(data: bytes) -> None:
    try:
        decode_message(data)
    except RemoteProtocolError as error:
        assert error.code is Code.BAD_FRAME


LIES = {
    "arrays within arrays": b"\xdc\x20\x00" * 1000,
    "empty arrays": b"\xdc\x01\xf4" + (b"\xdc\x1f\xff" + b"\x90" * 8191) * 500,
    "empty maps": b"\xdc\x01\xf4" + (b"\xdc\x1f\xff" + b"\x80" * 8191) * 500,
    "a long array": b"\xdd\xff\xff\xff\xff" + bytes(1000),
    "a long bin": b"\xc6\xff\xff\xff\xff" + bytes(1000),
    "a long text": b"\xdb\xff\xff\xff\xff" + bytes(1000),
    "a long map": b"\xdf\xff\xff\xff\xff" + bytes(1000),
    "a long extension": b"\xc9\xff\xff\xff\xff" + bytes(1000),
}


@pytest.mark.parametrize("number", sorted(MESSAGES))
@pytest.mark.parametrize("lie", LIES)
def test_a_frame_that_lies_takes_no_memory(number: int, lie: str) -> None:
    """INF-4"""
    body = bytes([0x9C, number]) + LIES[lie]
    assert len(body) < MAX_BODY, lie
    tracemalloc.start()
    try:
        with pytest.raises(RemoteProtocolError):
            decode_message(body)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("number", [0, 6, 15, 23, 31, 38, 46, 127])
def test_a_number_of_no_message_is_refused(number: int) -> None:
    with pytest.raises(RemoteProtocolError, match=f"number {number} is unknown"):
        decode_message(bytes([0x91, number]))


def test_a_view_of_a_buffer_is_read() -> None:
    message = Hello(1, 0, MAX_BODY, 0, bytes(16), "p2pinfer")
    assert decode_message(memoryview(bytearray(encode_message(message)))) == message


@pytest.mark.parametrize("budget", [1, 7, 8, 9, 16, 23, 1000])
def test_rows_are_cut_between_rows_and_none_is_lost(budget: int) -> None:
    rows = bytes(range(40))
    whole = Forward(SESSION, 2, 1, 100, 5, 105, Codec.BF16, rows)
    parts = list(whole.split(budget))
    assert b"".join(part.rows for part in parts) == rows
    assert [part.position for part in parts] == [100 + sum(p.count for p in parts[:at]) for at in range(len(parts))]
    assert all(len(part.rows) <= max(budget, 8) and len(part.rows) == 8 * part.count for part in parts)
    assert {(part.epoch, part.round, part.computed, part.codec) for part in parts} == {(2, 1, 105, Codec.BF16)}


@pytest.mark.parametrize("code", [Code.NONE, Code.END, Code.LENGTH, Code.STOP])
def test_neither_a_close_nor_a_refusal_looks_like_an_answer(code: Code) -> None:
    """INF-14"""
    with pytest.raises(ValueError, match="no failure"):
        Close(SESSION, 0, code, 0, "")
    with pytest.raises(ValueError, match="no failure"):
        SessionRefused(SESSION, 0, code, "", 0)


def test_a_bad_value_cannot_be_built_to_be_sent() -> None:
    with pytest.raises(ValueError, match="Sampled"):
        Sampled(SESSION, 0, 0, 5, (), Code.NONE)


@given(st.text())
def test_a_text_is_cut_to_what_a_field_takes(text: str) -> None:
    cut = cut_text(text)
    assert len(cut.encode()) <= MAX_TEXT
    assert Close(SESSION, 0, Code.LOST, 0, cut).text == cut


def test_a_text_is_cut_between_characters() -> None:
    assert cut_text("é" * 200) == "é" * 128
    assert cut_text("a" + "é" * 200) == "a" + "é" * 127


@given(st.lists(st.integers(0, (1 << 32) - 1)))
def test_ids_are_packed_and_unpacked(ids: list[int]) -> None:
    assert unpack_ids(pack_ids(ids)) == tuple(ids)


def test_an_ask_without_a_model_is_for_any() -> None:
    assert model_or_none(b"") is None
    assert model_or_none(bytes(32)) == bytes(32)


@pytest.mark.parametrize("shape", MESSAGES.values(), ids=lambda shape: shape.__name__)
def test_the_longest_message_of_every_kind_fits_into_what_every_peer_takes(shape: type[Message]) -> None:
    """WIRE-4"""
    assert 5 + sum(longest(kind) for _, kind in fields.kinds_of(shape)) <= MIN_BODY


def longest(kind: FieldKind) -> int:
    """Bytes of the longest value of a kind, with the longest head of msgpack before each."""
    match kind:
        case Bin(size) | Blob(size) | Text(size):
            return 5 + size
        case Many(inner, limit):
            return 5 + limit * longest(inner)
        case Struct(inner):
            return 5 + sum(longest(kind) for _, kind in fields.kinds_of(inner))
    return 9
