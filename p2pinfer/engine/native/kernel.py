"""The C kernel from Python: a loaded span that takes arrays and gives arrays."""

import ctypes
import socket
import weakref
from collections.abc import Iterable, Sequence
from ctypes import c_int32, c_uint8, c_void_p
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from p2pinfer.core.models.architecture import Slot
from p2pinfer.core.models.bf16 import Bits
from p2pinfer.core.models.model_config import ModelConfig
from p2pinfer.core.values.errors import EngineError
from p2pinfer.engine.codecs import Rows
from p2pinfer.engine.inbox import Inbox
from p2pinfer.engine.native.library import FLOATS, Sizes
from p2pinfer.engine.native.rotary import rotary_tables
from p2pinfer.engine.native.serving import KernelInbox, SessionTable

RowFlags = bytearray  # a byte for each row, not 0 where it failed


class Matrix(IntEnum):
    """The order of kernel.h. Queries, keys and values are one matrix."""

    QKV = 0
    OUTPUT = 1
    GATE = 2
    UP = 3
    DOWN = 4
    HEAD = 5


class Vector(IntEnum):
    """The order of kernel.h."""

    ATTENTION_NORM = 0
    MLP_NORM = 1
    QUERY_NORM = 2
    KEY_NORM = 3
    QKV_BIAS = 4
    OUTPUT_BIAS = 5
    FINAL_NORM = 6


@dataclass(frozen=True, slots=True)
class Capacity:
    """The memory that a span has.

    pages:     of KV cache, of all sessions
    positions: the most a session has
    kv_bytes:  of a number in the KV cache: 2 of binary16, 1 of int8
    """

    layers: int
    pages: int
    positions: int
    kv_bytes: int = 2


class Kernel:
    """A span's int8 weights and KV cache. Not for two threads at once."""

    def __init__(
        self, library: ctypes.CDLL, config: ModelConfig, has: Capacity, *, tail: bool, threads: int, instructions: str
    ) -> None:
        """A span without weights yet. Raises EngineError if there is not enough memory."""
        self._library = library
        self._hidden = config.shape.hidden
        self._tail = tail
        self._vocabulary = config.shape.vocabulary
        shape = config.shape
        sizes = Sizes(
            *(has.layers, shape.hidden, shape.intermediate, shape.heads, shape.kv_heads, shape.head_size),
            *(shape.vocabulary, config.window or 0, has.pages, has.positions, threads, has.kv_bytes, config.norm_eps),
        )
        slots = {weight.slot for weight in config.layer_weights(0)}
        cosines, sines = (np.ascontiguousarray(table).ctypes for table in rotary_tables(config, has.positions))
        self._span = library.span_open(
            ctypes.byref(sizes),
            instructions.encode(),
            ctypes.cast(cosines.data, FLOATS),
            ctypes.cast(sines.data, FLOATS),
            *(Slot.QKV_BIAS in slots, Slot.OUTPUT_BIAS in slots, tail),
        )
        if not self._span:
            raise EngineError(f"there is no memory for {has.layers} layers and {has.pages} pages of KV cache")
        self.instructions = instructions
        self._closing = weakref.finalize(self, library.span_close, self._span)
        self._stride = library.span_logit_stride(self._span)

    def close(self) -> None:
        """Give the memory back; nothing may be called after it."""
        self._closing()

    @property
    def weight_bytes(self) -> int:
        return int(self._library.span_weight_bytes(self._span))

    @property
    def cache_bytes(self) -> int:
        return int(self._library.span_cache_bytes(self._span))

    def set_matrix(self, layer: int, which: Matrix, first: int, rows: Bits) -> bool:
        """Quantise outputs from `first` on; False if a value is not finite. rows: (outputs, inputs)"""
        rows = np.ascontiguousarray(rows)
        return bool(self._library.span_matrix(self._span, layer, which, first, len(rows), rows.ctypes.data))

    def set_vector(self, layer: int, which: Vector, first: int, values: Rows) -> bool:
        """Set a norm or a bias from `first` on; False if a value is not finite."""
        values = np.ascontiguousarray(values, np.float32)
        return bool(self._library.span_vector(self._span, layer, which, first, len(values), values.ctypes.data))

    def step(
        self, first: int, last: int, hidden: Rows, positions: Sequence[int], sessions: Iterable[SessionTable]
    ) -> RowFlags:
        """Compute rows through layers [first, last), in place; True for rows that met values that are not finite.

        hidden: (rows, width), contiguous; rows of one session follow one another at consecutive positions
        sessions: of each row

        Raises EngineError if there is no memory for so many rows.
        """
        count = len(hidden)
        failed, flags = _flags(count)
        where = (c_void_p * count)(*(session.address for session in sessions))
        at = (c_int32 * count)(*positions)
        if not self._library.span_step(self._span, first, last, hidden.ctypes.data, count, at, where, flags):
            raise EngineError(f"there is no memory for a step of {count} rows")
        return failed

    def logits(self, hidden: Rows) -> tuple[Rows, RowFlags]:
        """Logits of rows, (rows, vocabulary), and which rows met values that are not finite."""
        failed, flags = _flags(len(hidden))
        logits = np.empty((len(hidden), self._stride), np.float32)
        if not self._library.span_logits(self._span, hidden.ctypes.data, len(hidden), logits.ctypes.data, flags):
            raise EngineError(f"there is no memory for logits of {len(hidden)} rows")
        return logits[:, : self._vocabulary], failed

    def open_session(self, slot: int, pages: Sequence[int]) -> SessionTable:
        """A session's table. Raises EngineError if there is no memory."""
        return SessionTable(self._library, self._span, slot, tuple(pages))

    def open_inbox(self, door: socket.socket, first: int, embedding: Bits | None) -> Inbox:
        """Requests of the parent that the kernel leaves to its caller.

        first:     the model's number of the span's first layer, as requests count
        embedding: (vocabulary, width) at a head

        Raises EngineError if there is no memory.
        """
        return KernelInbox(self._library, self._span, door, first, embedding, self._tail)


def _flags(count: int) -> tuple[RowFlags, ctypes.Array[c_uint8]]:
    """Zeros to read, and the same memory to be written by the kernel."""
    failed = bytearray(count)
    return failed, (c_uint8 * count).from_buffer(failed)
