"""A failure in one session ends that session: the others go on, and so does the node."""

import logging
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest
import trio

from p2pinfer.core.sessions.schedule import BatchCost
from p2pinfer.core.sessions.step import Step
from p2pinfer.core.swarm.source import NOWHERE, Scope, Source
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.keys import PrivateKey, peer_name
from p2pinfer.core.values.units import Codec, PeerKey, SessionId
from p2pinfer.core.wire.session_messages import Accept, Close, Open, Sampled, SessionRefused
from p2pinfer.disk.identity import load_identity
from p2pinfer.engine.door import Engine
from p2pinfer.node.batcher import Batcher
from p2pinfer.node.daemon import Surroundings, open_node
from p2pinfer.node.settlement import NodeSettlement
from p2pinfer.overlay.limits import ALL_SETTLEMENTS, KEY_SETTLEMENTS, NETWORK_SETTLEMENTS
from p2pinfer.overlay.memory import MemoryWorld
from p2pinfer.overlay.turn import Turn
from tests.node.middle import ROW, Middle
from tests.node.solo import Solo
from tests.node.strangers import open_stranger
from tests.node.test_batcher import SlowEngine
from tests.swarms import Loop, TinySwarm, tiny_settings


async def test_a_client_that_vanishes_as_the_last_id_is_sampled_ends_its_session_only() -> None:
    """Its link is gone when the id is sent, so the session ends before the id is counted."""
    solo = Solo(max_tokens=2)
    solo.compute()
    solo.links.clear()
    solo.compute()
    assert solo.session.stage.reason is Code.LENGTH
    assert solo.account.committed == solo.session.stage.computed == 2
    assert [proposal.committed for proposal in solo.account.due(solo.contract.record.issued)] == [2]


class FailingMiddle(Middle):
    """A session whose books fail at one of the calls that a batch makes."""

    def __init__(self, at: str, slot: int, batcher: Batcher) -> None:
        super().__init__(prompt=1, slot=slot, wake=batcher.wake)

        def fail(*_: object) -> None:
            raise ValueError("a fault of ours")

        setattr(self.session.steps if at in ("take", "count") else self.session, at, fail)


@pytest.mark.parametrize("at", ["take", "done", "count"])
async def test_a_failure_in_a_batch_ends_one_session_and_the_others_go_on(
    at: str, caplog: pytest.LogCaptureFixture
) -> None:
    engine, turn = SlowEngine(), Turn()
    batcher = Batcher(engine, BatchCost(), turn, 1)  # type: ignore[arg-type]
    failing, other = FailingMiddle(at, 1, batcher), Middle(prompt=1, slot=2, wake=batcher.wake)
    with ExitStack() as stack:
        for middle in (failing, other):
            stack.enter_context(batcher.serving(middle.session))
        for _ in range(3):
            with turn:
                for middle in (failing, other):
                    middle.forward(1, Codec.F32, bytes(ROW))
            engine.answer()
    assert other.session.stage.computed == 3
    assert not batcher.failed.is_set()
    assert failing.session.stage.reason is Code.INTERNAL
    [close] = [message for message in failing.client.sent if isinstance(message, Close)]
    assert (close.code, close.text) == (Code.INTERNAL, "a fault of its own")
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert caplog.records[0].exc_info


class BrokenEngine(SlowEngine):
    def begin(self, steps: Sequence[Step], done: object) -> None:
        raise ValueError("a fault of ours")


async def test_a_fault_that_belongs_to_no_session_is_told_to_the_node() -> None:
    batcher = Batcher(BrokenEngine(), BatchCost(), Turn(), 1)  # type: ignore[arg-type]
    middle = Middle(prompt=1, slot=1, wake=batcher.wake)
    with batcher.serving(middle.session):
        middle.forward(1, Codec.F32, bytes(ROW))
    assert batcher.failed.is_set()


async def test_a_message_that_our_code_cannot_take_ends_its_session_only() -> None:
    middle = FailingMiddle("note_change", 1, Batcher(SlowEngine(), BatchCost(), Turn(), 1))  # type: ignore[arg-type]
    middle.forward(1, Codec.F32, bytes(ROW))
    assert middle.session.stage.reason is Code.INTERNAL


@pytest.mark.parametrize(
    ("keys", "source", "most"),
    [
        (1, NOWHERE, KEY_SETTLEMENTS),
        (8, Source("198.41.0.4", Scope.PUBLIC), NETWORK_SETTLEMENTS),
        (32, NOWHERE, ALL_SETTLEMENTS),
    ],
)
async def test_settlements_are_bounded(nursery: trio.Nursery, keys: int, source: Source, most: int) -> None:
    """What is beyond the bound is dropped, and the client sends it again at its next contact; the rest is charged."""
    asked = []

    class SlowJournal:
        async def read(self, query: object) -> list[object]:
            asked.append(query)
            await trio.sleep_forever()
            return []

    class Peer:
        def __init__(self, number: int) -> None:
            self.peer = PeerKey(number.to_bytes(32, "big"))
            self.source = source
            self.looks = 0  # that it was charged with

        def charge_look(self) -> None:
            self.looks += 1

    peers = [Peer(number) for number in range(keys)]
    settling = NodeSettlement(SlowJournal(), None, nursery)  # type: ignore[arg-type]
    for _ in range(2 * KEY_SETTLEMENTS):
        for peer in peers:
            settling.greet(peer)  # type: ignore[arg-type]
    await trio.testing.wait_all_tasks_blocked()
    assert len(asked) == sum(peer.looks for peer in peers) == most
    nursery.cancel_scope.cancel()


def test_opens_while_a_node_loads_are_refused_as_by_one_that_leaves(loop: Loop, tmp_path: Path) -> None:
    """WIRE-26: its client knows it from before it was started again, and has nothing against it."""

    async def main() -> None:
        alone, loading = TinySwarm(MemoryWorld(), loop.swarm.root, loop.swarm.store, loop.swarm.model), trio.Event()
        key = load_identity(tmp_path / "node", int(time.time())).key

        @asynccontextmanager
        async def load_for_ever(*_: object) -> AsyncIterator[Engine]:
            loading.set()
            await trio.sleep_forever()
            yield  # type: ignore[misc]

        async def serve() -> None:
            around = Surroundings(alone.network, engines=load_for_ever)
            async with open_node(tiny_settings(alone.model, "0:3"), tmp_path / "node", alone.store, around):
                raise AssertionError

        async with trio.open_nursery() as nursery, open_stranger(alone, PrivateKey(os.urandom(32))) as stranger:
            nursery.start_soon(serve)
            await loading.wait()
            link = await stranger.network.dial(f"/memory/p2p/{peer_name(key.public)}")  # type: ignore[arg-type]
            session = SessionId(bytes(16))
            with stranger.exchange.open_session(session, [key.public]) as incoming:
                link.send_nowait(Open(session, 0, b"", bytes(64), bytes(32), b"", (), (), (), ()))
                _, answer = await incoming.receive()
            assert isinstance(answer, SessionRefused)
            assert answer.code == Code.LEAVING
            nursery.cancel_scope.cancel()

    loop.run(main)


def test_opens_while_a_node_leaves_are_refused(loop: Loop, tmp_path: Path) -> None:
    """A client that does not sign keeps it for a while."""

    async def main() -> None:
        alone = TinySwarm(MemoryWorld(), loop.swarm.root, loop.swarm.store, loop.swarm.model)
        leaving = trio.Event()

        async def serve(*, task_status: trio.TaskStatus[object]) -> None:
            async with alone.node(tmp_path / "node", "0:3") as node:
                task_status.started(node)
                await leaving.wait()

        async with trio.open_nursery() as nursery:
            node = await nursery.start(serve)
            alone.bootstrap = node.addresses
            async with open_stranger(alone, PrivateKey(os.urandom(32))) as stranger:
                plans = [await stranger.plan(max_tokens=100) for _ in range(3)]
                async with stranger.running(plans[0]) as session:
                    await session.next(Sampled)
                    leaving.set()
                    assert isinstance(await session.next(Close), Close)
                    answers = [await stranger.open(plan, 0) for plan in plans[1:]]
                    session.close(committed=0)
        assert not [answer for answer in answers if isinstance(answer, Accept)]
        assert [answer.code for answer in answers if isinstance(answer, SessionRefused)] == [Code.LEAVING] * 2

    loop.run(main)
