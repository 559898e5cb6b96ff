"""The GGUF format, version 2 and 3: a file's metadata and where its tensors are.

The gguf package reads it too, but takes seconds for a vocabulary and believes every length in the file; here each is
held against the bytes that are left. The package knows what a quantised tensor means (`gguf.quants`).
"""

import mmap
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Final

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize
from numpy.typing import NDArray

from p2pinfer.core.models.bf16 import Bits, to_bf16
from p2pinfer.core.values.errors import ModelError
from p2pinfer.core.values.shown import brief, cut
from p2pinfer.disk.importing.tensors import Tensor
from p2pinfer.disk.plain import open_plain

MAGIC: Final = b"GGUF"
VERSIONS: Final = (2, 3)
MAX_GGUF_DIMENSIONS: Final = 4
MAX_GGUF_ITEMS: Final = 1 << 23  # that a header announces: keys, tensors, values; large vocabularies have under 1 M
STRING: Final = 8
ARRAY: Final = 9
# the format's number of a scalar type -> struct's letter for it
SCALARS: Final = dict(enumerate("BbHhIif?")) | {10: "Q", 11: "q", 12: "d"}

Value = str | int | float | bool | list["Value"]


@dataclass(frozen=True, slots=True)
class Gguf:
    """A file's metadata by key and its tensors by name, as llama.cpp calls them."""

    path: Path
    values: dict[str, Value]
    tensors: dict[str, Tensor]


def open_gguf(path: Path) -> Gguf:
    """Read everything but the tensors' values; the file stays open as long as one of them is used.

    Raises:
        ModelError: it is no GGUF file, a part of one, or has types nobody knows.
    """
    try:
        with open_plain(path) as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except ValueError:
        raise ModelError(f"{path} is empty") from None
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from None
    reader = _Reader(data)
    try:
        values, entries = _header(reader)
    except _Short:
        raise ModelError(f"{path} was cut short: {len(data)} bytes") from None
    except ValueError as error:
        raise ModelError(f"{path} cannot be read as GGUF: {cut(str(error))}") from None
    alignment = values.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment <= 0 or alignment % 8:
        raise ModelError(f"{path} cannot be read as GGUF: alignment {brief(alignment)}")
    start = -(-reader.place // alignment) * alignment
    return Gguf(path, values, {entry.name: _tensor(path, data, start, entry) for entry in entries})


class _Short(Exception):
    """The bytes end before what they announce."""


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    shape: tuple[int, ...]  # the slowest index first
    kind: GGMLQuantizationType
    offset: int


class _Reader:
    def __init__(self, data: mmap.mmap) -> None:
        self.data = data
        self.place = 0
        self.items = 0

    def count(self) -> int:
        """The number of items that follow. Each takes more memory than bytes of the file, so all are bounded."""
        count = self.number("Q")
        if count > len(self.data):
            raise _Short
        self.items += count
        if self.items > MAX_GGUF_ITEMS:
            raise ValueError(f"more than {MAX_GGUF_ITEMS} items in its header")
        return count

    def take(self, size: int) -> bytes:
        if size > len(self.data) - self.place:
            raise _Short
        self.place += size
        return self.data[self.place - size : self.place]

    def number(self, letter: str) -> int:
        (value,) = struct.unpack(f"<{letter}", self.take(struct.calcsize(letter)))
        return int(value)

    def text(self) -> str:
        return self.take(self.number("Q")).decode()

    def value(self, kind: int) -> Value:
        if kind == STRING:
            return self.text()
        if kind == ARRAY:
            return self.array()
        if kind not in SCALARS:
            raise ValueError(f"a value of type {kind}")
        (value,) = struct.unpack(f"<{SCALARS[kind]}", self.take(struct.calcsize(SCALARS[kind])))
        result: Value = value
        return result

    def array(self) -> Value:
        kind, count = self.number("I"), self.count()
        if kind in SCALARS:
            letters = f"<{count}{SCALARS[kind]}"
            return list(struct.unpack(letters, self.take(struct.calcsize(letters))))
        if kind != STRING:
            raise ValueError(f"an array of type {kind}")
        return [self.text() for _ in range(count)]


def _header(reader: _Reader) -> tuple[dict[str, Value], list[_Entry]]:
    if reader.take(4) != MAGIC:
        raise ValueError("it does not begin with GGUF")
    version = reader.number("I")
    if version not in VERSIONS:
        raise ValueError(f"version {version}, known are {VERSIONS}")
    tensors, pairs = reader.count(), reader.count()
    values: dict[str, Value] = {}
    for _ in range(pairs):
        key = reader.text()
        values[key] = reader.value(reader.number("I"))
    entries = [_entry(reader) for _ in range(tensors)]
    if len({entry.name for entry in entries}) < len(entries):
        raise ValueError("two tensors have one name")
    return values, entries


def _entry(reader: _Reader) -> _Entry:
    name, dimensions = reader.text(), reader.number("I")
    if not 1 <= dimensions <= MAX_GGUF_DIMENSIONS:
        raise ValueError(f"{brief(name)} has {dimensions} dimensions")
    shape = tuple(reversed([reader.number("Q") for _ in range(dimensions)]))
    kind = GGMLQuantizationType(reader.number("I"))
    if 0 in shape or kind not in GGML_QUANT_SIZES:
        raise ValueError(f"{brief(name)} is empty, or of the unknown kind {kind.name}")
    return _Entry(name, shape, kind, reader.number("Q"))


def _tensor(path: Path, data: mmap.mmap, start: int, entry: _Entry) -> Tensor:
    values, size = GGML_QUANT_SIZES[entry.kind]
    width = prod(entry.shape[1:])  # of a row; 1 for a vector, which is never quantised
    if width % values:
        raise ModelError(
            f"{path}: {brief(entry.name)} has {width} values a row, {entry.kind.name} takes {values} at a time"
        )
    row, place = width * size // values, start + entry.offset
    if place + entry.shape[0] * row > len(data):
        raise ModelError(
            f"{path} was cut short: {len(data)} bytes, {brief(entry.name)} ends at {place + entry.shape[0] * row}"
        )

    def rows(first: int, last: int) -> Bits:
        raw = np.frombuffer(data, np.uint8, (last - first) * row, place + first * row)
        return _values(raw.reshape(last - first, row), entry).reshape(last - first, *entry.shape[1:])

    return Tensor(entry.shape, rows)


def _values(raw: NDArray[np.uint8], entry: _Entry) -> Bits:
    if entry.kind == GGMLQuantizationType.BF16:
        return raw.view("<u2")
    try:
        with np.errstate(all="ignore"):  # what a damaged scale makes of its values is found by check_finite
            return to_bf16(np.ascontiguousarray(dequantize(raw, entry.kind), dtype=np.float32))
    except NotImplementedError:
        raise ModelError(f"{brief(entry.name)} is quantised as {entry.kind.name}, which is not supported") from None
