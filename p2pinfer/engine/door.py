"""The engine as the node sees it: one door that takes and returns plain values. What goes through is in `messages.py`.

Behind it works a process of its own (`process.py`), or, in simulations, its fake (`memory.py`).
"""

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

import trio

from p2pinfer.core.sessions.pages import Pages
from p2pinfer.core.sessions.step import Output, Step
from p2pinfer.core.values.errors import EngineError
from p2pinfer.engine.messages import EngineCall, Facts, Reply, ShardSpec, WorkerMessage

Done = Callable[[Sequence[Output] | None], None]
Watch = Callable[[int, int], None]  # hears of bytes of weights read, and of all


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    steps: tuple[Step, ...]
    done: Done


class Worker(Protocol):
    """Computes for one engine: a call at a time, and a reply to each."""

    def ask(self, call: EngineCall) -> None:
        """Have it compute; waits for nothing."""

    async def receive(self) -> WorkerMessage | None:
        """Return what it says next; None once it has ended."""


class Engine:
    """A loaded shard. Many tasks may use it; steps run one batch at a time, in the order they were asked for."""

    def __init__(self, facts: Facts, worker: Worker) -> None:
        self.facts = facts
        self.busy_s = 0.0  # computing time so far, of all steps
        self._worker = worker
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
        """Hand out what the worker answers, for as long as it does; whoever opens the engine runs this."""
        while isinstance(reply := await self._worker.receive(), Reply) and not self._end.is_set():
            batch, self._running = self._running, None
            assert batch is not None
            self.busy_s += reply.seconds
            batch.done(reply.outputs)
            del batch  # who was in it may be over before the next one comes
            self._send_next()

    def _send_next(self) -> None:
        if self._running is None and self._asked:
            self._running = self._asked.popleft()
            self._worker.ask(self._request(self._running.steps))

    async def wait_ended(self) -> EngineError:
        """Wait until the worker has ended by itself, and say how."""
        await self._end.wait()
        return EngineError(self._reason)

    def _request(self, steps: tuple[Step, ...]) -> EngineCall:
        """The steps, with the sessions that opened and closed since the last request."""
        request = EngineCall(tuple(self._closed), tuple(self._opened.items()), steps)
        self._closed.clear()
        self._opened.clear()
        return request

    def end(self, reason: str) -> None:
        """Nothing more comes from the worker; the first reason stands. Whoever opened the engine says so."""
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


OpenEngine = Callable[[ShardSpec, Watch], AbstractAsyncContextManager[Engine]]  # as `process.open_engine`
