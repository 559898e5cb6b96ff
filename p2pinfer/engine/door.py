"""The parent's side of the engine: a process of its own behind one door that takes and returns plain values.

Ending the process gives the memory back at once, a crash in a kernel ends sessions and not the node, and the node
imports no torch. The other side is `worker.py`; what goes through is in `steps.py`.
"""

import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import trio

from p2pinfer.core.errors import EngineError, ModelError
from p2pinfer.core.pages import Pages
from p2pinfer.engine.steps import (
    LENGTH_BYTES,
    Facts,
    Failed,
    Message,
    Output,
    Progress,
    Reply,
    Request,
    ShardSpec,
    Step,
    pack_request,
    pack_spec,
    unpack_message,
)

SOCKET_BUFFER: Final = 1 << 20  # bytes; a prefill chunk in a few writes


class Engine:
    """A loaded shard. Many tasks may use it; steps run one batch at a time, in the order they were asked for."""

    def __init__(self, facts: Facts, pid: int, wire: "_Wire") -> None:
        self.facts = facts
        self.pid = pid
        self.busy_s = 0.0  # computing time so far, of all steps
        self._wire = wire
        self._turn = trio.Lock()  # callers feel the load: nothing queues in the worker
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
        await self._take_turn()
        try:
            self._check_alive()
            reply = await self._wire.ask(pack_request(self._request(tuple(steps))))
            if reply is None:
                await self._end.wait()
        finally:
            self._turn.release()
        self._check_alive()
        assert reply is not None
        self.busy_s += reply.seconds
        return list(reply.outputs)

    async def _take_turn(self) -> None:
        """Wait for our turn; where it is ours at once, other tasks need not run first: sending is a checkpoint."""
        try:
            self._turn.acquire_nowait()
        except trio.WouldBlock:
            await self._turn.acquire()

    async def wait_ended(self) -> EngineError:
        """Wait until the process has ended by itself, and say how."""
        await self._end.wait()
        return EngineError(self._reason)

    def _request(self, steps: tuple[Step, ...]) -> Request:
        """The steps, with the sessions that opened and closed since the last request."""
        request = Request(tuple(self._closed), tuple(self._opened.items()), steps)
        self._closed.clear()
        self._opened.clear()
        return request

    def _ended(self, reason: str) -> None:
        """Nothing more comes out of the process; the first reason stands."""
        if not self._end.is_set():
            self._reason = reason
            self._end.set()

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
    stream, process = await _start()
    try:
        wire = _Wire(stream)
        await stream.send_all(pack_spec(spec))
        engine = Engine(await _load(wire, process, progress), process.pid, wire)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_watch, engine, process)
            try:
                yield engine
            finally:
                engine._ended("the engine is closed")
                nursery.cancel_scope.cancel()
    finally:
        process.kill()  # it holds nothing that must be saved
        with trio.CancelScope(shield=True):  # a killed process ends at once
            await process.wait()
            await stream.aclose()


class _Wire:
    """Requests to the worker and its messages back. Cancelling a call loses nothing of either."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._unsent = bytearray()
        self._received = bytearray()
        self._owed = 0  # replies that did not come yet, those to callers who gave up included

    async def ask(self, request: bytes) -> Reply | None:
        """The worker's reply, or None if it ended. One call at a time."""
        self._unsent += request
        self._owed += 1
        if not await self._flush():
            return None
        while True:
            reply = await self.receive()
            self._owed -= 1
            if reply is None or not self._owed:
                assert reply is None or isinstance(reply, Reply)
                return reply

    async def receive(self) -> Message | None:
        """The worker's next message, or None if it ended."""
        while True:
            size = LENGTH_BYTES + int.from_bytes(self._received[:LENGTH_BYTES], "little")
            if len(self._received) >= max(size, LENGTH_BYTES + 1):
                break
            try:
                data = await self._stream.receive_some()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return None
            if not data:
                return None
            self._received += data
        body = self._received[LENGTH_BYTES:size]
        del self._received[:size]
        return unpack_message(body)

    async def _flush(self) -> bool:
        while self._unsent:
            try:
                sent = await self._stream.socket.send(self._unsent)
            except (OSError, trio.ClosedResourceError):
                return False
            del self._unsent[:sent]
        return True


async def _start() -> tuple[trio.SocketStream, trio.Process]:
    near, far = socket.socketpair()
    with far:
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER)
        far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER)
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(near))
        try:
            process = await trio.lowlevel.open_process(
                [sys.executable, "-m", "p2pinfer.engine.worker", str(far.fileno())], pass_fds=[far.fileno()]
            )
        except BaseException:
            stream.socket.close()
            raise
    return stream, process


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
    """How the process ended, for people."""
    if returncode < 0:
        return f"the engine's process was killed by signal {-returncode}"
    return f"the engine's process ended with code {returncode}"
