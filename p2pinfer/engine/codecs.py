"""Rows of hidden states as wire bytes, and back (protocols/inference.md, "Codecs").

Rows are float32 in memory, whatever the numerics class. Each position is encoded by itself, elementwise and with
round to nearest even, so that the same rows give the same bytes on every machine and in every batch.
"""

from collections.abc import Sequence
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from p2pinfer.core.models.bf16 import Bits, to_bf16, widened
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import RemoteProtocolError
from p2pinfer.core.values.units import Q8O4_GROUP, Q8O4_OUTLIERS, Codec, row_bytes

Rows = NDArray[np.float32]  # (positions, width)
Ids = NDArray[np.int64]  # (positions)
Input = Rows | Ids

MAX_F16: Final = 65504.0
MAX_BF16_BITS: Final = 0x7F7F  # the largest finite bfloat16
FULL: Final = 127  # int8 of the largest value in a group
F16_INFINITY: Final = 0x7C00  # bits; those of finite numbers that are not negative lie below
F16_MAGNITUDE: Final = 0x7FFF  # the bits beside the sign


class Q8O4(Protocol):
    """A writer and reader of q8o4; a native kernel does it in a tenth of numpy's time."""

    def encode(self, rows: Rows) -> bytes:
        """The wire bytes of finite rows."""

    def decode(self, data: bytes, width: int) -> Rows:
        """The rows that wire bytes of whole rows stand for.

        Raises RemoteProtocolError (BAD_VALUES).
        """


class NumpyQ8O4(Q8O4):
    """The reference."""

    def encode(self, rows: Rows) -> bytes:
        return _to_q8o4(rows).tobytes()

    def decode(self, data: bytes, width: int) -> Rows:
        wire = np.frombuffer(data, np.uint8).reshape(-1, row_bytes(Codec.Q8O4, width))
        return _from_q8o4(wire, width)


NUMPY: Final = NumpyQ8O4()


def encode(rows: Rows, codec: Codec, q8o4: Q8O4 = NUMPY) -> bytes:
    """The wire bytes of finite rows, `row_bytes(codec, width)` for each position."""
    match codec:
        case Codec.F32:
            return rows.astype("<f4", copy=False).tobytes()
        case Codec.BF16:
            return _to_bf16(rows).tobytes()
        case Codec.Q8O4:
            return q8o4.encode(rows)
        case Codec.IDS:
            raise ValueError("ids are not rows")


def decode(data: bytes, codec: Codec, width: int, q8o4: Q8O4 = NUMPY) -> Rows:
    """The rows that wire bytes stand for; all values are finite.

    Raises RemoteProtocolError (BAD_VALUES) for a length that holds no whole number of rows, and for values that
    are not finite or not in their place.
    """
    size = row_bytes(codec, width)
    if not data or len(data) % size:
        raise RemoteProtocolError(f"{len(data)} bytes are no rows of {size} bytes", Code.BAD_VALUES)
    match codec:
        case Codec.F32:
            return _finite(np.frombuffer(data, "<f4").reshape(-1, width).astype(np.float32))
        case Codec.BF16:
            return _finite(widened(np.frombuffer(data, "<u2").reshape(-1, width)))
        case Codec.Q8O4:
            return q8o4.decode(data, width)
        case Codec.IDS:
            raise ValueError("ids are not rows")


def decode_ids(data: bytes, vocabulary: int) -> Ids:
    """The ids that wire bytes stand for, u32be each.

    Raises RemoteProtocolError (BAD_VALUES) for a length that holds no whole number of ids, and for an id that the
    model does not have.
    """
    if not data or len(data) % row_bytes(Codec.IDS, 0):
        raise RemoteProtocolError(f"{len(data)} bytes are no ids of 4 bytes", Code.BAD_VALUES)
    ids = np.frombuffer(data, ">u4").astype(np.int64)
    if ids.max() >= vocabulary:
        raise RemoteProtocolError(f"id {ids.max()} in a vocabulary of {vocabulary}", Code.BAD_VALUES)
    return ids


def encode_each(parts: Sequence[tuple[Rows, Codec]], q8o4: Q8O4 = NUMPY) -> list[bytes]:
    """Encode the rows of several steps, with one call per codec."""
    if len(parts) == 1:  # one stream waits for every microsecond
        return [encode(*parts[0], q8o4)]
    encoded: dict[int, bytes] = {}
    for codec in {codec for _, codec in parts}:
        chosen = [at for at, (_, other) in enumerate(parts) if other is codec]
        rows = np.concatenate([parts[at][0] for at in chosen])
        data, size, first = encode(rows, codec, q8o4), row_bytes(codec, rows.shape[1]), 0
        for at in chosen:
            last = first + len(parts[at][0]) * size
            encoded[at] = data[first:last]
            first = last
    return [encoded[at] for at in range(len(parts))]


def decode_each(
    parts: Sequence[tuple[bytes, Codec]], width: int, vocabulary: int, q8o4: Q8O4 = NUMPY
) -> list[Input | RemoteProtocolError]:
    """Decode the bytes of several steps, with one call per codec where all are well; an error stands for its step."""
    if len(parts) == 1:
        return [_decoded(*parts[0], width, vocabulary, q8o4)]
    decoded: dict[int, Input | RemoteProtocolError] = {}
    for codec in {codec for _, codec in parts}:
        chosen = [at for at, (_, other) in enumerate(parts) if other is codec]
        counts = [len(parts[at][0]) // row_bytes(codec, width) for at in chosen]
        together = _decoded(b"".join(parts[at][0] for at in chosen), codec, width, vocabulary, q8o4)
        if isinstance(together, RemoteProtocolError) or sum(counts) != len(together) or not all(counts):
            decoded |= {at: _decoded(*parts[at], width, vocabulary, q8o4) for at in chosen}
        else:
            lasts = np.cumsum(counts)
            decoded |= {
                at: together[last - count : last] for at, count, last in zip(chosen, counts, lasts, strict=True)
            }
    return [decoded[at] for at in range(len(parts))]


def _decoded(data: bytes, codec: Codec, width: int, vocabulary: int, q8o4: Q8O4) -> Input | RemoteProtocolError:
    try:
        return decode_ids(data, vocabulary) if codec is Codec.IDS else decode(data, codec, width, q8o4)
    except RemoteProtocolError as error:
        return error


def _to_bf16(rows: Rows) -> Bits:
    """Round to nearest even; what would round to infinity becomes the largest finite value."""
    rounded = to_bf16(np.ascontiguousarray(rows, np.float32))
    wire: Bits = ((rounded & 0x8000) | np.minimum(rounded & 0x7FFF, MAX_BF16_BITS)).astype("<u2")
    return wire


def _to_q8o4(rows: Rows) -> NDArray[np.uint8]:
    """int8 in groups of 64 with f16 scales, and the 4 largest values of the row in f16."""
    count, width = rows.shape
    padded = _padded(rows)
    magnitudes = np.abs(padded)
    at = _largest(magnitudes, width)
    outliers = padded[at].clip(-MAX_F16, MAX_F16).astype("<f2").reshape(count, -1)
    padded[at] = magnitudes[at] = 0.0
    most = magnitudes.reshape(count, -1, Q8O4_GROUP).max(2)  # (positions, groups)
    scales = np.minimum(most / np.float32(FULL), np.float32(MAX_F16)).astype("<f2")
    steps = scales.astype(np.float32)
    steps[steps == 0] = np.inf  # a group whose scale rounded to zero is written as zeros
    grouped = padded.reshape(count, -1, Q8O4_GROUP)
    grouped /= steps[:, :, None]
    values = np.rint(padded, out=padded).clip(-FULL, FULL).astype(np.int8)
    places = at[1].astype("<u2").reshape(count, -1)
    parts = (scales, places, outliers)
    return np.concatenate([values.view(np.uint8)[:, :width], *(part.view(np.uint8) for part in parts)], 1)


def _from_q8o4(wire: NDArray[np.uint8], width: int) -> Rows:
    count, groups = len(wire), -(-width // Q8O4_GROUP)
    rest = np.ascontiguousarray(wire[:, width:]).view("<u2")  # f16 scales, places, f16 outliers
    scales, places, outliers = (
        rest[:, :groups],
        rest[:, groups : groups + Q8O4_OUTLIERS],
        rest[:, groups + Q8O4_OUTLIERS :],
    )
    values = wire[:, :width].view(np.int8)
    if values.min() < -FULL:
        raise RemoteProtocolError("a value of -128, the smallest is -127", Code.BAD_VALUES)
    if (places[:, 1:] <= places[:, :-1]).any() or places[:, -1].max() >= width:
        raise RemoteProtocolError("places of the largest values do not ascend within the row", Code.BAD_VALUES)
    if scales.max() >= F16_INFINITY or (outliers & F16_MAGNITUDE).max() >= F16_INFINITY:
        raise RemoteProtocolError("a scale or value is not finite, or a scale is negative", Code.BAD_VALUES)
    padded = _padded(values)
    grouped = padded.reshape(count, groups, Q8O4_GROUP)
    grouped *= scales.view("<f2").astype(np.float32)[:, :, None]
    padded[np.arange(count)[:, None], places] = outliers.view("<f2")
    return np.ascontiguousarray(padded[:, :width])


def _largest(magnitudes: Rows, width: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and places of each row's 4 largest magnitudes, ascending; of equal ones the first count as larger.

    What lies beyond the width is zero.
    """
    least = np.partition(magnitudes, -Q8O4_OUTLIERS, 1)[:, -Q8O4_OUTLIERS, None]
    rows, places = np.nonzero(magnitudes >= least)
    if len(places) == Q8O4_OUTLIERS * len(magnitudes):
        return rows, places
    order = np.argsort(-magnitudes[:, :width], 1, kind="stable")[:, :Q8O4_OUTLIERS]  # some are equal
    return np.repeat(np.arange(len(magnitudes)), Q8O4_OUTLIERS), np.sort(order, 1).ravel()


def _padded(values: NDArray[np.float32] | NDArray[np.int8]) -> Rows:
    """A copy as float32, the last group of 64 filled with zeros: (positions, groups x 64)."""
    count, width = values.shape
    padded = np.zeros((count, -(-width // Q8O4_GROUP) * Q8O4_GROUP), np.float32)
    padded[:, :width] = values
    return padded


def _finite(rows: Rows) -> Rows:
    if not np.isfinite(rows).all():
        raise RemoteProtocolError("rows hold values that are not finite", Code.BAD_VALUES)
    return rows
