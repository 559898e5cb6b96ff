"""The KV cache: one pool of positions per layer for all sessions; `core/sessions/pages.py` says whose they are."""

from math import prod

import numpy as np
import torch
from torch import Tensor

from p2pinfer.core.models.model_config import ModelConfig
from p2pinfer.core.sessions.pages import PAGE

PoolPlace = slice | Tensor  # positions of the pool: in one piece, or one by one


class Cache:
    """Keys and values of every layer: (1, key heads, positions, head size) each.

    The positions are the pool's, and a page more that no session has: rows that fill a batch up write there.
    """

    def __init__(self, config: ModelConfig, layers: int, pages: int, device: torch.device, dtype: torch.dtype) -> None:
        self.spare = pages
        shape = (1, config.shape.kv_heads, (pages + 1) * PAGE, config.shape.head_size)
        self._keys = [_zeros(shape, device, dtype) for _ in range(layers)]
        self._values = [_zeros(shape, device, dtype) for _ in range(layers)]

    @property
    def bytes(self) -> int:
        return sum(tensor.nbytes for tensor in (*self._keys, *self._values))

    def write(self, layer: int, places: Tensor, keys: Tensor, values: Tensor) -> None:
        """Store (positions, key heads, head size) each at the places given."""
        self._keys[layer].index_copy_(2, places, keys.transpose(0, 1)[None])
        self._values[layer].index_copy_(2, places, values.transpose(0, 1)[None])

    def read(self, layer: int, place: PoolPlace) -> tuple[Tensor, Tensor]:
        """Keys and values at a place: (1, key heads, positions, head size) each; one piece is not copied."""
        keys, values = self._keys[layer], self._values[layer]
        if isinstance(place, slice):
            length = place.stop - place.start
            return keys.narrow(2, place.start, length), values.narrow(2, place.start, length)
        return keys.index_select(2, place), values.index_select(2, place)

    def head_pages(self, pages: Tensor) -> Tensor:
        """Pages (sessions, pages) of each key head by itself, numbered throughout: (sessions, key heads, pages)."""
        heads = torch.arange(self._keys[0].shape[1], device=pages.device)
        return pages[:, None, :] + (heads * (self.spare + 1))[None, :, None]

    def read_pages(self, layer: int, pages: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values in `head_pages`, copied: (sessions, key heads, positions, head size) each."""
        return _paged(self._keys[layer], pages), _paged(self._values[layer], pages)

    def read_many(self, layer: int, start: int, distance: int, count: int, length: int) -> tuple[Tensor, Tensor]:
        """Several pieces of one length that begin at equal distances: (count, key heads, length, head size), no copy.

        What lies between a session's last position and the length is somebody's, and must be masked.
        """
        keys, values = self._keys[layer], self._values[layer]
        _, heads, _, size = keys.shape
        shape, strides = (count, heads, length, size), (distance * size, keys.stride(1), size, 1)
        return keys.as_strided(shape, strides, start * size), values.as_strided(shape, strides, start * size)

    def clear(self, places: Tensor) -> None:
        """Write zeros; masked values are multiplied by zero, which does no harm as long as they are finite."""
        for tensor in (*self._keys, *self._values):
            tensor.index_fill_(2, places, 0.0)

    @property
    def positions(self) -> int:
        """Of the pool."""
        return self.spare * PAGE


def _paged(pool: Tensor, pages: Tensor) -> Tensor:
    """A page of a head is one row: of few long rows, a GPU takes twice as many a second as of pages across heads."""
    size = pool.shape[3]
    return pool.view(-1, PAGE * size).index_select(0, pages.flatten()).view(*pages.shape[:2], -1, size)


def _zeros(shape: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    # numpy takes zeroed pages from the system: memory that no session has reached costs nothing
    return torch.from_numpy(np.zeros(prod(shape) * dtype.itemsize, np.uint8)).view(dtype).view(shape)
