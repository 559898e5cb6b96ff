"""An answer, as its client gets it: pieces of text while they come, and all of it at the end."""

from dataclasses import dataclass
from math import inf

import trio

from p2pinfer.client.run import Run
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import GenerationFailed
from p2pinfer.core.values.units import PeerKey, Span


@dataclass(frozen=True, slots=True)
class StageOfAnswer:
    """A stage that took part. cost: nano-credits that were signed for it."""

    peer: PeerKey
    layers: Span
    cost: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, finished unless it is that of `AnswerStream.so_far`.

    reason:        why it ended: END, LENGTH or STOP
    first_token_s: seconds from the start to the first id
    decode_s:      seconds from the first id to the last
    cost:          nano-credits that were signed for it, routes that failed before this one included
    lost:          the part of them that went to the routes that failed, and bought nothing
    """

    text: str
    ids: tuple[int, ...]
    reason: Code
    prompt_tokens: int
    first_token_s: float
    decode_s: float
    stages: tuple[StageOfAnswer, ...]
    cost: int
    lost: int = 0

    @property
    def tokens(self) -> int:
        return len(self.ids)

    @property
    def tokens_per_second(self) -> float:
        """Speed after the first id; 0 for an answer of one."""
        return (self.tokens - 1) / self.decode_s if self.decode_s else 0.0


class AnswerStream:
    """An answer under way: `async for piece in stream`, then `stream.answer`."""

    def __init__(self, running: Run, lost: int, ends: float = inf) -> None:
        """lost: nano-credits that routes tried before have cost. ends: when its time is over, monotonic"""
        self._running = running
        self._lost = lost
        self._ends = ends
        self._given = 0  # pieces

    @property
    def stages(self) -> tuple[StageOfAnswer, ...]:
        """The route."""
        stages = zip(self._running.plan.stages, self._running.costs, strict=True)
        return tuple(StageOfAnswer(stage.key, stage.span, cost) for stage, cost in stages)

    @property
    def answer(self) -> Answer:
        """The whole answer, and what was signed for it by now; see `wait_paid`.

        Raises GenerationFailed if it did not come to an end, or has not yet.
        """
        generation = self._running.generation
        if generation.failure is not None:
            raise self._with_cost(generation.failure)
        if not generation.over:
            raise GenerationFailed("the answer is still coming", Code.NONE)
        return self.so_far

    @property
    def so_far(self) -> Answer:
        """The answer as far as it has come, with what was signed for it; of one that broke off, too.

        Its reason is the code of what broke it off; NONE while it is still coming.
        """
        running, generation = self._running, self._running.generation
        assert running.first_id_s is not None and running.last_id_s is not None  # its route has delivered an id
        return Answer(
            text="".join(generation.pieces),
            ids=tuple(generation.ids),
            reason=generation.reason,
            prompt_tokens=len(generation.prompt),
            first_token_s=running.first_id_s - running.started_s,
            decode_s=running.last_id_s - running.first_id_s,
            stages=self.stages,
            cost=running.cost + self._lost,
            lost=self._lost,
        )

    def _with_cost(self, failure: GenerationFailed) -> GenerationFailed:
        """The failure, and what was signed for what came before it."""
        lost, cost = self._lost, self._running.cost + self._lost
        text = f"{failure}; {cost:,} nano-credits were signed for what came before"
        if lost:
            text += f", {lost:,} of them for routes that failed and brought nothing"
        if self._running.unpaid is not None:
            text += "; more of it may be due (p2pinfer owed shows it)"
        return GenerationFailed(text, failure.code, cost)

    async def wait_paid(self) -> None:
        """Wait for the end, and until the last receipts are signed, or no more will be: some milliseconds as a rule."""
        await self._wait_in_time(self._running.over)
        await self._running.settled.wait()

    async def _wait_in_time(self, event: trio.Event) -> None:
        """Wait for what happens at the end of the answer at the latest; give it up when its time is over."""
        with trio.move_on_at(self._ends):
            await event.wait()
        if not event.is_set():
            self._running.fail("it was not whole in its time (timeout)", Code.CANCELLED)

    def __aiter__(self) -> "AnswerStream":
        """No generator: a loop over it may be left at any time, and gone on with."""
        return self

    async def __anext__(self) -> str:
        """The next piece of text, as soon as it comes.

        Raises GenerationFailed when the generation ends without an answer, once what came of it is paid.
        """
        generation, waited = self._running.generation, False
        while not (has_piece := self._has_piece()) and not generation.over:
            await self._wait_in_time(self._running.changed)
            waited = True
        if not waited:
            await trio.lowlevel.checkpoint()
        if has_piece:
            self._given += 1
            return generation.pieces[self._given - 1]
        if generation.failure is None:
            raise StopAsyncIteration
        await self.wait_paid()
        raise self._with_cost(generation.failure)

    def _has_piece(self) -> bool:
        """The next piece has come; those without text are passed over."""
        pieces = self._running.generation.pieces
        while self._given < len(pieces):
            if pieces[self._given]:
                return True
            self._given += 1
        return False

    def cancel(self) -> None:
        """Give the answer up; what was delivered is paid."""
        self._running.fail("the client cancelled", Code.CANCELLED)
