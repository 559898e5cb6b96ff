"""The writer of a link: queued frames leave a little at a time, and a goodbye last (protocols/wire.md, 5).

Bytes that the pipe takes without waiting leave at the end of the turn in which they were queued (`flush`). The rest is
for a task of its own (`run`), which alone waits for the pipe.
"""

from collections.abc import Callable

import trio

from p2pinfer.core.values.codes import Code
from p2pinfer.core.wire.frames import encode_frame
from p2pinfer.core.wire.messages import Goodbye
from p2pinfer.core.wire.pace import Pace
from p2pinfer.overlay.contained import LinkEnds
from p2pinfer.overlay.outbox import Outbox
from p2pinfer.overlay.pipe import Pipe
from p2pinfer.overlay.uplink import Lane


class Writer:
    """Of one link.

    outbox:     what the link queues
    lane:       its files' place on the line of all links
    own_frames: what the link itself has to say; it goes first
    says:       messages are queued that the peer has to acknowledge
    """

    def __init__(
        self,
        pipe: Pipe,
        outbox: Outbox,
        lane: Lane,
        pace: Pace,
        own_frames: Callable[[], list[bytes]],
        ends: LinkEnds,
    ) -> None:
        self.says = False
        self._said = 0  # bytes after which the last of them ended
        self._pipe = pipe
        self._outbox = outbox
        self._lane = lane
        self._pace = pace
        self._own_frames = own_frames
        self._ends = ends
        self._unwritten = b""  # taken from the outbox, and for `run` to write
        self._writing = False  # `run` writes, or has said goodbye
        self._wake = trio.Event()  # `run` has something to look at
        self._goodbye: Goodbye | None = None
        self._is_over = False  # without a goodbye

    def awaits_ack(self) -> bool:
        return self.says or self._said > self._pace.acknowledged

    def close(self, goodbye: Goodbye) -> None:
        """Have the goodbye follow what leaves yet."""
        self._goodbye = goodbye
        self._wake.set()

    def drop(self) -> None:
        """The link is dead: control frames and a goodbye leave yet, and without a goodbye nothing."""
        self._is_over = self._goodbye is None
        self._lane.leave()
        self._outbox.drop_all_but_control()

    def flush(self) -> None:
        """Write what is due, as far as the pipe takes it without waiting; `run` does the rest."""
        if self._writing or self._unwritten or self._is_over:
            return
        with self._ends.contained:  # it may run in the turn of another link
            try:
                while data := self._next_write():
                    self._pace.add_sent(len(data))
                    if not self._pipe.write_nowait(data):
                        self._unwritten = data
                        self._wake.set()
                        break
                self._outbox.set_pending(self._pipe.unsent + len(self._unwritten))
            except trio.BrokenResourceError as error:
                self._ends.end(f"the connection broke: {error}", Code.LOST)

    async def run(self) -> None:
        """Write what could not be written at once, the most urgent first, until the goodbye is out."""
        try:
            while True:
                await self._wake.wait()
                self._wake = trio.Event()
                self._writing = True
                await self._write_rest()
                if self._goodbye is not None:
                    break
                self._writing = False
            await self._pipe.write(encode_frame(self._goodbye))
        except trio.BrokenResourceError as error:
            self._ends.end(f"the connection broke: {error}", Code.LOST)

    async def _write_rest(self) -> None:
        data, self._unwritten = self._unwritten, b""
        while data:
            self._outbox.set_pending(len(data))
            await self._pipe.write(data)
            self._outbox.set_pending(0)
            if data := self._next_write():
                self._pace.add_sent(len(data))

    def _next_write(self) -> bytes:
        """Frames to write together now; empty while there are none, or the window is full."""
        room = self._pace.window - self._pace.unacknowledged
        taken = self._outbox.take(self._pace.frame_budget, room)
        data = b"".join((*self._own_frames(), *taken))
        if self._lane.begun:
            self._lane.note_sent(self._pace.sent + len(data))
        if taken and self.says:
            self._said = self._pace.sent + len(data)
            self.says = not self._outbox.is_empty
        return data
