"""The header of a safetensors file: which tensor lies where (manifest.md, 5.3). Files are read by others."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Final

from p2pinfer.core.values.shown import brief, cut

LENGTH_BYTES: Final = 8  # the header's length, little-endian, before it
MAX_HEADER: Final = 16 << 20  # bytes; a tenth of the format's own limit, and ten times what the largest models have
MAX_DIMENSIONS: Final = 8  # of a tensor; weights have two
ITEM_BYTES: Final = {"BF16": 2, "F16": 2, "F32": 4}  # of the kinds that models here are stored in


@dataclass(frozen=True, slots=True)
class Extent:
    """The place of a tensor. start: bytes from the beginning of the file"""

    kind: str
    shape: tuple[int, ...]
    start: int


def header_bytes(beginning: bytes, size: int) -> int:
    """The length of the header of a file of `size` bytes, from its first LENGTH_BYTES.

    Raises ValueError if there is none.
    """
    length = int.from_bytes(beginning, "little")
    if size < LENGTH_BYTES or length > size - LENGTH_BYTES:
        raise ValueError(f"not a safetensors file, or cut short: {size} bytes")
    if length > MAX_HEADER:
        raise ValueError(f"a header of {length} bytes, limit {MAX_HEADER}")
    return length


def parse_header(text: bytes, size: int) -> dict[str, Extent]:
    """The tensors of a file of `size` bytes, by name.

    Raises ValueError for a header that is damaged, or promises more than the file has.
    """
    try:
        header = json.loads(text)
        header.pop("__metadata__", None)
        return {name: _place(name, entry, LENGTH_BYTES + len(text), size) for name, entry in header.items()}
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"a header that cannot be read: {cut(str(error))}") from None


def _place(name: str, entry: Mapping[str, object], start: int, size: int) -> Extent:
    shape, offsets, kind = entry["shape"], entry["data_offsets"], entry["dtype"]
    if not (isinstance(shape, list) and isinstance(offsets, list)):
        raise ValueError(f"{brief(name)} has no shape or no place")
    if not isinstance(kind, str) or kind not in ITEM_BYTES:
        raise ValueError(
            f"{brief(name)} has values of {brief(kind)}, which is not supported; {', '.join(ITEM_BYTES)} are"
        )
    if any(type(number) is not int or number < 0 for number in [*shape, *offsets]) or len(offsets) != 2:
        raise ValueError(f"{brief(name)} has shape {brief(shape)} and place {brief(offsets)}")
    first, last = offsets
    if not shape or 0 in shape:
        raise ValueError(f"{brief(name)} is empty")
    if len(shape) > MAX_DIMENSIONS or max(shape) > size:  # before they are multiplied
        raise ValueError(f"{brief(name)} has shape {brief(shape)}, in a file of {size} bytes")
    if last - first != prod(shape) * ITEM_BYTES[kind]:
        raise ValueError(f"{brief(name)} has {brief(last - first)} bytes for shape {brief(shape)} of {kind}")
    if start + last > size:
        raise ValueError(f"cut short: {size} bytes, {brief(name)} ends at {brief(start + last)}")
    return Extent(kind, tuple(shape), start + first)
