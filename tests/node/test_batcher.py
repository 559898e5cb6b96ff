"""Which sessions a node computes together; the engine is the test."""

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

import pytest
from trio.testing import MockClock

import p2pinfer
from p2pinfer.core.sessions.schedule import BatchCost
from p2pinfer.core.sessions.step import Output, Step
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.units import Codec
from p2pinfer.core.wire.session_messages import Forward
from p2pinfer.node.batcher import Batcher
from p2pinfer.overlay.turn import Turn
from tests.node.middle import HEAD, ROW, SESSION, Middle

SLOTS = (1, 2, 3, 4)


class SlowEngine:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.busy_s = 0.0
        self._asked: tuple[Sequence[Step], Callable[[Sequence[Output]], None]] | None = None

    @property
    def slots(self) -> set[int]:
        """Of the batch under way."""
        return {step.slot for step in self._asked[0]} if self._asked else set()

    def begin(self, steps: Sequence[Step], done: Callable[[Sequence[Output]], None]) -> None:
        assert self._asked is None
        self._asked = steps, done

    def answer(self) -> None:
        assert self._asked is not None
        (steps, done), self._asked = self._asked, None
        self.busy_s += 0.001
        done([Output(bytes(ROW)) for _ in steps])


@pytest.mark.parametrize(("groups", "together"), [(1, 4), (2, 2)])
async def test_sessions_past_their_prompts_go_in_groups(autojump_clock: MockClock, groups: int, together: int) -> None:
    engine, turn = SlowEngine(), Turn()
    batcher = Batcher(engine, BatchCost(), turn, groups)  # type: ignore[arg-type]
    middles = [Middle(prompt=1, slot=slot, wake=batcher.wake) for slot in SLOTS]

    def rows_come() -> None:
        with turn:
            for middle in middles:
                middle.forward(1, Codec.F32, bytes(ROW))

    with ExitStack() as stack:
        for middle in middles:
            stack.enter_context(batcher.serving(middle.session))
        rows_come()
        assert engine.slots == set(SLOTS)  # prompts know no groups
        engine.answer()
        rows_come()
        served: list[set[int]] = []
        while engine.slots:
            served.append(engine.slots)
            engine.answer()
    assert [len(slots) for slots in served] == [together] * (len(SLOTS) // together)
    assert set().union(*served) == set(SLOTS)


async def test_a_step_that_waited_for_prefill_waits_for_no_more_of_it(autojump_clock: MockClock) -> None:
    engine, turn = SlowEngine(), Turn()
    batcher = Batcher(engine, BatchCost(0.001, 0.005), turn, 1)  # type: ignore[arg-type]
    chat, prompt = Middle(prompt=1, slot=1, wake=batcher.wake), Middle(prompt=8, slot=2, wake=batcher.wake)

    def rows_come(middle: Middle, count: int) -> None:
        with turn:
            middle.forward(count, Codec.F32, bytes(count * ROW))

    with batcher.serving(chat.session), batcher.serving(prompt.session):
        rows_come(chat, 1)
        engine.answer()
        rows_come(prompt, 8)
        assert engine.slots == {2}
        rows_come(chat, 1)
        engine.answer()
        assert engine.slots == {1}  # though the prompt has more
        with turn:
            engine.answer()
            chat.forward(1, Codec.F32, bytes(ROW))
        assert engine.slots == {1, 2}  # it waits for none but this one


async def test_who_has_finished_leaves_the_next_batch_and_counts_in_no_group(autojump_clock: MockClock) -> None:
    engine, turn = SlowEngine(), Turn()
    batcher = Batcher(engine, BatchCost(), turn, 2)  # type: ignore[arg-type]
    middles = [Middle(prompt=1, slot=slot, wake=batcher.wake) for slot in SLOTS]

    def rows_come() -> None:
        with turn:
            for middle in middles:
                middle.forward(1, Codec.F32, bytes(ROW))

    with ExitStack() as stack:
        for middle in middles:
            stack.enter_context(batcher.serving(middle.session))
        rows_come()
        engine.answer()
        rows_come()
        assert len(engine.slots) == 2
        waiting = [middle for middle in middles if middle.session.slot not in engine.slots]
        waiting[0].session.fail(Code.CANCELLED, "it is over")  # its blocks have not ended yet
        engine.answer()
        assert engine.slots == {waiting[1].session.slot}
        engine.answer()
        assert not engine.slots


PACKAGE = str(Path(p2pinfer.__file__).parent)
MOST_CALLS = 95  # of our own functions: 89 of them, and fewer where Python calls no function for a comprehension


async def test_a_decode_row_takes_few_calls(autojump_clock: MockClock) -> None:
    """At a middle stage, from its message to its books: what only passes on would be felt with every token."""
    engine, turn, calls = SlowEngine(), Turn(), Counter[str]()
    batcher = Batcher(engine, BatchCost(), turn, 1)  # type: ignore[arg-type]
    middle = Middle(prompt=1, wake=batcher.wake)

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
            calls[frame.f_code.co_qualname] += 1

    def row_comes(message: Forward) -> None:
        with turn:
            middle.heard(HEAD.public, message)
        engine.answer()

    with batcher.serving(middle.session):
        rows = [Forward(SESSION, 0, 0, at, 1, 0, Codec.F32, bytes(ROW)) for at in range(6)]
        for row in rows[:5]:
            row_comes(row)
        sys.setprofile(note)
        try:
            row_comes(rows[5])  # which earns the stage before no credit
        finally:
            sys.setprofile(None)
    assert middle.session.stage.computed == 6
    assert 0 < calls.total() <= MOST_CALLS, calls.most_common()
