"""The safetensors format, as far as models here use it: the files of a store, and those they are imported from.

Written by hand, because the bytes are part of a model's id and the library's change with its version: a length, a JSON
header that names each tensor's type, shape and place, then the tensors. Ours have no metadata, tensors in order of
their names, and bf16 only (manifest.md, 5.3).
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from p2pinfer.core.errors import ModelError
from p2pinfer.core.manifest import File
from p2pinfer.disk.importing.tensors import Bits, Tensor, to_bf16

MAX_HEADER: Final = 100_000_000  # bytes; the format's own limit
_NUMPY: Final[Mapping[str, np.dtype[Any]]] = {"BF16": np.dtype("<u2"), "F16": np.dtype("<f2"), "F32": np.dtype("<f4")}


def write_safetensors(path: Path, shapes: Mapping[str, tuple[int, ...]], read: Callable[[str], Bits]) -> File:
    """Write the file of these tensors, each read when its turn comes; its name, size and hash."""
    header, place = {}, 0
    for name in sorted(shapes):
        end = place + 2 * int(np.prod(shapes[name]))
        header[name] = {"dtype": "BF16", "shape": list(shapes[name]), "data_offsets": [place, end]}
        place = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    digest, size = hashlib.sha256(), 8 + len(text) + place
    with path.open("wb") as file:
        for part in (len(text).to_bytes(8, "little"), text):
            file.write(part)
            digest.update(part)
        for name in sorted(shapes):
            data = np.ascontiguousarray(read(name), dtype="<u2").data
            file.write(data)
            digest.update(data)
    return File(path.name, size, digest.digest())


def open_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, which stays open as long as one of them is used.

    Raises:
        ModelError: it is no safetensors file, or a part of one.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(MAX_HEADER, size - 8):
            raise ModelError(f"{path} is no safetensors file, or was cut short: {size} bytes")
        text = file.read(length)
    try:
        header = json.loads(text)
        header.pop("__metadata__", None)
        return {name: _tensor(path, 8 + length, size, name, entry) for name, entry in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"{path} has a header that cannot be read: {error}") from None


def _tensor(path: Path, start: int, size: int, name: str, entry: Mapping[str, object]) -> Tensor:
    shape, offsets, kind = entry["shape"], entry["data_offsets"], str(entry["dtype"])
    if not (isinstance(shape, list) and isinstance(offsets, list)):
        raise ValueError(f"{name} has no shape or no place")
    if kind not in _NUMPY:
        raise ModelError(f"{path}: {name} has values of {kind}, which is not supported; {', '.join(_NUMPY)} are")
    if any(type(number) is not int or number < 0 for number in [*shape, *offsets]) or len(offsets) != 2:
        raise ValueError(f"{name} has shape {shape} and place {offsets}")
    first, last = offsets
    if last - first != int(np.prod(shape, dtype=object)) * _NUMPY[kind].itemsize:
        raise ValueError(f"{name} has {last - first} bytes for shape {shape} of {kind}")
    if start + last > size:
        raise ModelError(f"{path} was cut short: {size} bytes, {name} ends at {start + last}")
    if not shape or 0 in shape:
        raise ValueError(f"{name} is empty")
    data = np.memmap(path, dtype=_NUMPY[kind], mode="r", offset=start + first, shape=tuple(shape))

    def rows(first: int, last: int) -> Bits:
        if kind == "BF16":
            return np.asarray(data[first:last])
        return to_bf16(np.ascontiguousarray(data[first:last], dtype=np.float32))

    return Tensor(tuple(shape), rows)
