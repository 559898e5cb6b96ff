"""The store's tensors as numpy maps them: bfloat16 bits, read from the disk as they are used."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from p2pinfer.core.models.safetensors import LENGTH_BYTES, Extent, header_bytes, parse_header
from p2pinfer.core.values.errors import ModelError

Bits = NDArray[np.uint16]  # bfloat16


class TensorFiles:
    """The tensors of several safetensors files, by name."""

    def __init__(self, paths: Iterable[Path]) -> None:
        """Raises ModelError for a file that is missing or damaged."""
        self.bytes = 0
        self._places: dict[str, tuple[Path, Extent]] = {}
        for path in paths:
            try:
                size = path.stat().st_size
                with path.open("rb") as file:
                    places = parse_header(file.read(header_bytes(file.read(LENGTH_BYTES), size)), size)
            except OSError as error:
                raise ModelError(f"{path}: {error.strerror or error}") from None
            except ValueError as error:
                raise ModelError(f"{path} is damaged: {error}") from None
            self.bytes += size
            self._places |= {name: (path, place) for name, place in places.items()}

    def tensor(self, name: str, *shape: int) -> Bits:
        """A tensor, mapped from its file.

        Raises ModelError if it is missing, has another shape, or is not stored in bf16.
        """
        if name not in self._places:
            raise ModelError(f"the files hold no tensor {name}")
        path, place = self._places[name]
        if place.shape != shape:
            raise ModelError(f"the tensor {name} has the shape {place.shape}, the config says {shape}")
        if place.kind != "BF16":
            raise ModelError(f"the tensor {name} is stored in {place.kind}, not in BF16: import the model anew")
        return np.memmap(path, np.dtype("<u2"), "r", place.start, place.shape)


def widened(bits: Bits) -> NDArray[np.float32]:
    """The same values in float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)
