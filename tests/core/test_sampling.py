"""The sampling record: one form in bytes, and nothing else passes."""

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pinfer.core.records.draw import MAX_TEMPERATURE, MILLIONTHS, Sampling
from p2pinfer.core.records.sampling import (
    MAX_STOP_BYTES,
    MAX_STOPS,
    SamplingRecord,
    decode_sampling,
    encode_sampling,
    params_hash,
)
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import RemoteProtocolError

records = st.builds(
    SamplingRecord,
    temperature=st.integers(0, MAX_TEMPERATURE),
    top_k=st.integers(0, (1 << 32) - 1),
    top_p=st.integers(1, MILLIONTHS),
    seed=st.integers(0, (1 << 53) - 1),
    max_tokens=st.integers(1, (1 << 32) - 1),
    stops=st.lists(
        st.text(st.characters(codec="utf-8"), min_size=1, max_size=8).map(str.encode), max_size=MAX_STOPS
    ).map(tuple),
)


@given(records)
def test_what_is_written_is_read(record: SamplingRecord) -> None:
    assert decode_sampling(encode_sampling(record)) == record


@given(st.binary())
def test_any_bytes_are_a_record_or_a_bad_record(data: bytes) -> None:
    decode_or_refuse(data)


@given(records, st.data())
def test_a_record_with_one_bit_flipped_is_another_record_or_a_bad_one(
    record: SamplingRecord, data: st.DataObject
) -> None:
    body = bytearray(encode_sampling(record))
    body[data.draw(st.integers(0, len(body) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    decode_or_refuse(bytes(body))


@given(st.lists(st.none() | st.booleans() | st.integers(0, 9) | st.binary() | st.lists(st.binary()), max_size=9))
def test_any_values_are_a_record_or_a_bad_record(items: list[object]) -> None:
    decode_or_refuse(msgpack.packb(items))


def decode_or_refuse(data: bytes) -> None:
    """INF-26"""
    try:
        record = decode_sampling(data)
    except RemoteProtocolError as error:
        assert error.code is Code.BAD_RECORD
    else:
        assert encode_sampling(record) == data  # one record has one form, or it would have two hashes


def test_deep_nesting_is_a_bad_record() -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        decode_sampling(b"\x91" * 8000)
    assert caught.value.code is Code.BAD_RECORD


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": MAX_TEMPERATURE + 1},
        {"temperature": -1},
        {"top_p": 0},
        {"top_p": MILLIONTHS + 1},
        {"seed": 1 << 53},
        {"max_tokens": 0},
        {"max_tokens": True},
        {"stops": (b"",)},
        {"stops": (b"\xff",)},
        {"stops": (b"x" * (MAX_STOP_BYTES + 1),)},
        {"stops": (b"x",) * (MAX_STOPS + 1)},
        {"stops": ("x",)},
    ],
    ids=str,
)
def test_a_record_out_of_range_cannot_be_built(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        SamplingRecord(**wrong)  # type: ignore[arg-type]


def test_the_longest_record_fits_an_open() -> None:
    longest = SamplingRecord(
        MAX_TEMPERATURE, (1 << 32) - 1, MILLIONTHS, (1 << 53) - 1, (1 << 32) - 1, (b"x" * 256,) * 16
    )
    assert len(encode_sampling(longest)) <= 8192


def test_the_default_is_greedy() -> None:
    assert SamplingRecord().draw == Sampling()
    assert SamplingRecord().draw.greedy


def test_stop_strings_are_text_again() -> None:
    assert SamplingRecord(stops=(b"Ende", "Café".encode())).stop_texts == ("Ende", "Café")


def test_one_record_has_another_hash_under_another_secret() -> None:
    body = encode_sampling(SamplingRecord())
    assert params_hash(bytes(32), body) != params_hash(b"\1" * 32, body)
