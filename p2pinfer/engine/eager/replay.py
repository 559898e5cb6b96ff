"""Decode steps that are recorded once for each bucket and then replayed: no dispatch of operators, step after step.

What a recording needs holds here on every device: inputs lie at fixed addresses, shapes depend on the bucket alone, and
nothing is read back in between. Who records is given: CUDA graphs (`graphs.py`), in tests a tape (`tape.py`).
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from p2pinfer.core.models.model_config import ModelConfig
from p2pinfer.core.sessions.pages import PAGE, pages_for
from p2pinfer.engine.backend import Part
from p2pinfer.engine.eager.attention import Paged, position_mask
from p2pinfer.engine.eager.buckets import Bucket, bucket_of
from p2pinfer.engine.eager.cache import Cache
from p2pinfer.engine.eager.layers import run_layer
from p2pinfer.engine.eager.plan import BatchLayout
from p2pinfer.engine.eager.rope import Rope
from p2pinfer.engine.eager.weights import Layer

Compute = Callable[[], Tensor]  # from inputs at fixed addresses
Recorder = Callable[[Compute], Compute]  # the same, recorded; where its result lies, the next one will


class Inputs:
    """The inputs of a bucket's step. A row that no session has is zero and has the spare page only."""

    def __init__(self, width: int, bucket: Bucket, spare: int, device: torch.device, dtype: torch.dtype) -> None:
        self.hidden = torch.zeros(bucket.rows, width, dtype=dtype, device=device)
        self.positions = torch.zeros(bucket.rows, dtype=torch.int64, device=device)
        self.pages = torch.full(bucket, spare, dtype=torch.int64, device=device)
        self._spare = spare

    def fill(self, parts: Sequence[Part], hidden: Tensor) -> None:
        """hidden: (parts, hidden size)"""
        positions, pages = np.zeros(len(self.positions), np.int64), np.full(self.pages.shape, self._spare, np.int64)
        for row, part in enumerate(parts):
            count = pages_for(part.positions.stop)
            positions[row] = part.positions.start
            pages[row, :count] = part.table.pages[:count]
        self.positions.copy_(torch.from_numpy(positions))
        self.pages.copy_(torch.from_numpy(pages))
        self.hidden[: len(parts)] = hidden
        self.hidden[len(parts) :] = 0.0


class Replayed:
    """A span's decode steps, through all of its layers."""

    def __init__(
        self, config: ModelConfig, layers: Sequence[Layer], cache: Cache, rope: Rope, record: Recorder
    ) -> None:
        self._config = config
        self._layers = layers
        self._cache = cache
        self._rope = rope
        self._record = record
        self._steps: dict[Bucket, tuple[Inputs, Compute]] = {}

    def takes(self, parts: Sequence[Part], layers: range) -> bool:
        """Return True if the steps fit into a bucket's shape; steps of some of the layers would need their own."""
        return len(layers) == len(self._layers) and bucket_of(parts) is not None

    def compute(self, parts: Sequence[Part], hidden: Tensor) -> Tensor:
        """Hidden states after the last layer: (parts, hidden size) in and out, of steps that are taken."""
        bucket = bucket_of(parts)
        assert bucket is not None, "steps that are not taken"
        if bucket not in self._steps:
            self._steps[bucket] = self._prepared(bucket)
        inputs, compute = self._steps[bucket]
        inputs.fill(parts, hidden)
        return compute()[: len(parts)].clone()  # the next step's result lies in the same place

    def _prepared(self, bucket: Bucket) -> tuple[Inputs, Compute]:
        """Recorded while no row is a session's, so that only the spare page is written."""
        table = self._rope.table
        inputs = Inputs(self._config.shape.hidden, bucket, self._cache.spare, table.device, table.dtype)
        return inputs, self._record(lambda: self._hidden(inputs))

    def _hidden(self, inputs: Inputs) -> Tensor:
        """Compute the step that is recorded."""
        plan, hidden = plan_rows(self._config, self._rope, self._cache, inputs), inputs.hidden
        for number, layer in enumerate(self._layers):
            hidden = run_layer(self._config, layer, number, hidden, plan, self._cache)
        return hidden


def plan_rows(config: ModelConfig, rope: Rope, cache: Cache, inputs: Inputs) -> BatchLayout:
    """The plan of a row for each session, from tensors alone."""
    at, pages = inputs.positions, inputs.pages
    places = pages.gather(1, (at // PAGE)[:, None])[:, 0] * PAGE + at % PAGE
    cos, sin = torch.split(rope.table.index_select(0, at), 1, 1)
    mask = position_mask(at, pages.shape[1] * PAGE, config.window, rope.table.dtype)
    return BatchLayout(places, cos, sin, (Paged(len(at), cache.head_pages(pages), mask),))
