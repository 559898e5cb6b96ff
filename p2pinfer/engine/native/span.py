"""A span computed by the native kernel: filled from the store's files, stepped with whole batches."""

import ctypes
import socket
from collections.abc import Sequence

import numpy as np

from p2pinfer.core.models.bf16 import Bits, widened
from p2pinfer.core.models.model_config import ModelConfig
from p2pinfer.core.sessions.pages import PAGE
from p2pinfer.core.values.errors import EngineError, ModelError
from p2pinfer.core.values.units import Numerics, Roles
from p2pinfer.engine import codecs
from p2pinfer.engine.backend import NOTHING, Asked, Backend, Batch, Part, Result, TellProgress
from p2pinfer.engine.files import Files
from p2pinfer.engine.inbox import Inbox
from p2pinfer.engine.messages import CPU, ShardSpec
from p2pinfer.engine.native.codec import NativeQ8O4
from p2pinfer.engine.native.kernel import Capacity, Kernel
from p2pinfer.engine.native.library import instruction_sets, open_library
from p2pinfer.engine.native.serving import SessionTable
from p2pinfer.engine.native.shapes import unsupported
from p2pinfer.engine.native.weights import fill


def load_native(
    spec: ShardSpec,
    config: ModelConfig,
    progress: TellProgress,
    library: ctypes.CDLL | None = None,
    instructions: str = "",
) -> "Native":
    """A loaded span; of another build of the kernel, or with other instructions than the fastest, if they are given.

    Raises ModelError for files that are not what the spec says, a model or a machine that the kernel cannot serve, and
    too little memory.
    """
    if spec.device != CPU:
        raise ModelError(f"the class {spec.numerics.label} is computed by the CPU, not by {spec.device}")
    if why := unsupported(config):
        raise ModelError(f"the native kernel cannot compute this model: {why}; serve.numerics = bf16-1 can")
    if spec.span.last > config.shape.layers:
        raise ModelError(f"layers {spec.span} of a model that has {config.shape.layers}")
    files = Files(spec.files)
    try:
        library = library or open_library()
        positions = min(config.shape.context, spec.pages * PAGE)
        kv_bytes = 1 if spec.numerics is Numerics.I8G32K8_1 else 2
        kernel = Kernel(
            library,
            config,
            Capacity(len(spec.span), spec.pages, positions, kv_bytes),
            tail=Roles.TAIL in spec.roles,
            threads=spec.threads,
            instructions=instructions or instruction_sets(library)[0],
        )
    except EngineError as error:
        raise ModelError(f"layers {spec.span}: {error}") from None
    fill(kernel, config, files, spec.span, spec.roles, progress)
    matrix = config.embedding
    embedding = files.tensor(matrix.name, *matrix.shape) if Roles.HEAD in spec.roles else None
    return Native(kernel, spec.span.first, embedding, NativeQ8O4(library, kernel.instructions))


class Native(Backend):
    """The kernel's span, and the pages of its sessions."""

    def __init__(self, kernel: Kernel, first: int, embedding: Bits | None, q8o4: codecs.Q8O4) -> None:
        """Take what was loaded.

        first:     the model's number of the span's first layer
        embedding: at a head, mapped from its file: only the rows of a prompt are ever read
        """
        self._kernel = kernel
        self._first = first
        self._embedding = embedding
        self._sessions: dict[int, SessionTable] = {}
        self.kernel = kernel.instructions
        self.weight_bytes = kernel.weight_bytes
        self.cache_bytes = kernel.cache_bytes
        self.q8o4 = q8o4

    def open_session(self, slot: int, pages: Sequence[int]) -> SessionTable:
        self._sessions[slot] = self._kernel.open_session(slot, pages)
        return self._sessions[slot]

    def close_session(self, slot: int) -> None:
        self._sessions.pop(slot).close()

    def open_inbox(self, door: socket.socket) -> Inbox:
        return self._kernel.open_inbox(door, self._first, self._embedding)

    def compute(self, batch: Batch) -> list[Result]:
        parts, layers = batch.parts, batch.layers
        hidden = self._given(batch)
        positions = [position for part in parts for position in part.positions]
        sessions = [self._sessions[part.slot] for part in parts for _ in part.positions]
        failed = self._kernel.step(layers.start, layers.stop, hidden, positions, sessions)
        pieces, well, first = [], [], 0
        for part in parts:
            last = first + len(part.positions)
            pieces.append(hidden[first:last])
            well.append(not any(failed[first:last]))
            first = last
        if batch.tail:
            return self._logits(parts, pieces, well)
        return [rows if good else None for rows, good in zip(pieces, well, strict=True)]

    def _given(self, batch: Batch) -> codecs.Rows:
        """Rows to compute in place: decoding and the embedding made them, and nobody else has them."""
        parts = batch.parts
        given: codecs.Input = parts[0].given if len(parts) == 1 else np.concatenate([part.given for part in parts])
        if self._embedding is not None and not batch.layers.start:
            return widened(self._embedding[given])
        return given.astype(np.float32, copy=False)

    def _logits(self, parts: Sequence[Part], pieces: Sequence[codecs.Rows], well: Sequence[bool]) -> list[Result]:
        """Return the results that were asked for."""
        results: list[Result] = [NOTHING if good else None for good in well]
        asked = [at for at, part in enumerate(parts) if part.asked is not Asked.NOTHING and well[at]]
        if asked:
            logits, failed = self._kernel.logits(np.stack([pieces[at][-1] for at in asked]))
            for at, row, bad in zip(asked, logits, failed, strict=True):
                if bad or not np.isfinite(row).all():
                    results[at] = None
                else:
                    results[at] = int(np.argmax(row)) if parts[at].asked is Asked.BEST else row
        return results
