"""Keeps the engine busy: what is ready in any session goes into the next batch (DESIGN 2.6).

Which steps go together is `schedule.py`'s decision; this asks the sessions, runs the engine, and hands the outputs
back. A batch is never waited for: whatever has arrived when the engine is free is taken.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import trio

from p2pinfer.core.codes import Code
from p2pinfer.core.schedule import Speed, Waiting, next_batch
from p2pinfer.core.stage import State
from p2pinfer.engine.door import Engine
from p2pinfer.node.session import Session


class Batcher:
    """speed: of the engine, as measured by its batches."""

    def __init__(self, engine: Engine, speed: Speed) -> None:
        self.speed = speed
        self._engine = engine
        self._sessions: dict[int, Session] = {}  # by slot
        self._served: dict[int, int] = {}  # number of the batch that served a slot last
        self._batches = 0
        self._ready = trio.Event()
        self._empty = trio.Event()

    @contextmanager
    def serving(self, session: Session) -> Iterator[None]:
        """Take steps of the session for as long as the block lasts."""
        self._sessions[session.slot] = session
        self._served[session.slot] = 0
        self._empty = trio.Event()
        self.wake()
        try:
            yield
        finally:
            del self._sessions[session.slot], self._served[session.slot]
            if not self._sessions:
                self._empty.set()

    def wake(self) -> None:
        """Something became ready."""
        self._ready.set()

    def fail_all(self, code: Code, text: str) -> None:
        """End every session from our side."""
        for session in self._sessions.values():
            session.fail(code, text)

    async def wait_empty(self) -> None:
        """Wait until no session is open."""
        if self._sessions:
            await self._empty.wait()

    @property
    def queue_s(self) -> float:
        """How long what is ready now keeps the engine busy."""
        positions = sum(session.ready() for session in self._sessions.values())
        return positions * self.speed.position_s + (self.speed.batch_s if positions else 0.0)

    async def run(self) -> None:
        """Run batches until cancelled.

        Raises EngineError when the engine has ended.
        """
        while True:
            await self._ready.wait()
            self._ready = trio.Event()
            while batch := next_batch(self._waiting(), self.speed, self._decoding()):
                await self._run_batch(batch)

    async def _run_batch(self, batch: list[tuple[int, int]]) -> None:
        self._batches += 1
        taken = []
        for slot, count in batch:
            session = self._sessions[slot]
            work, step = session.take(count)
            self._served[slot] = self._batches
            taken.append((session, work, step))
        before_s = self._engine.busy_s
        outputs = await self._engine.step([step for _, _, step in taken])
        self.speed = self.speed.observe(sum(count for _, count in batch), self._engine.busy_s - before_s)
        for (session, work, _), output in zip(taken, outputs, strict=True):
            session.done(work, output)

    def _waiting(self) -> list[Waiting]:
        return [
            Waiting(
                slot, min(session.ready(), session.stage.terms.max_chunk), _past_prompt(session), self._served[slot]
            )
            for slot, session in self._sessions.items()
        ]

    def _decoding(self) -> bool:
        return any(_past_prompt(session) for session in self._sessions.values())


def _past_prompt(session: Session) -> bool:
    stage = session.stage
    return stage.state is State.RUNNING and stage.computed >= stage.terms.prompt
