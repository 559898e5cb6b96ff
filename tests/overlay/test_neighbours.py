"""Neighbours on the local network are heard and met, on the memory network with a clock that jumps."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from p2pinfer.core.values.keys import PrivateKey
from p2pinfer.overlay.directory import MEET_S
from p2pinfer.overlay.leads import ALONE_AGAIN_S
from p2pinfer.overlay.memory import MemoryWorld
from p2pinfer.overlay.neighbours import HEAR_S, HUSH_S, LISTEN_S
from p2pinfer.overlay.pipe import Address

from .conftest import KEYS
from .sides import Book, Near, address_of, look_until_linked, open_plain, open_sought

US, ONE, OTHER, DEAD = KEYS[:4]


async def test_neighbours_are_listened_for_once_and_met_as_they_are_heard(autojump_clock: MockClock) -> None:
    world, near = MemoryWorld(), Near()
    async with (
        open_plain(world, ONE),
        open_sought(world, US, Book(), near=near) as we,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(we.directory.look)
        await trio.sleep(0.7)
        assert near.opened == 1
        near.hear(address_of(DEAD))
        near.hear(address_of(ONE))
        await trio.sleep(0.1)
        assert we.linked == {ONE.public}
    assert near.opened == 1


async def test_who_knows_others_listens_once_and_waits_for_those_that_are_heard(autojump_clock: MockClock) -> None:
    world, near = MemoryWorld(), Near()
    async with (
        open_plain(world, ONE),
        open_plain(world, OTHER),
        open_sought(world, US, Book(), address_of(ONE), near=near) as we,
    ):
        await we.directory.look()
        world.latency_s = 0.2  # a dial and a Hello take six times as long
        we.first_peers.ear.listen()
        await trio.sleep(HUSH_S / 2)
        near.hear(address_of(OTHER))
        await we.first_peers.ear.wait_heard()
        assert we.linked == {ONE.public, OTHER.public}
        await trio.sleep(LISTEN_S)
        we.first_peers.ear.listen()
        assert near.opened == 1


@pytest.mark.parametrize(("heard", "waited_s"), [([], HUSH_S), ([DEAD], HEAR_S)])
async def test_on_a_network_where_nobody_answers_little_is_waited_for(
    autojump_clock: MockClock, heard: list[PrivateKey], waited_s: float
) -> None:
    world, near = MemoryWorld(latency_s=2.0), Near()
    near.heard = [Address(address_of(key)) for key in heard]
    async with open_sought(world, US, Book(), near=near) as we:
        we.first_peers.ear.listen()
        await we.first_peers.ear.wait_heard()
        assert trio.current_time() == waited_s
        await we.first_peers.ear.wait_heard()
        assert trio.current_time() == waited_s


async def test_a_neighbour_that_was_away_is_met_soon_after_it_is_back(autojump_clock: MockClock) -> None:
    world, near = MemoryWorld(), Near()
    near.hear(address_of(ONE))
    async with open_sought(world, US, Book(), near=near) as we:
        await we.directory.look()
        async with open_plain(world, ONE):
            with trio.fail_after(ALONE_AGAIN_S + 1):
                await look_until_linked(we)


async def test_a_local_network_that_is_none_ends_nothing(autojump_clock: MockClock) -> None:
    class NoNetwork(Near):
        @asynccontextmanager
        async def open(self) -> AsyncIterator[Near]:
            await trio.lowlevel.checkpoint()
            raise OSError("no such device")
            yield self

    async with open_sought(MemoryWorld(), US, Book(), near=NoNetwork()) as we:
        assert await we.directory.look() == []
        assert trio.current_time() <= MEET_S
