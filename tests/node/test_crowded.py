"""More clients than a node has room for: each waits its turn, nobody fails, and nobody holds pages while it waits."""

import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from p2pinfer.client.api import Client
from p2pinfer.client.contracts import Plan
from p2pinfer.core.room.queue import TURN_MS, new_ticket
from p2pinfer.core.sessions.pages import pages_for
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import GenerationFailed
from p2pinfer.core.values.keys import PrivateKey
from p2pinfer.core.wire.session_messages import Accept, Close, SessionMessage, SessionRefused
from p2pinfer.node.daemon import Node
from p2pinfer.overlay.memory import MemoryWorld
from tests.swarms import Loop, TinySwarm

from .strangers import Stranger, open_stranger

HANG_S = 40.0  # a test that fails should not hang
WAIT_S = 30.0
SOON_S = 1.0  # a node gives back what a session that was closed had reserved


@asynccontextmanager
async def nodes(loop: Loop, folder: Path, *spans: tuple[str, int]) -> AsyncIterator[tuple[TinySwarm, list[Node]]]:
    """A swarm of nodes with these layers and room for so many sessions."""
    swarm = TinySwarm(MemoryWorld(), loop.swarm.root, loop.swarm.store, loop.swarm.model)
    async with AsyncExitStack() as stack:
        found: list[Node] = []
        for number, (layers, sessions) in enumerate(spans):
            node = swarm.node(folder / f"node{number}", layers, serve_max_sessions=sessions)
            found.append(await stack.enter_async_context(node))
            swarm.bootstrap = found[0].addresses
        yield swarm, found


@asynccontextmanager
async def clients(swarm: TinySwarm, count: int) -> AsyncIterator[list[Client]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(swarm.client()) for _ in range(count)]


async def answers(asking: list[Client], each: int, tokens: int = 12, wait_s: float = WAIT_S) -> list[int]:
    """Tokens that each of the clients got, with so many streams at once."""
    got = [0] * len(asking)

    async def one(number: int, stream: int) -> None:
        answer = await asking[number].answer(f"hello {number} {stream}", max_tokens=tokens, wait_s=wait_s)
        got[number] += answer.tokens

    async with trio.open_nursery() as nursery:
        for number in range(len(asking)):
            for stream in range(each):
                nursery.start_soon(one, number, stream)
    return got


async def wait_free(node: Node) -> None:
    assert node.shard is not None
    while node.shard.engine.free_pages < node.shard.engine.facts.pages:  # noqa: ASYNC110 - nobody tells of it
        await trio.sleep(0.01)


def test_more_streams_than_sessions_are_all_answered(loop: Loop, tmp_path: Path) -> None:
    async def main() -> None:
        async with nodes(loop, tmp_path, ("0:3", 2)) as (swarm, [node]), clients(swarm, 4) as asking:
            with trio.fail_after(HANG_S):
                got = await answers(asking, 2)
                await wait_free(node)
            assert all(tokens > 0 for tokens in got)

    loop.run(main)


def test_streams_over_two_stages_with_different_room_are_all_answered(loop: Loop, tmp_path: Path) -> None:
    async def main() -> None:
        async with nodes(loop, tmp_path, ("0:2", 3), ("2:3", 2)) as (swarm, stages), clients(swarm, 3) as asking:
            with trio.fail_after(HANG_S):
                got = await answers(asking, 2)
                for node in stages:
                    await wait_free(node)
            assert all(tokens > 0 for tokens in got)

    loop.run(main)


def test_who_waits_is_told_and_fails_with_the_numbers_when_patience_is_over(loop: Loop, tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            nodes(loop, tmp_path, ("0:3", 1)) as (swarm, [node]),
            open_stranger(swarm, new_key()) as busy,
            clients(swarm, 1) as [client],
        ):
            async with busy.running(await busy.plan(max_tokens=100)) as session:
                said: list[str] = []
                with pytest.raises(GenerationFailed, match=r"0 wait before you.*in 1 s there was no room") as failure:
                    await client.answer("hello", max_tokens=4, wait_s=1.0, on_wait=said.append)
                assert failure.value.code is Code.BUSY
                assert any("is full: 0 wait before you" in words for words in said)
                session.close()
            await wait_free(node)

    loop.run(main)


def test_opens_that_come_together_find_no_more_room_than_there_is(loop: Loop, tmp_path: Path) -> None:
    """`serve.max_sessions` holds however many ask at once; a session that has ended counts no more."""

    async def main() -> None:
        with trio.fail_after(HANG_S):
            async with (
                nodes(loop, tmp_path, ("0:3", 2)) as (swarm, [node]),
                open_stranger(swarm, new_key()) as stranger,
            ):
                assert node.shard is not None
                engine = node.shard.engine
                plans = [await stranger.plan() for _ in range(12)]
                link = await stranger.link(plans[0], 0)
                for _ in range(2):
                    answers = []
                    with ExitStack() as stack:
                        incoming = [
                            stack.enter_context(stranger.exchange.open_session(plan.session, [link.peer]))
                            for plan in plans
                        ]
                        for plan in plans:
                            link.send_nowait(plan.opens[0])
                        answers = [(await one.receive())[1] for one in incoming]
                        pages = pages_for(plans[0].contracts[0].record.limits.max_positions)
                        assert sum(isinstance(answer, Accept) for answer in answers) == 2
                        assert engine.facts.pages - engine.free_pages == 2 * pages
                        for plan in plans:
                            link.send_nowait(Close(plan.session, 0, Code.CANCELLED, 0, ""))
                        await wait_free(node)
                    plans = [await stranger.plan() for _ in range(12)]

    loop.run(main)


def new_key() -> PrivateKey:
    return PrivateKey(os.urandom(32))


async def heard(stranger: Stranger, shape: type[SessionMessage]) -> SessionMessage:
    while True:
        for _, message in stranger.heard:
            if isinstance(message, shape):
                return message
        await trio.sleep(0.01)


def test_a_turn_is_told_as_soon_as_there_is_room(loop: Loop, tmp_path: Path) -> None:
    async def main() -> None:
        with trio.fail_after(HANG_S):
            async with (
                nodes(loop, tmp_path, ("0:3", 1)) as (swarm, _),
                open_stranger(swarm, new_key()) as busy,
                open_stranger(swarm, new_key()) as first,
                open_stranger(swarm, new_key()) as second,
            ):
                async with busy.running(await busy.plan(max_tokens=100)) as session:
                    plans = [await one.plan() for one in (first, second)]
                    tickets = [ticket(1), ticket(2)]
                    answers = [
                        await waits(one, plan, ticket)
                        for one, plan, ticket in zip((first, second), plans, tickets, strict=True)
                    ]
                    assert [answer.place for answer in answers] == [0, 1]
                    session.close()
                turn = await heard(first, SessionRefused)
                assert isinstance(turn, SessionRefused)
                assert (turn.session, turn.ticket) == (plans[0].session, tickets[0])
                assert (turn.code, turn.retry_ms, turn.place) == (Code.BUSY, TURN_MS, 0)
                await waits(second, await second.plan(), tickets[1])  # the room is kept for the first
                plan = await first.plan()
                assert isinstance(await first.open(plan, 0, replace(plan.opens[0], ticket=turn.ticket)), Accept)
                assert isinstance(await heard(second, SessionRefused), SessionRefused)

    loop.run(main)


def test_a_turn_that_comes_to_nothing_is_over_at_once(loop: Loop, tmp_path: Path) -> None:
    """The next one waits for nobody whose contract is not signed."""

    async def main() -> None:
        with trio.fail_after(HANG_S):
            async with (
                nodes(loop, tmp_path, ("0:3", 1)) as (swarm, _),
                open_stranger(swarm, new_key()) as busy,
                open_stranger(swarm, new_key()) as first,
                open_stranger(swarm, new_key()) as second,
            ):
                async with busy.running(await busy.plan(max_tokens=100)) as session:
                    tickets = [ticket(1), ticket(2)]
                    for one, its in zip((first, second), tickets, strict=True):
                        await waits(one, await one.plan(), its)
                    session.close()
                await heard(first, SessionRefused)
                plan = await first.plan()
                unsigned = replace(plan.opens[0], ticket=tickets[0], signature=bytes(64))
                refusal = await first.open(plan, 0, unsigned)
                assert isinstance(refusal, SessionRefused)
                assert refusal.code == Code.BAD_SIGNATURE
                plan = await second.plan()
                assert isinstance(await second.open(plan, 0, replace(plan.opens[0], ticket=tickets[1])), Accept)

    loop.run(main)


def test_who_had_room_for_long_gives_way_and_is_told_why(
    loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though its session is in use: it waits for a signature."""
    monkeypatch.setattr("p2pinfer.core.room.excess.MOST_EXCESS_S", 0.1)
    monkeypatch.setattr("p2pinfer.core.room.excess.SLICE_S", 0.1)
    monkeypatch.setattr("p2pinfer.core.room.free_room.SLICE_S", 0.1)

    async def main() -> None:
        with trio.fail_after(HANG_S):
            async with (
                nodes(loop, tmp_path, ("0:3", 1)) as (swarm, _),
                open_stranger(swarm, new_key()) as first,
                open_stranger(swarm, new_key()) as second,
                first.running(await first.plan(max_tokens=100)) as session,
            ):
                its = ticket(1)
                await waits(second, await second.plan(), its)
                await heard(second, SessionRefused)
                plan = await second.plan()
                assert isinstance(await second.open(plan, 0, replace(plan.opens[0], ticket=its)), Accept)
                close = await session.next(Close)
                assert isinstance(close, Close)
                assert close.code == Code.OUTSTAYED

    loop.run(main)


async def waits(stranger: Stranger, plan: Plan, ticket: bytes) -> SessionRefused:
    """Open and be refused, and keep the place."""
    link = await stranger.link(plan, 0)
    with stranger.exchange.open_session(plan.session, [link.peer]) as incoming:
        link.send_nowait(replace(plan.opens[0], ticket=ticket))
        answer = (await incoming.receive())[1]
    assert isinstance(answer, SessionRefused), answer
    assert answer.ticket == ticket
    return answer


def ticket(number: int) -> bytes:
    """Lower for who waits longer."""
    return new_ticket(round(time.time() * 1000), number.to_bytes(8, "big"))


def test_who_gives_its_place_up_is_not_told(loop: Loop, tmp_path: Path) -> None:
    async def main() -> None:
        with trio.fail_after(HANG_S):
            async with (
                nodes(loop, tmp_path, ("0:3", 1)) as (swarm, _),
                open_stranger(swarm, new_key()) as busy,
                open_stranger(swarm, new_key()) as first,
                open_stranger(swarm, new_key()) as second,
            ):
                async with busy.running(await busy.plan(max_tokens=100)) as session:
                    plan = await first.plan()
                    await waits(first, plan, ticket(1))
                    await waits(second, await second.plan(), ticket(2))
                    (await first.link(plan, 0)).send_nowait(Close(plan.session, 0, Code.CANCELLED, 0, ""))
                    assert (
                        await waits(second, await second.plan(), ticket(3))
                    ).place == 1  # the first is not before it any more
                    session.close()
                assert isinstance(await heard(second, SessionRefused), SessionRefused)
                assert not first.heard

    loop.run(main)


def test_who_was_refused_by_another_stage_at_the_same_time_keeps_its_place(loop: Loop, tmp_path: Path) -> None:
    """Its Close crosses the refusal."""

    async def main() -> None:
        with trio.fail_after(HANG_S):
            async with (
                nodes(loop, tmp_path, ("0:3", 1)) as (swarm, _),
                open_stranger(swarm, new_key()) as busy,
                open_stranger(swarm, new_key()) as stranger,
            ):
                async with busy.running(await busy.plan(max_tokens=100)) as session:
                    plan = await stranger.plan()
                    await waits(stranger, plan, ticket(1))
                    (await stranger.link(plan, 0)).send_nowait(Close(plan.session, 0, Code.BUSY, 0, ""))
                    session.close()
                turn = await heard(stranger, SessionRefused)
                assert isinstance(turn, SessionRefused)
                assert (turn.session, turn.retry_ms) == (plan.session, TURN_MS)

    loop.run(main)


def test_a_client_that_is_full_somewhere_holds_nothing_elsewhere(loop: Loop, tmp_path: Path) -> None:
    """Its tail has no room: it ends the session at the head at once, and takes no window there."""

    async def main() -> None:
        with trio.fail_after(HANG_S):
            async with (
                nodes(loop, tmp_path, ("0:2", 4), ("2:3", 1)) as (swarm, [head, _]),
                open_stranger(swarm, new_key()) as busy,
                clients(swarm, 2) as asking,
            ):
                assert head.shard is not None
                engine = head.shard.engine
                plan = await busy.plan(max_tokens=100)
                async with busy.running(plan) as session:
                    own = pages_for(plan.contracts[0].record.limits.max_positions)
                    async with trio.open_nursery() as nursery:
                        waiting = [trio.Event() for _ in asking]
                        for client, waits_ in zip(asking, waiting, strict=True):
                            nursery.start_soon(answered, client, waits_)
                        for waits_ in waiting:
                            await waits_.wait()
                        with trio.fail_after(SOON_S):
                            while engine.facts.pages - engine.free_pages > own:  # noqa: ASYNC110 - nobody tells of it
                                await trio.sleep(0.01)
                        session.close()

    loop.run(main)


async def answered(client: Client, waiting: trio.Event) -> None:
    """waiting: set when it is told that a stage is full"""

    def hear(words: str) -> None:
        if "is full" in words:
            waiting.set()

    assert (await client.answer("hello", max_tokens=4, wait_s=WAIT_S, on_wait=hear)).tokens > 0
