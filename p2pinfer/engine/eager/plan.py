"""The plan of a batch: the places of its rows, computed once from integers and used by every layer."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from p2pinfer.core.models.model_config import ModelConfig
from p2pinfer.engine.backend import Part
from p2pinfer.engine.eager.attention import Looking, Reading, Together, causal_mask, length_mask
from p2pinfer.engine.eager.cache import PoolPlace
from p2pinfer.engine.eager.rope import Rope

WORTH: Final = 2  # times the positions that are looked at may be read to look at several sessions in one call


@dataclass(frozen=True, slots=True)
class BatchLayout:
    """Of every row of the batch: where it is stored, and its angles; of every step: what it looks at."""

    places: Tensor  # (rows), positions of the pool
    cos: Tensor  # (rows, 1, head size)
    sin: Tensor
    readings: tuple[Looking, ...]


def plan_batch(config: ModelConfig, rope: Rope, pool: int, parts: Sequence[Part]) -> BatchLayout:
    """The plan of steps whose rows follow one another, over a pool of so many positions."""
    device = rope.table.device
    places = [place for part in parts for place in part.table.rows(part.positions.start, part.positions.stop)]
    cos, sin = torch.split(_angles(rope, parts), 1, 1)
    readings = tuple(_readings(config, rope, pool, parts))
    return BatchLayout(torch.tensor(places, device=device), cos, sin, readings)


def _angles(rope: Rope, parts: Sequence[Part]) -> Tensor:
    """Of all rows: (rows, cosines and sines, head size)."""
    if len(parts) == 1:  # one stream waits for every microsecond
        return rope.table[parts[0].positions.start : parts[0].positions.stop]
    positions = torch.tensor([at for part in parts for at in part.positions], device=rope.table.device)
    return rope.table.index_select(0, positions)


def _readings(config: ModelConfig, rope: Rope, pool: int, parts: Sequence[Part]) -> Iterator[Reading | Together]:
    """Yield what the steps look at: neighbours together where they can."""
    device, dtype = rope.table.device, rope.table.dtype
    group = _Group(pool)
    for part in parts:
        place = _place(config, part, device)
        if isinstance(place, slice) and len(part.positions) == 1:
            if not group.add(place):
                yield group.reading(device, dtype)
                group = _Group(pool)
                group.add(place)
            continue
        if group.pieces:
            yield group.reading(device, dtype)
            group = _Group(pool)
        shared = config.shape.heads // config.shape.kv_heads
        mask = causal_mask(part.positions, _first(config, part), config.window, shared, device, dtype)
        yield Reading(len(part.positions), place, mask)
    if group.pieces:
        yield group.reading(device, dtype)


def _place(config: ModelConfig, part: Part, device: torch.device) -> PoolPlace:
    """Return what the part's rows look at, between them."""
    first = _first(config, part)
    start = part.table.run(part.positions.stop)
    if start is None:
        return torch.tensor(part.table.rows(first, part.positions.stop), device=device)
    return slice(start + first, start + part.positions.stop)


def _first(config: ModelConfig, part: Part) -> int:
    """The first position that the part's first row looks at."""
    return 0 if config.window is None else max(0, part.positions.start + 1 - config.window)


class _Group:
    """Pieces of the pool that single rows look at together: they begin at equal distances and end within the pool."""

    def __init__(self, pool: int) -> None:
        self.pieces: list[slice] = []
        self._pool = pool
        self._longest = 0  # positions
        self._sum = 0

    def add(self, piece: slice) -> bool:
        """Take one more piece; False where it does not fit. The first always does."""
        length = piece.stop - piece.start
        longest, total = max(self._longest, length), self._sum + length
        count = len(self.pieces) + 1
        if count > 1 and piece.start <= self.pieces[-1].start:
            return False
        if count > 2 and piece.start - self.pieces[-1].start != self._distance:
            return False
        if piece.start + longest > self._pool or longest * count > WORTH * total:
            return False
        self.pieces.append(piece)
        self._longest, self._sum = longest, total
        return True

    def reading(self, device: torch.device, dtype: torch.dtype) -> Reading | Together:
        """Return what the rows look at, as one."""
        if len(self.pieces) == 1:
            return Reading(1, self.pieces[0], None)
        lengths = [piece.stop - piece.start for piece in self.pieces]
        mask = length_mask(lengths, device, dtype)
        return Together(len(self.pieces), self.pieces[0].start, self._distance, self._longest, mask)

    @property
    def _distance(self) -> int:
        """Between the beginnings of two pieces."""
        distance: int = self.pieces[1].start - self.pieces[0].start
        return distance
