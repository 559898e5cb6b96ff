"""A node that goes to other layers, with its engine: answers under way end and are paid, and it serves again."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest
import trio

from p2pinfer.core.records.receipt import FINAL
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import EngineError, GenerationFailed, sole
from p2pinfer.core.values.units import Span
from p2pinfer.disk.journal_reader import JournalReader
from p2pinfer.disk.store import Store, StoredModel
from p2pinfer.engine.door import OpenEngine, Watch
from p2pinfer.engine.messages import ShardSpec
from p2pinfer.node import placement as placing
from p2pinfer.node import serving
from p2pinfer.node.daemon import Node
from p2pinfer.node.placement import Placement, Saying
from p2pinfer.node.shard import LoadedSpan, open_shard
from p2pinfer.overlay.machine import Machine
from tests.swarms import TinySwarm, open_tiny_swarm

TALL = {"hidden_size": 64, "intermediate_size": 512}  # layers of 0.5 MB


class Never(Random):
    """Lots that fall on the first."""

    def random(self) -> float:
        return 0.0


class Call:
    """Moves the nodes of a test when it says so, in place of their own decisions."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.to: Span | None = None
        self.given = trio.Event()
        call = self

        async def wait_move(
            _: Placement, mine: Span, saying: Saying, look: Callable[[Span], Awaitable[object]]
        ) -> Span:
            await call.given.wait()
            if call.to is None or mine == call.to:
                await trio.sleep_forever()
            assert call.to is not None
            await look(call.to)
            await saying.join(call.to)
            return call.to

        monkeypatch.setattr(Placement, "wait_move", wait_move)

    def go(self, span: Span) -> None:
        self.to = span
        self.given.set()


async def wait_span(node: Node, span: Span) -> None:
    while node.span != span:  # noqa: ASYNC110 - nobody tells of it
        await trio.sleep(0.02)


async def test_an_answer_under_way_comes_to_its_end_and_is_paid_before_the_node_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = Call(monkeypatch)
    async with open_tiny_swarm(tmp_path, ["0:3"]) as swarm:
        [node] = swarm.nodes
        async with swarm.client() as client, client.open_answer("hello", max_tokens=100) as stream:
            async for _ in stream:
                call.go(Span(0, 1))
            assert stream.answer.tokens == 100
        await wait_span(node, Span(0, 1))
        earned = await node.journal.read(JournalReader.earned)
        assert [item.receipt.record.state for item in earned] == [FINAL]


async def test_who_does_not_come_to_an_end_is_told_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call = Call(monkeypatch)
    monkeypatch.setattr(serving, "DRAIN_S", 0.0)
    async with open_tiny_swarm(tmp_path, ["0:3"], max_position_embeddings=4096) as swarm:
        with pytest.raises(GenerationFailed, match="it goes to other layers"):
            async with swarm.client() as client, client.open_answer("hello", max_tokens=4000) as stream:
                async for _ in stream:
                    call.go(Span(0, 1))
        await wait_span(swarm.nodes[0], Span(0, 1))


def before_second_load(monkeypatch: pytest.MonkeyPatch, begin: Callable[[], Awaitable[None]]) -> None:
    """Await `begin` before the second span that a node loads."""
    loads: list[ShardSpec] = []

    @asynccontextmanager
    async def open_(
        store: Store, model: StoredModel, spec: ShardSpec, engine: OpenEngine, progress: Watch
    ) -> AsyncIterator[LoadedSpan]:
        loads.append(spec)
        if len(loads) == 2:
            await begin()
        async with open_shard(store, model, spec, engine, progress) as shard:
            yield shard

    monkeypatch.setattr(serving, "open_shard", open_)


async def test_a_node_goes_back_where_the_new_layers_cannot_be_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    call = Call(monkeypatch)
    tried = trio.Event()

    async def fail() -> None:
        assert node.span is None
        call.to = None  # no more moves
        tried.set()
        raise EngineError("the engine's process was killed by signal 9 while it loaded")

    before_second_load(monkeypatch, fail)
    async with open_tiny_swarm(tmp_path, ["0:3"]) as swarm:
        [node] = swarm.nodes
        call.go(Span(0, 1))
        await tried.wait()
        await wait_span(node, Span(0, 3))
        async with swarm.client() as client:
            assert (await client.answer("hello", max_tokens=4)).tokens == 4
    assert "killed by signal 9 while it loaded; the node stays with 0:3" in caplog.text


async def test_a_fault_of_ours_while_new_layers_are_loaded_ends_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = Call(monkeypatch)

    async def fail() -> None:
        raise ValueError("a fault of ours")

    before_second_load(monkeypatch, fail)
    with pytest.raises(ExceptionGroup) as failure:
        async with open_tiny_swarm(tmp_path, ["0:3"]):
            call.go(Span(0, 1))
            await trio.sleep_forever()
    assert str(sole(failure.value)) == "a fault of ours"


async def test_a_node_that_loads_new_layers_heeds_that_it_should_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = Call(monkeypatch)
    loads = trio.Event()

    async def load() -> None:
        loads.set()
        await trio.sleep_forever()

    before_second_load(monkeypatch, load)
    async with open_tiny_swarm(tmp_path, ["0:3"]) as swarm:
        call.go(Span(0, 1))
        await loads.wait()
        [ended] = swarm.nodes
    assert ended.span is None


@pytest.mark.slow
async def test_a_node_moves_to_what_a_node_that_leaves_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(placing, "FIRST_LOOK_S", (0.2, 0.2))
    monkeypatch.setattr(placing, "LOOK_S", (0.2, 0.2))
    leave = trio.Event()

    async def stay(swarm: TinySwarm, *, task_status: trio.TaskStatus[None]) -> None:
        async with swarm.node(tmp_path / "leaves", "2:3"):
            task_status.started()
            await leave.wait()

    async with open_tiny_swarm(tmp_path, ["0:2"], "f32-1", **TALL) as swarm, trio.open_nursery() as nursery:
        await nursery.start(stay, swarm)
        async with swarm.node(tmp_path / "third", machine=Machine(lots=Never()), serve_memory_mb=1) as node:
            assert node.span == Span(0, 1)
            leave.set()
            await wait_span(node, Span(2, 3))
            async with swarm.client() as client:
                answer = await client.answer("hello", max_tokens=8)
        assert [stage.layers for stage in answer.stages] == [Span(0, 2), Span(2, 3)]
        assert answer.reason is Code.LENGTH
    assert "no route can use this node: nobody serves layers 2:3 of 3" in caplog.text
