"""A span computed by torch, operator by operator: on any device that torch has, in bf16 or f32."""

import socket
from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor

from p2pinfer.core.models.model_config import ModelConfig
from p2pinfer.core.sessions.pages import PAGE, Table
from p2pinfer.core.values.errors import ModelError
from p2pinfer.engine import codecs
from p2pinfer.engine.backend import NOTHING, Asked, Backend, Batch, Part, Result, TellProgress
from p2pinfer.engine.eager.cache import Cache
from p2pinfer.engine.eager.gpu_facts import obstacle
from p2pinfer.engine.eager.graphs import Graphs
from p2pinfer.engine.eager.layers import norm, run_layer
from p2pinfer.engine.eager.plan import plan_batch
from p2pinfer.engine.eager.replay import Recorder, Replayed
from p2pinfer.engine.eager.rope import Rope
from p2pinfer.engine.eager.weights import DTYPES, Weights, are_finite, load_weights
from p2pinfer.engine.inbox import Inbox, SocketInbox
from p2pinfer.engine.messages import ShardSpec
from p2pinfer.engine.native.codec import best_q8o4

WITHOUT: Final = -1  # no id, as the logits are not all finite


@torch.inference_mode()  # operators on tensors made so cost a twentieth less than without gradients alone
def load_eager(spec: ShardSpec, config: ModelConfig, progress: TellProgress, record: Recorder | None = None) -> "Eager":
    """A span's tensors, on their device.

    record: who records decode steps; None: CUDA graphs on a GPU, nobody elsewhere

    Raises ModelError for files that are not what the spec says, a device that is not there, too little memory.
    """
    torch.set_num_threads(spec.threads)
    device, dtype = _device(spec.device), DTYPES[spec.numerics]
    try:
        weights = load_weights(spec, config, device, progress)
        cache = Cache(config, len(spec.span), spec.pages, device, dtype)
        rope = Rope(config, min(config.shape.context, spec.pages * PAGE), device, dtype)
    except torch.OutOfMemoryError as error:
        raise ModelError(
            f"layers {spec.span} do not fit into {spec.device}, set serve.memory_mb lower: {error}"
        ) from None
    if record is None and device.type == "cuda":
        record = Graphs(device).record
    return Eager(config, weights, cache, rope, record)


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        why = obstacle(device) if device.type == "cuda" else ""
        if not why:
            torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was built for the device
        why = str(error)
    if why:
        raise ModelError(f"the device {name} cannot be used: {why}")
    return device


class Eager(Backend):
    """Tensors, and the layers they go through."""

    def __init__(
        self, config: ModelConfig, weights: Weights, cache: Cache, rope: Rope, record: Recorder | None
    ) -> None:
        """record: who records decode steps; None: each is computed operator by operator"""
        self._config = config
        self._weights = weights
        self._cache = cache
        self._rope = rope
        self._replayed = None if record is None else Replayed(config, weights.layers, cache, rope, record)
        self._device = rope.table.device
        self._dtype = rope.table.dtype
        self.kernel = weights.kernel
        self.weight_bytes = weights.bytes
        self.cache_bytes = cache.bytes
        self.q8o4 = best_q8o4()

    def open_session(self, slot: int, pages: Sequence[int]) -> Table:
        return Table(tuple(pages))  # plans read it anew for each batch

    def close_session(self, slot: int) -> None:
        """Nothing is held for a session."""

    def open_inbox(self, door: socket.socket) -> Inbox:
        return SocketInbox(door)

    @torch.inference_mode()
    def compute(self, batch: Batch) -> list[Result]:
        try:
            return self._compute(batch)
        except torch.OutOfMemoryError:
            raise MemoryError(f"no memory is left on {self._device}") from None

    def _compute(self, batch: Batch) -> list[Result]:
        hidden = self._hidden(batch)
        pieces = torch.split(hidden, [len(part.positions) for part in batch.parts])
        well = [True] * len(pieces) if are_finite(hidden) else [are_finite(rows) for rows in pieces]
        for part, good in zip(batch.parts, well, strict=True):
            if not good:
                self._forget(part)
        return self._logits(batch, pieces, well) if batch.tail else _rows(hidden, pieces, well)

    def _hidden(self, batch: Batch) -> Tensor:
        """Hidden states of all rows after the last layer: (rows, width).

        Steps that are looked at together read past each other's ends, masked; a value that is not finite gets through
        the mask. So where there is one, each step is computed again by itself, and only its own rows show it.
        """
        hidden = self._forward(batch.parts, batch.layers)
        if len(batch.parts) > 1 and not are_finite(hidden):
            hidden = torch.cat([self._forward([part], batch.layers) for part in batch.parts])
        return hidden

    def _forward(self, parts: Sequence[Part], layers: range) -> Tensor:
        given = torch.from_numpy(np.concatenate([part.given for part in parts]))
        if self._weights.embedding is not None and not layers.start:
            given = self._weights.embedding[given.to(self._weights.embedding.device)]
        hidden = given.to(self._device, self._dtype)
        if self._replayed is not None and self._replayed.takes(parts, layers):
            return self._replayed.compute(parts, hidden)
        plan = plan_batch(self._config, self._rope, self._cache.positions, parts)
        for number in layers:
            hidden = run_layer(self._config, self._weights.layers[number], number, hidden, plan, self._cache)
        return hidden

    def _forget(self, part: Part) -> None:
        """Leave no value in the pool that is not finite: it would reach later batches through their masks."""
        places = part.table.rows(part.positions.start, part.positions.stop)
        self._cache.clear(torch.tensor(places, device=self._device))

    def _logits(self, batch: Batch, pieces: Sequence[Tensor], well: Sequence[bool]) -> list[Result]:
        """Return the results that were asked for."""
        results: list[Result] = [NOTHING if good else None for good in well]
        asked = [at for at, part in enumerate(batch.parts) if part.asked is not Asked.NOTHING and well[at]]
        if not asked:
            return results
        assert self._weights.norm is not None and self._weights.head is not None
        rows = torch.stack([pieces[at][-1] for at in asked])
        logits = self._weights.head(norm(rows, self._weights.norm, self._config.norm_eps)).float()
        best = torch.where(torch.isfinite(logits).all(1), logits.argmax(1), WITHOUT)  # the first of equal ones
        for number, (at, id_) in enumerate(zip(asked, best.tolist(), strict=True)):
            if id_ == WITHOUT:
                results[at] = None
            else:
                results[at] = id_ if batch.parts[at].asked is Asked.BEST else logits[number].cpu().numpy()
        return results


def _rows(hidden: Tensor, pieces: Sequence[Tensor], well: Sequence[bool]) -> list[Result]:
    rows = _numpy(hidden)
    if len(pieces) == 1:  # one stream waits for every microsecond
        return [rows if well[0] else None]
    split = np.split(rows, np.cumsum([len(piece) for piece in pieces])[:-1])
    return [rows if good else None for rows, good in zip(split, well, strict=True)]


def _numpy(values: Tensor) -> codecs.Rows:
    array: codecs.Rows = values.float().cpu().numpy()
    return array
