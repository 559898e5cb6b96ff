"""What every engine does for the node, a process and its fake alike."""

import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from p2pinfer.core.records.draw import GREEDY
from p2pinfer.core.sessions.step import Step
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import EngineError
from p2pinfer.core.values.units import Codec, Span
from p2pinfer.core.wire.session_messages import pack_ids
from p2pinfer.engine.door import Engine
from p2pinfer.engine.memory import KILLED, MemoryComputer
from p2pinfer.engine.messages import ShardSpec
from p2pinfer.engine.process import EngineProcess, open_engine

from .conftest import Tiny
from .test_shard import PROMPT, chunk, first

LIMIT_S = 60  # a worker imports torch; beyond this it hangs
PAGES = 64
LAYERS = 4


@dataclass
class Kind:
    """How engines of one kind are opened, and killed."""

    open: Callable[[ShardSpec], AbstractAsyncContextManager[Engine]]
    kill: Callable[[Engine], None]
    reason: str


def kill_process(engine: Engine) -> None:
    assert isinstance(engine, EngineProcess)
    os.kill(engine.pid, signal.SIGKILL)


@pytest.fixture(params=["process", "memory"])
def kind(request: pytest.FixtureRequest) -> Kind:
    if request.param == "process":
        return Kind(open_engine, kill_process, "the engine's process was killed by signal 9")
    computer = MemoryComputer()
    return Kind(computer.open_engine, lambda _: computer.kill(), KILLED)


@pytest.fixture
async def engine(kind: Kind, llama: Tiny) -> AsyncIterator[Engine]:
    with trio.fail_after(LIMIT_S):
        async with kind.open(llama.spec(pages=PAGES)) as engine:
            yield engine


async def answer(engine: Engine, slot: int, count: int) -> list[int]:
    """A greedy answer to PROMPT, id by id."""
    await engine.open_session(slot, 6)
    [output] = await engine.step([chunk(slot, PROMPT)])
    drawn = list(output.ids)
    while len(drawn) < count:
        [output] = await engine.step([chunk(slot, output.ids, len(PROMPT) + len(drawn) - 1)])
        drawn += output.ids
    return drawn


async def next_id(engine: Engine, slot: int, ids: Sequence[int]) -> int:
    """The id after these, of a session that begins anew."""
    [output] = await engine.step([chunk(slot, ids)])
    [drawn] = output.ids
    return drawn


async def test_its_facts_are_those_of_the_model(engine: Engine, llama: Tiny) -> None:
    facts, config = engine.facts, llama.model.config
    assert (facts.width, facts.vocabulary) == (config.hidden_size, config.vocab_size)
    assert (facts.context, facts.pages) == (config.max_position_embeddings, PAGES)
    assert engine.free_pages == PAGES


async def test_a_cached_answer_is_the_one_without_a_cache(engine: Engine) -> None:
    drawn = await answer(engine, 0, 6)
    await engine.open_session(1, 6)
    for at in range(6):
        assert await next_id(engine, 1, (*PROMPT, *drawn[:at])) == drawn[at]
    assert engine.busy_s > 0


async def test_a_split_model_answers_as_the_whole(engine: Engine) -> None:
    for slot in range(3):
        await engine.open_session(slot, 6)
    lower, upper = Span(0, 1), Span(1, LAYERS)
    [rows] = await engine.step([Step(0, 0, pack_ids(PROMPT), Codec.IDS, Codec.F32, layers=lower)])
    [output] = await engine.step([Step(1, 0, rows.data, Codec.F32, Codec.IDS, GREEDY, upper)])
    assert output.ids == (await next_id(engine, 2, PROMPT),)


async def test_a_batch_answers_as_its_members_alone(engine: Engine) -> None:
    prompts = [PROMPT[at:] for at in range(4)]
    for slot in range(8):
        await engine.open_session(slot, 4)
    together = await engine.step([chunk(slot, prompt) for slot, prompt in enumerate(prompts)])
    assert [output.ids for output in together] == [
        (await next_id(engine, 4 + slot, prompt),) for slot, prompt in enumerate(prompts)
    ]


async def test_what_is_computed_again_is_forgotten(engine: Engine) -> None:
    await answer(engine, 0, 5)
    await engine.open_session(1, 6)
    at = len(PROMPT) - 1
    [again] = await engine.step([chunk(0, [7], at)])
    assert again.ids == (await next_id(engine, 1, (*PROMPT[:at], 7)),)


async def test_sessions_that_ask_at_once_get_their_own_answers(engine: Engine) -> None:
    answers: dict[int, list[int]] = {}

    async def one(slot: int) -> None:
        answers[slot] = await answer(engine, slot, 10)

    async with trio.open_nursery() as nursery:
        for slot in range(5):
            nursery.start_soon(one, slot)
    assert answers == dict.fromkeys(range(5), await answer(engine, 9, 10))


async def test_a_caller_that_gives_up_leaves_the_door_usable(engine: Engine) -> None:
    await engine.open_session(0, 6)
    for _ in range(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(engine.step, [chunk(0, PROMPT)])
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    assert len(await answer(engine, 1, 5)) == 5


async def test_pages_are_given_back_when_a_session_closes(engine: Engine) -> None:
    await engine.open_session(0, PAGES - 2)
    with pytest.raises(EngineError, match=f"6 pages of KV cache wanted, 2 of {PAGES} are free"):
        await engine.open_session(1, 6)
    engine.close_session(0)
    engine.close_session(0)
    assert engine.free_pages == PAGES
    assert len(await answer(engine, 1, 3)) == 3


async def test_a_session_that_closes_before_its_first_step_harms_nobody(engine: Engine) -> None:
    await engine.open_session(2, 4)
    engine.close_session(2)
    assert len(await answer(engine, 1, 2)) == 2


async def test_a_slot_is_open_once(engine: Engine) -> None:
    await engine.open_session(0, 1)
    with pytest.raises(EngineError, match="slot 0 is open already"):
        await engine.open_session(0, 1)


async def test_a_faulty_step_fails_alone(engine: Engine) -> None:
    for slot in range(3):
        await engine.open_session(slot, 3)
    stranger, gap, id_, good = await engine.step([chunk(7, [1]), chunk(0, [1], 5), chunk(1, [10**6]), chunk(2, PROMPT)])
    assert [stranger.code, gap.code, id_.code] == [Code.UNKNOWN_SESSION, Code.BAD_POSITION, Code.BAD_VALUES]
    await engine.open_session(3, 3)
    assert good.ids == (await next_id(engine, 3, PROMPT),)


async def test_a_session_has_no_more_positions_than_its_pages(engine: Engine) -> None:
    await engine.open_session(0, 2)
    [output] = await engine.step([chunk(0, PROMPT)])
    assert output.code is Code.BAD_POSITION


async def test_one_that_is_killed_fails_everybody_who_waits(engine: Engine, kind: Kind) -> None:
    raised: list[str] = []

    async def ask(slot: int) -> None:
        try:
            while True:
                await engine.step([chunk(slot, PROMPT)])
        except EngineError as error:
            raised.append(str(error))

    for slot in range(3):
        await engine.open_session(slot, 6)
    async with trio.open_nursery() as nursery:
        for slot in range(3):
            nursery.start_soon(ask, slot)
        await wait_all_tasks_blocked()
        kind.kill(engine)
    assert raised == [kind.reason] * 3
    assert str(await engine.wait_ended()) == kind.reason
    with pytest.raises(EngineError, match=kind.reason):
        await engine.open_session(9, 1)
    with pytest.raises(EngineError, match=kind.reason):
        await engine.step([chunk(0, PROMPT)])


async def test_after_its_block_it_is_closed(kind: Kind, llama: Tiny) -> None:
    async with kind.open(llama.spec()) as engine:
        await trio.lowlevel.checkpoint()
    with pytest.raises(EngineError, match="the engine is closed"):
        await engine.step([])


# The fake's own


async def test_the_fake_takes_its_time_hangs_and_overflows(autojump_clock: MockClock, llama: Tiny) -> None:
    computer = MemoryComputer(batch_s=1.0, position_s=0.5)
    async with computer.open_engine(llama.spec()) as engine:
        await engine.open_session(0, 6)
        await engine.step([first(0, PROMPT[:4])])
        assert trio.current_time() == engine.busy_s == 3.0
        computer.overflows = True
        [output] = await engine.step([chunk(0, [1], 4)])
        assert output.code is Code.ENGINE
        computer.hangs = True
        with trio.move_on_after(86_400) as scope:
            await engine.step([chunk(0, [1], 4)])
        assert scope.cancelled_caught
