"""The safetensors format, as far as models here use it: the files of a store, and those they are imported from.

Written by hand, because the bytes are part of a model's id and the library's change with its version: a length, a JSON
header that names each tensor's type, shape and place, then the tensors. Ours have no metadata, tensors in order of
their names, and bf16 only (manifest.md, 5.3).
"""

import hashlib
import json
import mmap
import os
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import Any, Final

import numpy as np

from p2pinfer.core.models.manifest import File
from p2pinfer.core.models.safetensors import LENGTH_BYTES, Extent, header_bytes, parse_header
from p2pinfer.core.values.errors import ModelError
from p2pinfer.disk.importing.tensors import Bits, Tensor, to_bf16
from p2pinfer.disk.plain import open_plain

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
    digest, size = hashlib.sha256(), LENGTH_BYTES + len(text) + place
    with path.open("wb") as file:
        for part in (len(text).to_bytes(LENGTH_BYTES, "little"), text):
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
    try:
        with open_plain(path) as file:
            size = os.fstat(file.fileno()).st_size
            places = parse_header(file.read(header_bytes(file.read(LENGTH_BYTES), size)), size)
            data = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)  # one for all: each holds the file open
    except ValueError as error:
        raise ModelError(f"{path}: {error}") from None
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from None
    return {name: _tensor(data, place) for name, place in places.items()}


def _tensor(file: mmap.mmap, place: Extent) -> Tensor:
    data = np.frombuffer(file, _NUMPY[place.kind], prod(place.shape), place.start).reshape(place.shape)

    def rows(first: int, last: int) -> Bits:
        if place.kind == "BF16":
            return np.asarray(data[first:last])
        return to_bf16(np.ascontiguousarray(data[first:last], dtype=np.float32))

    return Tensor(place.shape, rows)
