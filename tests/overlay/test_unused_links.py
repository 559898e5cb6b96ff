"""Links that nobody uses: a client lets go of them, in memory, where time jumps (protocols/wire.md, KEEP_S)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from trio.testing import MockClock

from p2pinfer.core.values.codes import Code
from p2pinfer.core.wire.messages import AskContacts, Offers
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.links import KEEP_S
from p2pinfer.overlay.memory import MemoryWorld, open_memory_network

from .conftest import KEYS, Collector


@asynccontextmanager
async def keeping(world: MemoryWorld, collector: Collector) -> AsyncIterator[tuple[Link, Collector]]:
    """A client's link to a node, and what the node hears."""
    far = Collector()
    async with (
        open_memory_network(world, KEYS[0].public, collector, keep_s=KEEP_S) as client,
        open_memory_network(world, KEYS[1].public, far) as node,
    ):
        link = await client.dial(node.addresses()[0])
        await far.wait_links(1)
        yield link, far


async def test_a_link_that_is_not_used_is_closed_by_its_client(autojump_clock: MockClock) -> None:
    async with keeping(MemoryWorld(), Collector()) as (_, node):
        why = await node.wait_closed()
        assert why.code is Code.IDLE
        assert trio.current_time() == KEEP_S


async def test_a_message_that_comes_keeps_a_link(autojump_clock: MockClock) -> None:
    async with keeping(MemoryWorld(), Collector()) as (_, node):
        await trio.sleep(KEEP_S / 2)
        node.links[0].send_nowait(AskContacts(1))
        await node.wait_closed()
        assert trio.current_time() == KEEP_S * 3 / 2


async def test_announcements_keep_no_link(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    async with keeping(MemoryWorld(), Collector()) as (_, node):
        nursery.start_soon(announce, node.links[0])
        assert (await node.wait_closed()).code is Code.IDLE
        assert trio.current_time() == KEEP_S


async def announce(link: Link) -> None:
    """As nodes do, with or without news."""
    while link.dead is None:
        link.send_nowait(Offers(0, ()))
        await trio.sleep(20)


async def test_who_asks_for_a_link_is_about_to_use_it(autojump_clock: MockClock) -> None:
    world = MemoryWorld()
    async with (
        open_memory_network(world, KEYS[0].public, Collector(), keep_s=KEEP_S) as client,
        open_memory_network(world, KEYS[1].public, Collector()) as node,
    ):
        link = await client.dial(node.addresses()[0])
        await trio.sleep(KEEP_S - 1)
        assert client.link(node.key) is link
        await trio.sleep(KEEP_S - 1)
        assert link.dead is None
        assert await client.dial(node.addresses()[0]) is link
        await trio.sleep(KEEP_S + 1)
        assert client.link(node.key) is None


async def test_a_used_link_is_kept_where_another_is_not(autojump_clock: MockClock) -> None:
    world, far = MemoryWorld(), Collector()
    async with (
        open_memory_network(world, KEYS[0].public, Collector(), keep_s=KEEP_S) as client,
        open_memory_network(world, KEYS[1].public, far) as used,
        open_memory_network(world, KEYS[2].public, Collector()) as unused,
    ):
        await client.dial(used.addresses()[0])
        await far.wait_links(1)
        await client.dial(unused.addresses()[0])
        await trio.sleep(KEEP_S / 2)
        far.links[0].send_nowait(AskContacts(1))
        await trio.sleep(KEEP_S - 1)
        assert [link.peer for link in client.links()] == [used.key]
        again = await client.dial(unused.addresses()[0])
        assert again.dead is None


async def test_a_node_keeps_its_links(autojump_clock: MockClock) -> None:
    world = MemoryWorld()
    async with (
        open_memory_network(world, KEYS[0].public, Collector()) as node,
        open_memory_network(world, KEYS[1].public, Collector()) as other,
    ):
        link = await node.dial(other.addresses()[0])
        await trio.sleep(10 * KEEP_S)
        assert link.dead is None
