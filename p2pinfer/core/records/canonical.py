"""The one form a signed record may have: a flat msgpack array (protocols/receipts.md, "Encoding").

Elements are integers, bins, or flat arrays of integers; shortest encodings only, nothing after the end. msgpack itself
has many encodings of one value, which would give one record many ids. The kinds of fields, and `records.py`, say how
large integers may be and what the elements mean.
"""

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import msgpack

from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import RemoteProtocolError

MAX_RECORD_BYTES: Final = 1024
MAX_ITEMS: Final = 64  # of any one array; the longest record has 26

Item: TypeAlias = int | bytes | list[int]


def pack_array(items: Sequence[object]) -> bytes:
    """The canonical form of checked items; msgpack's writer is one that takes the shortest encodings."""
    data: bytes = msgpack.packb(list(items))
    return data


def unpack_array(data: bytes, max_bytes: int = MAX_RECORD_BYTES) -> list[Item]:
    """The items of a canonical array, which is flat but for arrays of integers.

    Raises RemoteProtocolError (BAD_RECORD) for anything else, whatever the bytes.
    """
    items: list[Any] = unpack_any(data, max_bytes)
    for item in items:
        _check_item(item)
    return items


def unpack_any(data: bytes, max_bytes: int, max_items: int = MAX_ITEMS, max_text: int = 0) -> list[Any]:
    """The items of an array in its one form, whatever they are; none is a map or an extension.

    max_items: of any one array
    max_text:  bytes of a text

    Raises RemoteProtocolError (BAD_RECORD) for anything else, whatever the bytes.
    """
    if len(data) > max_bytes:
        raise _bad(f"{len(data)} bytes, limit {max_bytes}")
    try:
        items = msgpack.unpackb(
            data, max_array_len=max_items, max_bin_len=max_bytes, max_str_len=max_text, max_map_len=0, max_ext_len=0
        )
        if type(items) is not list:
            raise ValueError("not an array")
        if pack_array(items) != data:
            raise ValueError("not the canonical encoding")
    # msgpack's errors are ValueErrors; deep nesting overflows its own stack or Python's
    except (ValueError, RecursionError, msgpack.StackError) as error:
        raise _bad(str(error) or type(error).__name__) from None
    return items


def check_version(items: list[Any], version: int) -> list[Any]:
    """The items after the version that an array begins with. Raises ValueError for another, or none."""
    if not items or type(items[0]) is not int or items[0] != version:
        raise ValueError(f"not an array that begins with version {version}")
    return items[1:]


def _check_item(item: object) -> None:
    """Types before anything that walks into an item, so that depth never exceeds 2."""
    if type(item) is list:
        if not all(_is_int(inner) for inner in item):
            raise _bad("an inner array holds something else than integers")
    elif type(item) is not bytes and not _is_int(item):
        raise _bad(f"an element is a {type(item).__name__}")


def _is_int(item: object) -> bool:
    return type(item) is int  # True is not 1


def _bad(why: str) -> RemoteProtocolError:
    return RemoteProtocolError(f"bad record: {why}", Code.BAD_RECORD)
