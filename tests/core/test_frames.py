"""Frames: lengths, portions, and bytes that are no frames (protocols/wire.md, 2.2)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import RemoteProtocolError
from p2pinfer.core.wire.frames import MAX_HELLO, FrameDecoder, encode_frame
from p2pinfer.core.wire.messages import MAX_BODY, VERSION, AskContacts, Hello, Message, Ping

HELLO = Hello(VERSION, 0, MAX_BODY, 1_700_000_000_000, bytes(16), "test")


def messages_in(decoder: FrameDecoder, data: bytes) -> list[Message]:
    decoder.feed(data)
    return list(iter(decoder.next_message, None))


def test_a_frame_is_a_length_and_a_body() -> None:
    assert encode_frame(Ping(5)) == bytes.fromhex("00000003 92 03 05")


@given(st.lists(st.integers(1, 40)))
def test_messages_come_out_whole_and_in_order_in_whatever_portions_they_come(cuts: list[int]) -> None:
    sent = [HELLO, *(AskContacts(number) for number in (1, 127, 70_000, 2**32 - 1))]
    data = b"".join(map(encode_frame, sent))
    decoder, came = FrameDecoder(), []
    for cut in cuts:
        came += messages_in(decoder, data[:cut])
        data = data[cut:]
    assert came + messages_in(decoder, data) == sent


@given(st.lists(st.binary(max_size=64)))
def test_any_bytes_in_any_portions_are_messages_or_the_peers_fault(portions: list[bytes]) -> None:
    decoder = FrameDecoder()
    try:
        for portion in portions:
            messages_in(decoder, portion)
    except RemoteProtocolError as error:
        assert error.code is Code.BAD_FRAME


@given(st.binary(min_size=1, max_size=200))
def test_any_body_is_a_message_or_the_peers_fault(body: bytes) -> None:
    decoder = FrameDecoder()
    try:
        messages_in(decoder, len(body).to_bytes(4, "big") + body)
    except RemoteProtocolError as error:
        assert error.code is Code.BAD_FRAME


@pytest.mark.parametrize("size", [0, MAX_HELLO + 1, 2**32 - 1])
def test_the_first_length_is_checked_before_any_of_its_body_comes(size: int) -> None:
    with pytest.raises(RemoteProtocolError, match=f"frame of {size} bytes, limit {MAX_HELLO}"):
        messages_in(FrameDecoder(), size.to_bytes(4, "big"))


@pytest.mark.parametrize("size", [0, MAX_BODY + 1, 2**32 - 1])
def test_later_lengths_are_checked_before_any_of_their_body_comes(size: int) -> None:
    decoder = FrameDecoder()
    messages_in(decoder, encode_frame(HELLO))
    with pytest.raises(RemoteProtocolError, match=f"frame of {size} bytes, limit {MAX_BODY}"):
        messages_in(decoder, size.to_bytes(4, "big"))


def test_a_frame_after_a_bad_one_is_never_read() -> None:
    decoder = FrameDecoder()
    with pytest.raises(RemoteProtocolError):
        messages_in(decoder, bytes(4) + encode_frame(HELLO))
    with pytest.raises(RemoteProtocolError):
        decoder.next_message()


def test_the_longest_message_passes() -> None:
    decoder = FrameDecoder()
    messages_in(decoder, encode_frame(HELLO))
    decoder.feed(MAX_BODY.to_bytes(4, "big"))
    assert decoder.next_message() is None


def test_a_message_that_was_handed_out_is_kept_no_longer() -> None:
    decoder = FrameDecoder()
    decoder.feed(encode_frame(HELLO) + encode_frame(AskContacts(1))[:-1])
    assert decoder.next_message() is not None
    assert decoder.next_message() is None
    assert decoder.waiting == len(decoder._buffer) == len(encode_frame(AskContacts(1))) - 1
