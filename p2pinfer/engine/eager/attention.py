"""Attention over the paged KV cache: each step's rows look at their own session's positions and at no others.

A step of several rows is one call over a view of the pool where its pages are consecutive, over a copy where they are
not. Steps of one row whose sessions lie at equal distances, as sessions of one size do, are one call together. Where a
step must have the same shape whatever sessions it is of, pages are gathered by their table.
Query heads that share a key head are folded into rows, so that keys are read once and never repeated.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from p2pinfer.engine.eager.cache import Cache, PoolPlace


@dataclass(frozen=True, slots=True)
class Reading:
    """The cache that the rows of one step look at.

    count: rows of the step
    place: positions of the pool, the step's own last
    mask:  (rows x queries per key head, positions), added to scores; None where every row sees every position
    """

    count: int
    place: PoolPlace
    mask: Tensor | None


@dataclass(frozen=True, slots=True)
class Together:
    """The cache that single rows of several sessions look at: pieces of the pool, equally far apart.

    All are as long as the longest.

    mask: (rows, 1, 1, length), added to scores
    """

    count: int
    start: int
    distance: int
    length: int
    mask: Tensor


@dataclass(frozen=True, slots=True)
class Paged:
    """The cache that single rows of several sessions look at, wherever it lies; of each session as many pages.

    count: rows
    pages: (rows, key heads, pages), as `Cache.head_pages` counts them
    mask:  (rows, 1, 1, positions in the pages), added to scores
    """

    count: int
    pages: Tensor
    mask: Tensor


Looking = Reading | Together | Paged


def attend(queries: Tensor, cache: Cache, layer: int, readings: Sequence[Looking]) -> Tensor:
    """(rows, heads, head size) -> (rows, heads x head size); the rows of readings follow one another."""
    if len(readings) == 1:
        return _look(queries, cache, layer, readings[0])
    pieces = torch.split(queries, [reading.count for reading in readings])
    return torch.cat([_look(rows, cache, layer, reading) for rows, reading in zip(pieces, readings, strict=True)])


def causal_mask(
    positions: range, first: int, window: int | None, shared: int, device: torch.device, dtype: torch.dtype
) -> Tensor | None:
    """The mask of a step's rows over the positions from `first` on; None where one row sees them all.

    positions: of the step's rows
    window:    positions each row sees, its own included; None: all before it
    shared:    query heads per key head
    """
    if len(positions) == 1:
        return None  # `first` is within its window
    own = torch.arange(positions.start, positions.stop, device=device)[:, None]
    seen = torch.arange(first, positions.stop, device=device)[None, :]
    hidden = seen > own
    if window is not None:
        hidden |= seen <= own - window
    return _mask(hidden, dtype).repeat_interleave(shared, 0)


def position_mask(positions: Tensor, length: int, window: int | None, dtype: torch.dtype) -> Tensor:
    """The mask of single rows at these positions (rows), over `length` positions from 0 on: (rows, 1, 1, length)."""
    own, seen = positions[:, None], torch.arange(length, device=positions.device)[None, :]
    hidden = seen > own
    if window is not None:
        hidden |= seen <= own - window
    return _mask(hidden, dtype)[:, None, None]


def length_mask(lengths: Sequence[int], device: torch.device, dtype: torch.dtype) -> Tensor:
    """The mask of single rows that see so many positions each: (rows, 1, 1, the most positions)."""
    seen = torch.arange(max(lengths), device=device)[None, :]
    return _mask(seen >= torch.tensor(lengths, device=device)[:, None], dtype)[:, None, None]


def _mask(hidden: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill_(hidden, float("-inf"))


def _look(rows: Tensor, cache: Cache, layer: int, reading: Looking) -> Tensor:
    count, _, size = rows.shape
    keys, values = _seen(cache, layer, reading)
    grouped = rows.reshape(count, keys.shape[1], -1, size)  # (rows, key heads, queries per key head, head size)
    if len(keys) == count:  # a row for each session
        return F.scaled_dot_product_attention(grouped, keys, values, attn_mask=reading.mask).reshape(count, -1)
    folded = grouped.transpose(0, 1).reshape(1, keys.shape[1], -1, size)  # (1, key heads, rows x queries, head size)
    seen = F.scaled_dot_product_attention(folded, keys, values, attn_mask=reading.mask)
    return seen.reshape(keys.shape[1], count, -1, size).transpose(0, 1).reshape(count, -1)


def _seen(cache: Cache, layer: int, reading: Looking) -> tuple[Tensor, Tensor]:
    """Keys and values: (sessions, key heads, positions, head size) each."""
    match reading:
        case Together(count, start, distance, length):
            return cache.read_many(layer, start, distance, count, length)
        case Paged(_, pages):
            return cache.read_pages(layer, pages)
        case Reading(_, place):
            return cache.read(layer, place)
