"""The engine's worker as a process of its own, which gives its memory back at once when it ends.

A crash in a kernel ends sessions and not the node, and the node imports no torch. The other side is `worker.py`.
"""

import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import trio

from p2pinfer.core.values.errors import EngineError, ModelError
from p2pinfer.engine.door import Engine, Watch
from p2pinfer.engine.messages import (
    LENGTH_BYTES,
    EngineCall,
    Facts,
    Failed,
    Loading,
    Reply,
    ShardSpec,
    WorkerMessage,
    pack_request,
    pack_spec,
    unpack_message,
)

SOCKET_BUFFER: Final = 1 << 20  # bytes; a prefill chunk in a few writes
READ_BYTES: Final = 1 << 16


class EngineProcess(Engine):
    """An engine whose worker is a process. pid: the process's"""

    def __init__(self, facts: Facts, wire: "_Wire", pid: int) -> None:
        super().__init__(facts, wire)
        self.pid = pid


def _unwatched(done: int, total: int) -> None:
    """Nobody watches the weights load."""


@asynccontextmanager
async def open_engine(spec: ShardSpec, progress: Watch = _unwatched) -> AsyncIterator[EngineProcess]:
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
        engine = EngineProcess(await _load(wire, process, progress), wire, process.pid)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_watch, engine, process)
            nursery.start_soon(engine.take_replies)
            nursery.start_soon(wire.send_rest)
            try:
                yield engine
            finally:
                engine.end("the engine is closed")
                nursery.cancel_scope.cancel()
    finally:
        process.kill()  # it holds nothing that must be saved
        with trio.CancelScope(shield=True):  # a killed process ends at once
            await process.wait()
        near.close()


class _Wire:
    """`Worker` at the other end of a socket that does not block. Cancelling a call loses nothing of either way.

    Both ways go to the socket itself: trio's stream takes two turns of the scheduler for what is there already.
    """

    def __init__(self, near: socket.socket) -> None:
        self._socket = near
        self._unsent = bytearray()
        self._unsent_came = trio.Event()
        self._received = bytearray()

    def ask(self, call: EngineCall) -> None:
        self.send(pack_request(call))

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

    async def receive(self) -> WorkerMessage | None:
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


async def _load(wire: _Wire, process: trio.Process, progress: Watch) -> Facts:
    """Wait for the shard's facts.

    Raises as `open_engine` does.
    """
    while True:
        match await wire.receive():
            case Loading(done, total):
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
    engine.end(_how(await process.wait()))


def _how(returncode: int) -> str:
    """Return how the process ended, for people."""
    if returncode < 0:
        return f"the engine's process was killed by signal {-returncode}"
    return f"the engine's process ended with code {returncode}"
