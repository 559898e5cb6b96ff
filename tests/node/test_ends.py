"""No ghosts: whatever a session ends by, its pages, tasks and descriptors come back, and nothing of it stays in memory.

The nodes are real and so is the client's side of the protocol; each way to end is played by a client of its own.
"""

import gc
import os
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from typing import Final

import psutil
import pytest
import trio

from p2pinfer.client.run import Run
from p2pinfer.core.money.stage_account import StageAccount
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import P2pinferError
from p2pinfer.core.values.keys import PrivateKey
from p2pinfer.core.values.units import SessionId
from p2pinfer.core.wire.session_messages import Close, Propose, Sampled, SessionRefused, Signed
from p2pinfer.node.session import Session
from tests.swarms import Loop, TinySwarm

from .strangers import open_stranger

SOON_S: Final = 5.0  # of a loaded machine
TAIL: Final = 2
KINDS: Final = (Session, StageAccount, Run)

End = Callable[[TinySwarm], Awaitable[None]]


@dataclass(frozen=True)
class Held:
    """What sessions take."""

    pages: int
    objects: int
    tasks: int
    descriptors: int

    def exceeds(self, other: "Held") -> bool:
        return (
            self.pages > other.pages
            or self.objects > other.objects
            or self.tasks > other.tasks
            or self.descriptors > other.descriptors
        )


def pages_held(swarm: TinySwarm) -> int:
    engines = [node.shard.engine for node in swarm.nodes if node.shard is not None]
    return sum(engine.facts.pages - engine.free_pages for engine in engines)


def held(swarm: TinySwarm) -> Held:
    gc.collect()
    return Held(
        pages=pages_held(swarm),
        objects=sum(isinstance(one, KINDS) for one in gc.get_objects()),
        tasks=trio.lowlevel.current_statistics().tasks_living,
        descriptors=psutil.Process().num_fds(),
    )


async def whole_answer(swarm: TinySwarm) -> None:
    async with swarm.client() as client:
        assert (await client.answer("hello", max_tokens=12)).tokens == 12


async def one_token(swarm: TinySwarm) -> None:
    async with swarm.client() as client:
        assert (await client.answer("hello", max_tokens=1)).tokens == 1


async def left_loop(swarm: TinySwarm) -> None:
    async with swarm.client() as client, aclosing(client.generate("hello", max_tokens=100)) as pieces:
        async for _ in pieces:
            break


async def cancelled_before_the_first_id(swarm: TinySwarm) -> None:
    async with swarm.client() as client:
        with trio.move_on_after(0.01):
            await client.answer("hello " * 20, max_tokens=60)


async def closed_client(swarm: TinySwarm) -> None:
    async with swarm.client() as client, aclosing(client.generate("hello", max_tokens=100)) as pieces:
        with suppress(P2pinferError):
            async for _ in pieces:
                client.close()


async def vanished_client(swarm: TinySwarm) -> None:
    """Its links end with a word, as those of a process that is stopped do."""
    async with (
        open_stranger(swarm, new_key()) as stranger,
        stranger.running(await stranger.plan(max_tokens=60)) as session,
    ):
        await session.next(Sampled)


async def started_anew(swarm: TinySwarm) -> None:
    """Its process was killed in the middle of an answer, and another one with its key is there: nobody comes back."""
    key = new_key()
    async with (
        open_stranger(swarm, key) as stranger,
        stranger.running(await stranger.plan(max_tokens=60)) as session,
    ):
        await session.next(Sampled)
        for link in session.links:
            swarm.world.cut(key.public, link.peer)  # without a word
            await link.closed.wait()
    async with open_stranger(swarm, key) as again:
        for place in range(len(swarm.nodes)):
            await again.link(await again.plan(), place)
        with trio.fail_after(SOON_S):
            while pages_held(swarm):  # noqa: ASYNC110 - nobody tells of it
                await trio.sleep(0.01)


async def vanished_while_opening(swarm: TinySwarm) -> None:
    async with open_stranger(swarm, new_key()) as stranger:
        plan = await stranger.plan()
        links = [await stranger.link(plan, place) for place in range(len(plan.stages))]
        for link, message in zip(links, plan.opens, strict=True):
            link.send_nowait(message)
            link.close(Code.LEAVING)


async def close_right_behind_the_open(swarm: TinySwarm) -> None:
    async with open_stranger(swarm, new_key()) as stranger:
        plan = await stranger.plan()
        for place, message in enumerate(plan.opens):
            link = await stranger.link(plan, place)
            link.send_nowait(message)
            link.send_nowait(Close(plan.session, 0, Code.CANCELLED, 0, ""))
        await trio.sleep(0.1)


async def closed_without_a_prompt(swarm: TinySwarm) -> None:
    async with open_stranger(swarm, new_key()) as stranger:
        plan = await stranger.plan()
        for place in range(len(plan.stages)):
            await stranger.open(plan, place)


async def signatures_that_are_none(swarm: TinySwarm) -> None:
    async with (
        open_stranger(swarm, new_key()) as stranger,
        stranger.running(await stranger.plan(max_tokens=60)) as session,
    ):
        proposal = await session.next(Propose)
        assert isinstance(proposal, Propose)
        for place in range(len(session.links)):
            session.say(place, Signed(session.plan.session, proposal.receipt, bytes(64)))
        await session.next(Close)
        session.close()


async def lie_of_the_prompt(swarm: TinySwarm) -> None:
    async with (
        open_stranger(swarm, new_key()) as stranger,
        stranger.running(await stranger.plan(), (1, 2)) as session,
    ):
        await session.next(Close)
        session.close()


async def refused_by_one_stage(swarm: TinySwarm) -> None:
    async with open_stranger(swarm, new_key()) as stranger:
        plan = await stranger.plan()
        bad = replace(plan.opens[TAIL], signature=bytes(64))
        opens = [*plan.opens[:TAIL], bad]
        links = [await stranger.link(plan, place) for place in range(len(plan.stages))]
        with stranger.exchange.open_session(plan.session, [stage.key for stage in plan.stages]) as incoming:
            for link, message in zip(links, opens, strict=True):
                link.send_nowait(message)
            while not isinstance((await incoming.receive())[1], SessionRefused):
                pass
            for link in links:
                link.send_nowait(Close(plan.session, 0, Code.CANCELLED, 0, ""))


async def refused_many_times(swarm: TinySwarm) -> None:
    async with open_stranger(swarm, new_key()) as stranger:
        plan = await stranger.plan()
        for _ in range(10):
            message = replace(plan.opens[0], session=SessionId(os.urandom(16)), signature=bytes(64))
            assert isinstance(await stranger.open(plan, 0, message), SessionRefused)


def new_key() -> PrivateKey:
    return PrivateKey(os.urandom(32))


async def out_of_time(swarm: TinySwarm) -> None:
    async with swarm.client() as client:
        with suppress(P2pinferError):
            await client.answer("hello", max_tokens=100, timeout=0.05)


ENDS: Final[tuple[End, ...]] = (
    *(whole_answer, one_token, left_loop, out_of_time, cancelled_before_the_first_id, closed_client, vanished_client),
    started_anew,
    *(vanished_while_opening, close_right_behind_the_open, closed_without_a_prompt, signatures_that_are_none),
    *(lie_of_the_prompt, refused_by_one_stage, refused_many_times),
)


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
def test_nothing_stays_of_a_session_that_has_ended(loop: Loop, end: End) -> None:
    async def main() -> None:
        with trio.fail_after(30):
            await end(loop.swarm)  # what is made once, by the first of a kind, is there afterwards
            while pages_held(loop.swarm):  # noqa: ASYNC110 - nobody tells of it
                await trio.sleep(0.01)
            before = held(loop.swarm)
            for _ in range(3):
                await end(loop.swarm)
            with trio.move_on_after(SOON_S):
                while held(loop.swarm).exceeds(before):  # noqa: ASYNC110 - nobody tells of all of it
                    await trio.sleep(0.1)
            after = held(loop.swarm)
            assert not after.exceeds(before), (before, after)
            assert after.pages == 0

    loop.run(main)


NODES_OWN: Final = (Session, StageAccount)


def nodes_own() -> list[object]:
    return [one for one in gc.get_objects() if isinstance(one, NODES_OWN)]


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
def test_nothing_of_a_node_waits_for_the_collector(loop: Loop, end: End) -> None:
    """To find such garbage stops the loop."""

    async def main() -> None:
        gc.collect()
        before = nodes_own()  # an account that another test keeps, as a parameter or in what it raised
        gc.disable()
        try:
            with trio.fail_after(30):
                await end(loop.swarm)
            with trio.move_on_after(SOON_S):
                while len(nodes_own()) > len(before):  # noqa: ASYNC110 - nobody tells
                    await trio.sleep(0.1)
            assert len(nodes_own()) <= len(before)
        finally:
            gc.enable()

    loop.run(main)
