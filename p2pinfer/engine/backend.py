"""A backend computes: one door for torch and for the native kernel. The shard before it keeps the books.

Neither knows of sessions, codecs or errors of peers; a backend is given rows and pages and gives rows or logits back.
"""

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from p2pinfer.core.sessions.pages import Table
from p2pinfer.engine.codecs import Q8O4, Input, Rows
from p2pinfer.engine.inbox import Inbox

TellProgress = Callable[[int, int], None]  # while weights load: bytes of files read, of all

Logits = NDArray[np.float32]  # (vocabulary), all finite


class Asked(Enum):
    """The results that a tail is to give after a step's last position."""

    NOTHING = auto()
    BEST = auto()  # the id with the highest logit, the lowest of equal ones: no logits leave a GPU for it
    LOGITS = auto()


@dataclass(frozen=True, slots=True)
class Part:
    """One step of a batch: consecutive positions of the session in `slot`, which holds `table`."""

    slot: int
    table: Table
    positions: range
    given: Input  # ids at the head, else rows
    asked: Asked  # of the tail

    @property
    def order(self) -> tuple[bool, int]:
        """Single rows come first in a batch, as their sessions lie in the pool."""
        start = self.table.run(self.positions.stop)
        return len(self.positions) > 1, -1 if start is None else start


@dataclass(frozen=True, slots=True)
class Batch:
    """Steps of different sessions through the same layers.

    layers: counted within the loaded span
    tail:   the last of them is the model's last, and what is asked for comes out instead of rows
    """

    parts: Sequence[Part]
    layers: range
    tail: bool


Result = Rows | Logits | int | None  # rows; at the tail what is asked for; None where values are not finite

NOTHING: Logits = np.empty(0, np.float32)  # at the tail, where nothing was asked for


class Backend(Protocol):
    """A loaded span.

    kernel:       how it computes, for people
    weight_bytes: of memory held for weights
    cache_bytes:  of memory held for KV cache
    q8o4:         who writes and reads its rows on the wire
    """

    kernel: str
    weight_bytes: int
    cache_bytes: int
    q8o4: Q8O4

    def open_session(self, slot: int, pages: Sequence[int]) -> Table:
        """A session has these pages of the KV cache from now on; its table may be the backend's own kind."""

    def close_session(self, slot: int) -> None:
        """The session's pages may soon be another's."""

    def open_inbox(self, door: socket.socket) -> Inbox:
        """Open the inbox that takes requests from the parent; a backend may answer some of them itself."""

    def compute(self, batch: Batch) -> list[Result]:
        """Compute each part; one whose values are not finite leaves nothing that reaches others.

        Raises MemoryError where there is too little for this batch; what it wrote is dead.
        """
