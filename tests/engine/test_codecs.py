"""Rows as wire bytes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import RemoteProtocolError
from p2pinfer.core.values.units import Codec, row_bytes
from p2pinfer.core.wire.session_messages import pack_ids
from p2pinfer.engine.codecs import Rows, decode, decode_each, decode_ids, encode, encode_each

ROW_CODECS = [Codec.F32, Codec.BF16, Codec.Q8O4]
FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)

some_rows = st.tuples(st.integers(1, 4), st.sampled_from([4, 63, 64, 65, 130])).flatmap(
    lambda shape: arrays(np.float32, shape, elements=FINITE)
)


@pytest.mark.parametrize("codec", ROW_CODECS)
@given(rows=some_rows)
def test_a_row_has_the_bytes_its_codec_says(codec: Codec, rows: Rows) -> None:
    assert len(encode(rows, codec)) == len(rows) * row_bytes(codec, rows.shape[1])


@pytest.mark.parametrize("codec", ROW_CODECS)
@given(rows=some_rows)
def test_positions_are_encoded_each_by_itself(codec: Codec, rows: Rows) -> None:
    assert encode(rows, codec) == b"".join(encode(row[None], codec) for row in rows)


@pytest.mark.parametrize("codec", ROW_CODECS)
@given(rows=some_rows)
def test_finite_rows_stay_finite(codec: Codec, rows: Rows) -> None:
    assert decode(encode(rows, codec), codec, rows.shape[1]).shape == rows.shape


@given(rows=some_rows)
def test_f32_loses_nothing(rows: Rows) -> None:
    np.testing.assert_array_equal(decode(encode(rows, Codec.F32), Codec.F32, rows.shape[1]), rows)


@given(rows=some_rows)
def test_bf16_is_encoded_again_to_the_same_bytes(rows: Rows) -> None:
    once = encode(rows, Codec.BF16)
    assert encode(decode(once, Codec.BF16, rows.shape[1]), Codec.BF16) == once


@pytest.mark.parametrize(
    ("value", "bits"),
    [
        (1.0, 0x3F80),
        (1.00390625, 0x3F80),  # halfway: to even
        (1.01171875, 0x3F82),  # halfway: to even
        (1.003907, 0x3F81),
        (-0.0, 0x8000),
        (1e-40, 0x0001),
        (3.4e38, 0x7F7F),  # would round to infinity
        (-3.4e38, 0xFF7F),
    ],
)
def test_bf16_rounds_to_nearest_even_and_never_to_infinity(value: float, bits: int) -> None:
    assert encode(np.array([[value]], np.float32), Codec.BF16) == bits.to_bytes(2, "little")


def q8o4(rows: Rows) -> tuple[np.ndarray, ...]:
    """values, scales, places, outliers of the first row."""
    width = rows.shape[1]
    groups = -(-width // 64)
    data = encode(rows, Codec.Q8O4)[: row_bytes(Codec.Q8O4, width)]
    at = [width, width + 2 * groups, width + 2 * groups + 8]
    return (
        np.frombuffer(data[: at[0]], np.int8),
        np.frombuffer(data[at[0] : at[1]], "<f2"),
        np.frombuffer(data[at[1] : at[2]], "<u2"),
        np.frombuffer(data[at[2] :], "<f2"),
    )


def test_q8o4_takes_the_largest_values_out_before_it_scales() -> None:
    row = np.zeros((1, 128), np.float32)
    row[0, [3, 70, 5, 9]] = [100, -200, 50, 25]
    row[0, [10, 100]] = [12.7, -1.27]
    values, scales, places, outliers = q8o4(row)
    assert places.tolist() == [3, 5, 9, 70]
    assert outliers.tolist() == [100, 50, 25, -200]
    assert scales.tolist() == [np.float16(0.1), np.float16(0.01)]
    assert values[[3, 5, 9, 70]].tolist() == [0, 0, 0, 0]
    assert values[[10, 100]].tolist() == [127, -127]


def test_q8o4_takes_the_first_of_equal_values() -> None:
    row = np.ones((1, 64), np.float32)
    row[0, 1] = -1
    _, _, places, outliers = q8o4(row)
    assert places.tolist() == [0, 1, 2, 3]
    assert outliers.tolist() == [1, -1, 1, 1]


def test_q8o4_rounds_halves_to_even() -> None:
    row = np.zeros((1, 64), np.float32)
    row[0, :4] = 1000
    row[0, 4:9] = [127, 0.5, 1.5, 2.5, -2.5]
    values, scales, _, _ = q8o4(row)
    assert scales.tolist() == [1]
    assert values[4:9].tolist() == [127, 0, 2, 2, -2]


def test_q8o4_writes_a_group_too_small_for_a_scale_as_zeros() -> None:
    row = np.full((1, 64), 1e-7, np.float32)
    row[0, :4] = 1
    values, scales, _, _ = q8o4(row)
    assert scales.tolist() == [0]
    assert not values.any()


def test_q8o4_holds_values_too_large_for_its_floats_at_the_largest() -> None:
    row = np.full((1, 64), 1e20, np.float32)
    values, scales, _, outliers = q8o4(row)
    assert outliers.tolist() == [65504] * 4
    assert scales.tolist() == [65504]
    assert values[4:].tolist() == [127] * 60


@given(rows=some_rows.filter(lambda rows: np.abs(rows).max() < 60000))
def test_q8o4_is_within_a_step_of_every_value(rows: Rows) -> None:
    width = rows.shape[1]
    restored = decode(encode(rows, Codec.Q8O4), Codec.Q8O4, width)
    for first in range(0, width, 64):
        group = np.sort(np.abs(rows[:, first : first + 64]), 1)
        # half a step of the largest value that may have stayed, the rounding of the scale, and f16's own rounding
        step = np.float32(group[:, -1:]) / 127
        allowed = step * 0.5 + np.abs(rows[:, first : first + 64]) * 2**-10 + 127 * 2**-24
        assert (np.abs(restored[:, first : first + 64] - rows[:, first : first + 64]) <= allowed * 1.01).all()


@pytest.mark.parametrize("codec", ROW_CODECS)
@given(data=st.binary(max_size=700), width=st.sampled_from([4, 64, 65, 130]))
def test_any_bytes_decode_to_finite_rows_or_are_refused(codec: Codec, data: bytes, width: int) -> None:
    try:
        rows = decode(data, codec, width)
    except RemoteProtocolError as error:
        assert error.code is Code.BAD_VALUES
    else:
        assert np.isfinite(rows).all()


@pytest.mark.parametrize("codec", ROW_CODECS)
@given(count=st.integers(1, 3), seed=st.randoms(use_true_random=False))
def test_any_bytes_of_the_right_length_decode_to_finite_rows_or_are_refused(
    codec: Codec, count: int, seed: "st.DrawFn"
) -> None:
    data = seed.randbytes(count * row_bytes(codec, 70))
    try:
        rows = decode(data, codec, 70)
    except RemoteProtocolError as error:
        assert error.code is Code.BAD_VALUES
    else:
        assert rows.shape == (count, 70)


def altered(codec: Codec, at: int, new: bytes) -> bytes:
    """A good row of width 64 with some bytes replaced."""
    row = np.linspace(-1, 1, 64, dtype=np.float32)[None]
    data = bytearray(encode(row, codec))
    data[at : at + len(new)] = new
    return bytes(data)


BAD = {
    "an infinite f32": (Codec.F32, 0, b"\x00\x00\x80\x7f"),
    "a NaN in f32": (Codec.F32, 8, b"\x01\x00\x80\x7f"),
    "an infinite bf16": (Codec.BF16, 2, b"\x80\x7f"),
    "a NaN in bf16": (Codec.BF16, 2, b"\xc0\xff"),
    "a value of -128": (Codec.Q8O4, 17, b"\x80"),
    "an infinite scale": (Codec.Q8O4, 64, b"\x00\x7c"),
    "a negative scale": (Codec.Q8O4, 64, b"\x00\xbc"),
    "a place outside the row": (Codec.Q8O4, 66 + 6, b"\x40\x00"),
    "a place twice": (Codec.Q8O4, 66, b"\x05\x00\x05\x00"),
    "places that descend": (Codec.Q8O4, 66, b"\x05\x00\x04\x00"),
    "a NaN among the largest": (Codec.Q8O4, 74, b"\x01\x7e"),
}


@pytest.mark.parametrize("name", BAD)
def test_values_out_of_order_are_refused(name: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        decode(altered(*BAD[name]), BAD[name][0], 64)
    assert caught.value.code is Code.BAD_VALUES


@pytest.mark.parametrize("codec", ROW_CODECS)
@pytest.mark.parametrize("change", [-1, 1])
def test_a_row_with_a_byte_too_few_or_too_many_is_refused(codec: Codec, change: int) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        decode(bytes(row_bytes(codec, 64) + change), codec, 64)
    assert caught.value.code is Code.BAD_VALUES


def test_ids_are_four_bytes_each_and_in_the_vocabulary() -> None:
    assert decode_ids(pack_ids([0, 258, 65536]), 65537).tolist() == [0, 258, 65536]


@pytest.mark.parametrize("data", [b"", bytes(5), pack_ids([7, 10])])
def test_ids_that_are_none_are_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        decode_ids(data, 10)
    assert caught.value.code is Code.BAD_VALUES


def test_several_steps_are_encoded_and_decoded_as_each_alone() -> None:
    rows = np.random.default_rng(1).standard_normal((6, 64), np.float32)
    parts = [(rows[:2], Codec.Q8O4), (rows[2:3], Codec.BF16), (rows[3:], Codec.Q8O4)]
    data = encode_each(parts)
    assert data == [encode(*part) for part in parts]
    decoded = decode_each([(one, codec) for one, (_, codec) in zip(data, parts, strict=True)], 64, 10)
    for one, item, (_, codec) in zip(data, decoded, parts, strict=True):
        assert not isinstance(item, RemoteProtocolError)
        np.testing.assert_array_equal(item, decode(one, codec, 64))


def test_bad_bytes_among_several_steps_are_refused_alone() -> None:
    good = encode(np.ones((2, 64), np.float32), Codec.BF16)
    decoded = decode_each([(good, Codec.BF16), (good[:-1], Codec.BF16), (b"", Codec.BF16)], 64, 10)
    assert [isinstance(item, RemoteProtocolError) for item in decoded] == [False, True, True]


def test_lengths_that_are_wrong_do_not_make_up_for_each_other() -> None:
    data = encode(np.ones((2, 64), np.float32), Codec.BF16)
    decoded = decode_each([(data[:100], Codec.BF16), (data[100:], Codec.BF16)], 64, 10)
    assert [isinstance(item, RemoteProtocolError) for item in decoded] == [True, True]
