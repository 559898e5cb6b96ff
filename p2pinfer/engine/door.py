"""The parent's side of the engine: a process of its own behind one door that takes and returns plain values.

Ending the process gives the memory back at once, a crash in a kernel ends sessions and not the node, and the node
imports no torch. The other side is `worker.py`; what goes through is in `steps.py`.
"""

import socket
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import trio

from p2pinfer.core.sessions.pages import Pages
from p2pinfer.core.values.errors import EngineError, ModelError
from p2pinfer.engine.steps import (
    LENGTH_BYTES,
    EngineCall,
    Facts,
    Failed,
    Message,
    Output,
    Progress,
    Reply,
    ShardSpec,
    Step,
    pack_request,
    pack_spec,
    unpack_message,
)

SOCKET_BUFFER: Final = 1 << 20  # bytes; a prefill chunk in a few writes
READ_BYTES: Final = 1 << 16

Done = Callable[[Sequence[Output] | None], None]


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    steps: tuple[Step, ...]
    done: Done


class Engine:
    """A loaded shard. Many tasks may use it; steps run one batch at a time, in the order they were asked for."""

    def __init__(self, facts: Facts, pid: int, wire: "_Wire") -> None:
        self.facts = facts
        self.pid = pid
        self.busy_s = 0.0  # computing time so far, of all steps
        self._wire = wire
        self._asked: deque[_Batch] = deque()  # callers feel the load: nothing queues in the worker
        self._running: _Batch | None = None
        self._pages = Pages(facts.pages)
        self._slots: dict[int, tuple[int, ...]] = {}
        self._closed: list[int] = []
        self._opened: dict[int, tuple[int, ...]] = {}
        self._end = trio.Event()
        self._reason = "the engine is closed"

    @property
    def free_pages(self) -> int:
        """Pages of KV cache that no session has reserved."""
        return self._pages.free

    async def open_session(self, slot: int, pages: int) -> None:
        """Reserve pages for a new session; `slot` is the caller's number for it. Waits for no step.

        Raises EngineError if fewer pages are free, the slot is open, or the engine has ended.
        """
        await trio.lowlevel.checkpoint()
        self._check_alive()
        if slot in self._slots:
            raise EngineError(f"slot {slot} is open already")
        self._slots[slot] = self._pages.reserve(pages)
        self._opened[slot] = self._slots[slot]

    def close_session(self, slot: int) -> None:
        """Give a session's pages back; a slot that is not open is left alone. Steps that run already go on."""
        if (pages := self._slots.pop(slot, None)) is not None:
            self._pages.release(pages)
            if self._opened.pop(slot, None) is None:  # else the worker has never heard of it
                self._closed.append(slot)

    async def step(self, steps: Sequence[Step]) -> list[Output]:
        """Run steps of different sessions as one batch; outputs come in the steps' order.

        A step that fails says so in its output, and the others go on. A call that is cancelled while it waits for its
        turn does nothing; later it is too late, and the steps are computed.

        Raises EngineError if the engine has ended, or ends meanwhile.
        """
        self._check_alive()
        over = trio.Event()
        answers: list[Sequence[Output] | None] = []

        def take(outputs: Sequence[Output] | None) -> None:
            answers.append(outputs)
            over.set()

        batch = self.begin(steps, take)
        try:
            await over.wait()
        finally:
            if batch in self._asked:
                self._asked.remove(batch)
        [outputs] = answers
        if outputs is None:
            raise EngineError(self._reason)
        return list(outputs)

    def begin(self, steps: Sequence[Step], done: Done) -> _Batch:
        """Ask for a batch as `step` does, and wait for nothing.

        done: called once, in the task that reads the outputs, so that no task stands between; with None where the
              engine has ended, or ends meanwhile
        """
        batch = _Batch(tuple(steps), done)
        if self._end.is_set():
            done(None)
        else:
            self._asked.append(batch)
            self._send_next()
        return batch

    async def take_replies(self) -> None:
        """Hand out what the worker answers, for as long as it does; `open_engine` runs this."""
        while isinstance(reply := await self._wire.receive(), Reply) and not self._end.is_set():
            batch, self._running = self._running, None
            assert batch is not None
            self.busy_s += reply.seconds
            batch.done(reply.outputs)
            del batch  # who was in it may be over before the next one comes
            self._send_next()

    def _send_next(self) -> None:
        if self._running is None and self._asked:
            self._running = self._asked.popleft()
            self._wire.send(pack_request(self._request(self._running.steps)))

    async def wait_ended(self) -> EngineError:
        """Wait until the process has ended by itself, and say how."""
        await self._end.wait()
        return EngineError(self._reason)

    def _request(self, steps: tuple[Step, ...]) -> EngineCall:
        """The steps, with the sessions that opened and closed since the last request."""
        request = EngineCall(tuple(self._closed), tuple(self._opened.items()), steps)
        self._closed.clear()
        self._opened.clear()
        return request

    def _ended(self, reason: str) -> None:
        """Nothing more comes out of the process; the first reason stands."""
        if self._end.is_set():
            return
        self._reason = reason
        self._end.set()
        waiting = [self._running] if self._running else []
        waiting += self._asked
        self._asked.clear()
        for batch in waiting:
            batch.done(None)

    def _check_alive(self) -> None:
        if self._end.is_set():
            raise EngineError(self._reason)


def _no_progress(done: int, total: int) -> None:
    """Nobody watches the weights load."""


@asynccontextmanager
async def open_engine(spec: ShardSpec, progress: Callable[[int, int], None] = _no_progress) -> AsyncIterator[Engine]:
    """Load a shard in a process of its own, which ends with the block, or with us, however we end.

    progress: called with bytes of weights read, and of all

    Raises:
        ModelError: the files are not what the spec says, or the device is not there.
        EngineError: the process ended while it loaded.
    """
    near, process = await _start()
    try:
        wire = _Wire(near)
        wire.send(pack_spec(spec))
        engine = Engine(await _load(wire, process, progress), process.pid, wire)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_watch, engine, process)
            nursery.start_soon(engine.take_replies)
            nursery.start_soon(wire.send_rest)
            try:
                yield engine
            finally:
                engine._ended("the engine is closed")
                nursery.cancel_scope.cancel()
    finally:
        process.kill()  # it holds nothing that must be saved
        with trio.CancelScope(shield=True):  # a killed process ends at once
            await process.wait()
        near.close()


class _Wire:
    """Messages to the worker and back, on a socket that does not block. Cancelling a call loses nothing of either.

    Both ways go to the socket itself: trio's stream takes two turns of the scheduler for what is there already.
    """

    def __init__(self, near: socket.socket) -> None:
        self._socket = near
        self._unsent = bytearray()
        self._unsent_came = trio.Event()
        self._received = bytearray()

    def send(self, message: bytes) -> None:
        """Send a message, as far as the socket takes it; `send_rest` sends the rest."""
        sent = 0 if self._unsent else self._send(message)
        if sent < len(message):
            self._unsent += message[sent:]
            self._unsent_came.set()

    async def send_rest(self) -> None:
        """Send what the socket did not take at once, for ever."""
        while True:
            await self._unsent_came.wait()
            self._unsent_came = trio.Event()
            while self._unsent:
                await trio.lowlevel.wait_writable(self._socket.fileno())
                del self._unsent[: self._send(self._unsent)]

    async def receive(self) -> Message | None:
        """The worker's next message, or None if it ended."""
        while (size := self._whole()) is None:
            await trio.lowlevel.wait_readable(self._socket.fileno())
            try:
                data = self._socket.recv(READ_BYTES)
            except BlockingIOError:
                continue
            except OSError:
                return None
            if not data:
                return None
            self._received += data
        with memoryview(self._received)[LENGTH_BYTES:size] as body:
            message = unpack_message(body)
        del self._received[:size]
        return message

    def _whole(self) -> int | None:
        """Bytes of the next message with its length; None until all of it is here."""
        if len(self._received) < LENGTH_BYTES:
            return None
        size = LENGTH_BYTES + int.from_bytes(self._received[:LENGTH_BYTES], "little")
        return size if len(self._received) >= size else None

    def _send(self, data: bytes | bytearray) -> int:
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            return len(data)  # nobody reads it any more; how the process ended is told by `_watch`


async def _start() -> tuple[socket.socket, trio.Process]:
    near, far = socket.socketpair()
    with far:
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER)
        far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER)
        near.setblocking(False)
        try:
            process = await trio.lowlevel.open_process(
                # -P: a folder named p2pinfer in ours, as in a clone, is not the package that is installed
                [sys.executable, "-P", "-m", "p2pinfer.engine.worker", str(far.fileno())],
                pass_fds=[far.fileno()],
                start_new_session=True,  # what a terminal sends is not for it, from its first moment on
            )
        except BaseException:  # a cancellation too: nobody else holds this end yet
            near.close()
            raise
    return near, process


async def _load(wire: _Wire, process: trio.Process, progress: Callable[[int, int], None]) -> Facts:
    """Wait for the shard's facts.

    Raises as `open_engine` does.
    """
    while True:
        match await wire.receive():
            case Progress(done, total):
                progress(done, total)
            case Facts() as facts:
                return facts
            case Failed(text):
                raise ModelError(text)
            case None:
                raise EngineError(f"{_how(await process.wait())} while it loaded")
            case Reply():
                raise AssertionError("the engine answered before it was asked")


async def _watch(engine: Engine, process: trio.Process) -> None:
    """Say how the process ended, whoever waits for it."""
    engine._ended(_how(await process.wait()))


def _how(returncode: int) -> str:
    """Return how the process ended, for people."""
    if returncode < 0:
        return f"the engine's process was killed by signal {-returncode}"
    return f"the engine's process ended with code {returncode}"
