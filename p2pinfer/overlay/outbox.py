"""The frames that wait to be written on a link, and which goes first (protocols/wire.md, 5).

Decides; `writer.py` writes.
"""

from collections import deque
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Final

import trio

from p2pinfer.overlay.backlog import LinkBacklog
from p2pinfer.overlay.limits import FRAME_BYTES

QUEUE_BYTES: Final = 1024 * 1024  # of each priority; beyond it callers wait


class Priority(IntEnum):
    """The order of frames that wait: the least number goes first. Order is kept within a priority only."""

    CONTROL = 0  # credit, receipts, opens and closes: small, and not held back by the window
    DECODE = 1  # somebody watches these come
    PREFILL = 2
    BULK = 3  # files


class Outbox:
    """Frames in queues, one a priority; and what the pipe has taken of them and not sent yet.

    lets_file: True if a frame of a file, of so many bytes, may leave now; then it does
    """

    def __init__(self, weight: LinkBacklog, lets_file: Callable[[int], bool]) -> None:
        self._weight = weight
        self._lets_file = lets_file
        self._pending = 0
        self._queues = tuple(_Queue() for _ in Priority)
        self._control = self._queues[Priority.CONTROL]
        self._bulk = self._queues[Priority.BULK]

    def put(self, frame: bytes, priority: Priority) -> None:
        queue = self._queues[priority]
        queue.frames.append(frame)
        queue.size += len(frame)
        self._weight.change(len(frame) + FRAME_BYTES)

    def set_pending(self, size: int) -> None:
        """So many bytes wait in the pipe."""
        if size != self._pending:
            self._weight.change(size - self._pending)
            self._pending = size

    @property
    def is_empty(self) -> bool:
        """True while no frame waits."""
        return not any(queue.frames for queue in self._queues)

    def has_room(self, priority: Priority) -> bool:
        return self._queues[priority].size < QUEUE_BYTES

    async def wait_room(self, priority: Priority) -> None:
        """Wait until some of this priority was written, or everything was dropped."""
        await self._queues[priority].room.park()

    def take(self, budget: int, room: int) -> list[bytes]:
        """Frames of about `budget` bytes together, or the first one alone if it is longer.

        room: bytes the window still takes. A frame may start while there is any; control frames need none.
        """
        frames: list[bytes] = []
        size = 0
        for queue in self._queues:
            while queue.frames and (not frames or size + len(queue.frames[0]) <= budget):
                if queue is not self._control and size >= room:
                    break
                if queue is self._bulk and not self._lets_file(len(queue.frames[0])):
                    break
                frames.append(queue.take())
                size += len(frames[-1])
        self._weight.change(-size - len(frames) * FRAME_BYTES)
        return frames

    def clear(self) -> None:
        """Nothing more will be written."""
        self._drop(self._queues)
        self.set_pending(0)

    def drop_all_but_control(self) -> None:
        """Nothing more of the rest will be written; those who wait for room go on."""
        self._drop(self._queues[Priority.DECODE :])

    def _drop(self, queues: Sequence["_Queue"]) -> None:
        for queue in queues:
            self._weight.change(-queue.size - len(queue.frames) * FRAME_BYTES)
            queue.frames.clear()
            queue.size = 0
        for queue in self._queues:
            queue.room.unpark_all()


class _Queue:
    def __init__(self) -> None:
        self.frames: deque[bytes] = deque()
        self.size = 0
        self.room = trio.lowlevel.ParkingLot()

    def take(self) -> bytes:
        frame = self.frames.popleft()
        self.size -= len(frame)
        if self.size < QUEUE_BYTES:
            self.room.unpark()
        return frame
