"""Keeps the engine busy: what is ready in any session goes into the next batch.

`core/sessions/schedule.py` decides which steps go together; this asks the sessions, runs the engine, and hands the
outputs back. A batch is never waited for: what has arrived when the engine is free is taken, if not always all of it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import trio

from p2pinfer.core.sessions.schedule import BatchCost, ReadySession, next_batch
from p2pinfer.core.sessions.stage import SessionState
from p2pinfer.core.sessions.step import Output, Step
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import Refused
from p2pinfer.engine.door import Engine
from p2pinfer.node.session import Session
from p2pinfer.overlay.contained import Contained
from p2pinfer.overlay.turn import Turn


@dataclass(slots=True)
class _Taken:
    """Steps that go to the engine together.

    prefill:   there are some of prompts among them
    before_s:  the engine's computing time before it
    """

    before_s: float
    steps: list[tuple[Session, Step]] = field(default_factory=list)
    positions: int = 0
    prefill: bool = False

    def add(self, session: Session, count: int) -> None:
        step = session.steps.take(count)
        self.steps.append((session, step))
        self.positions += count
        self.prefill = self.prefill or step.position < session.stage.terms.prompt


class Batcher:
    """speed: of the engine, as measured by its batches. failed: set by a fault that belongs to no session."""

    def __init__(self, engine: Engine, speed: BatchCost, turn: Turn, groups: int) -> None:
        """groups: see `schedule.next_batch`"""
        self.speed = speed
        self.failed = trio.Event()
        self._contained = Contained("serving", self.failed.set)  # not what happens to run it: a link, a session
        self._groups = groups
        self._engine = engine
        self._turn = turn
        self._sessions: dict[int, Session] = {}  # by slot
        self._awake: set[int] = set()  # slots that may have something ready
        self._served: dict[int, int] = {}  # when a slot was served last, in turns of sessions
        self._waited: set[int] = set()  # slots past their prompts that had to wait for a batch with prefill
        self._turns = 0
        self._busy = False
        self._ending = False
        self._empty = trio.Event()

    @contextmanager
    def serving(self, session: Session) -> Iterator[None]:
        """Take steps of the session for as long as the block lasts.

        Raises Refused (LEAVING) once `end_all` was called.
        """
        if self._ending:
            raise Refused("this node is leaving", Code.LEAVING)
        self._sessions[session.slot] = session
        self._served[session.slot] = 0
        self._empty = trio.Event()
        self.wake(session.slot)
        try:
            yield
        finally:
            del self._sessions[session.slot], self._served[session.slot]
            self._awake.discard(session.slot)
            self._waited.discard(session.slot)
            if not self._sessions:
                self._empty.set()

    def wake(self, slot: int) -> None:
        """Something became ready in a session; it is computed with what else becomes ready in this turn."""
        if slot in self._sessions:
            self._awake.add(slot)
            self._turn.at_end(self._start)

    async def end_all(self, code: Code, text: str) -> None:
        """Let no more sessions begin, end the open ones, and wait until they are settled or given up."""
        self._ending = True
        for session in self._sessions.values():
            session.fail(code, text)
        if self._sessions:
            await self._empty.wait()

    async def wait_empty(self) -> None:
        """Wait until no session is open."""
        while self._sessions:
            await self._empty.wait()

    @property
    def queue_s(self) -> float:
        """The time for which what is ready now keeps the engine busy."""
        return self.speed.duration(sum(session.ready() for session in self._sessions.values()))

    def _start(self) -> None:
        """Run the next batch, unless one runs."""
        with self._contained:
            if not self._busy and (batch := self._next()):
                self._begin(batch)

    def _begin(self, batch: list[tuple[int, int]]) -> None:
        taken = _Taken(self._engine.busy_s)
        for slot, count in batch:
            session = self._sessions[slot]
            with session.contained:
                taken.add(session, count)
                self._turns += 1
                self._served[slot] = self._turns
                self._waited.discard(slot)
        if not taken.steps:  # whoever was to be computed has failed
            self._turn.at_end(self._start)
            return
        self._busy = True
        self._engine.begin([step for _, step in taken.steps], partial(self._finish, taken))

    def _finish(self, batch: _Taken, outputs: Sequence[Output] | None) -> None:
        """Send what was computed, start the next batch, then keep the books: others wait for the first two only."""
        self._busy = False
        if outputs is None:
            return  # the engine has ended, and with it the node
        took_s = self._engine.busy_s - batch.before_s
        if batch.prefill:
            with self._contained:
                self._note_waited()
        with self._turn:
            for (session, step), output in zip(batch.steps, outputs, strict=True):
                with session.contained:
                    session.done(step, output)
            self._turn.at_end(self._start)
        self.speed = self.speed.observe(batch.positions, took_s)
        for session, _ in batch.steps:
            with session.contained:
                session.note_change()

    def _note_waited(self) -> None:
        """Note the steps past their prompts that are ready after a batch with prefill: left out, or come since."""
        for slot in self._awake:
            session = self._sessions[slot]
            if _past_prompt(session) and session.ready():
                self._waited.add(slot)

    def _next(self) -> list[tuple[int, int]]:
        if not (waiting := self._waiting()):  # as after nearly every batch: neighbours have to compute it first
            return []
        decoding = sum(_past_prompt(session) and session.may_go_on for session in self._sessions.values())
        return next_batch(waiting, self.speed, decoding, self._groups)

    def _waiting(self) -> list[ReadySession]:
        found = []
        for slot in tuple(self._awake):
            session = self._sessions[slot]
            if positions := session.ready():
                most = min(positions, session.stage.terms.max_chunk)
                waited = slot in self._waited
                found.append(ReadySession(slot, most, _past_prompt(session), self._served[slot], waited))
            else:
                self._awake.remove(slot)
        return found


def _past_prompt(session: Session) -> bool:
    stage = session.stage
    return stage.state is SessionState.RUNNING and stage.computed >= stage.terms.prompt
