"""What waits on all links together: beyond the bound the link with most of it ends."""

import pytest
import trio
from trio.testing import MockClock

from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import LinkDead
from p2pinfer.core.wire.messages import AskContacts, FilePart
from p2pinfer.overlay.backlog import Backlog, LinkBacklog
from p2pinfer.overlay.limits import ALL_BACKLOG_BYTES, BACKLOG_BYTES, FRAME_BYTES
from p2pinfer.overlay.memory import MemoryGround, MemoryWorld, open_memory_network
from p2pinfer.overlay.outbox import Outbox, Priority
from p2pinfer.overlay.pipe import Pipe

from .conftest import HELLO, KEYS, Collector, say

LIMIT = 1 << 20


class Links:
    """Weights, and which of them were ended."""

    def __init__(self, *sizes: int) -> None:
        self.backlog = Backlog(100)
        self.ended: list[int] = []
        self.weights = [
            LinkBacklog(self.backlog, lambda number=number: self.ended.append(number)) for number in range(3)
        ]
        for weight, size in zip(self.weights, sizes, strict=True):
            weight.change(size)


def test_up_to_the_limit_nobody_ends() -> None:
    links = Links(60, 30, 10)
    links.backlog.relieve()
    assert links.ended == []


def test_beyond_it_the_worst_ends() -> None:
    links = Links(20, 60, 30)
    links.backlog.relieve()
    assert links.ended == [1]
    assert links.backlog.size == 50


def test_as_many_end_as_it_takes() -> None:
    links = Links(200, 30, 150)
    links.backlog.relieve()
    assert links.ended == [0, 2]


def test_who_has_ended_is_counted_no_more_and_not_ended_again() -> None:
    links = Links(200, 30, 10)
    links.backlog.relieve()
    links.weights[0].change(-200)
    links.weights[0].leave()
    links.backlog.relieve()
    assert links.ended == [0]
    assert links.backlog.size == 40


def test_an_outbox_weighs_what_is_in_it_and_in_its_pipe() -> None:
    backlog = Backlog(LIMIT)
    outbox = Outbox(LinkBacklog(backlog, lambda: None), lambda _: True)
    outbox.put(bytes(100), Priority.CONTROL)
    outbox.put(bytes(200), Priority.BULK)
    assert backlog.size == 300 + 2 * FRAME_BYTES
    outbox.drop_all_but_control()
    assert backlog.size == 100 + FRAME_BYTES
    outbox.take(1000, 1000)
    outbox.set_pending(100)
    assert backlog.size == 100
    outbox.set_pending(0)
    assert backlog.size == 0


def test_all_links_may_keep_more_than_one() -> None:
    assert BACKLOG_BYTES < ALL_BACKLOG_BYTES


async def raw_link(world: MemoryWorld, number: int, address: str) -> Pipe:
    pipe = await MemoryGround(world, KEYS[number].public).dial(address)
    await say(pipe, HELLO)
    return pipe


async def test_messages_that_never_become_whole_end_the_link_that_sends_most(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """WIRE-25"""
    monkeypatch.setattr("p2pinfer.overlay.links.ALL_BACKLOG_BYTES", LIMIT)
    world, collector = MemoryWorld(), Collector()
    async with open_memory_network(world, KEYS[0].public, collector) as network:
        pipes = [await raw_link(world, number, network.addresses()[0]) for number in (1, 2, 3)]
        await collector.wait_links(3)
        for pipe, size in zip(pipes, (100_000, 600_000, 500_000), strict=True):
            await pipe.write((4 << 20).to_bytes(4, "big") + b"\x93\x13\x01" + bytes(size))
        assert (await collector.wait_closed()).code is Code.SILENT
        assert [link.peer for link in collector.links if link.dead] == [KEYS[2].public]


async def test_what_is_not_read_ends_the_link_that_reads_least(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """WIRE-25"""
    monkeypatch.setattr("p2pinfer.overlay.links.ALL_BACKLOG_BYTES", LIMIT)
    world, collector = MemoryWorld(), Collector()
    async with open_memory_network(world, KEYS[0].public, collector) as network:
        for number in (1, 2):
            await raw_link(world, number, network.addresses()[0])
        await collector.wait_links(2)
        few, many = collector.links
        few.send_nowait(FilePart(1, 0, bytes(300_000)), Priority.BULK)
        with pytest.raises(LinkDead) as caught:
            for _ in range(10):
                many.send_nowait(FilePart(1, 0, bytes(300_000)), Priority.BULK)
        assert caught.value.code is Code.SILENT
        few.send_nowait(AskContacts(1))
        await trio.sleep(0.1)
        assert few.dead is None
