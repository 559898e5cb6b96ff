"""Whether a newcomer finds room, and whose link ends for it: decided in pure functions, then among peers in memory."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from p2pinfer.core.swarm.source import NOWHERE, Scope, Source
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import LinkDead
from p2pinfer.core.values.keys import PrivateKey
from p2pinfer.core.values.units import PeerKey
from p2pinfer.overlay.crowd import Crowd
from p2pinfer.overlay.limits import MAX_LINKS, NETWORK_LINKS, NEW_LINK_S
from p2pinfer.overlay.memory import MemoryWorld, open_memory_network
from p2pinfer.overlay.network import Network
from p2pinfer.overlay.room import HeldLink, Vacancy, room_for

from .conftest import KEYS, Collector

ONE, OTHER, NEW = (Source(f"198.41.0.{number}", Scope.PUBLIC) for number in range(3))
LATER = NEW_LINK_S


def links(count: int, source: Source, first: int = 0) -> list[HeldLink]:
    """Links that nobody needs, as old as can be."""
    return [
        HeldLink(PeerKey(number.to_bytes(32, "big")), source, 0.0, False, False)
        for number in range(first, first + count)
    ]


def freed(newcomer: Source, held: Sequence[HeldLink], now: float = LATER) -> set[int | None]:
    """Whose links may end for a newcomer, whatever is drawn."""
    rooms = [room_for(newcomer, held, now, draw / 50) for draw in range(50)]
    assert all(room.free for room in rooms)
    return {None if room.instead_of is None else int.from_bytes(room.instead_of, "big") for room in rooms}


def test_where_there_is_room_nobody_gives_way() -> None:
    assert freed(NEW, []) == {None}
    assert freed(NEW, [*links(NETWORK_LINKS, ONE), *links(NETWORK_LINKS, OTHER, 100)]) == {None}


def test_a_network_that_has_its_share_makes_room_among_its_own() -> None:
    held = [*links(NETWORK_LINKS, ONE), *links(3, OTHER, 100)]
    assert freed(ONE, held) <= set(range(NETWORK_LINKS))
    assert freed(OTHER, held) == {None}


def test_where_all_links_are_taken_the_network_that_has_most_gives_way() -> None:
    crowd = links(MAX_LINKS - 10, NOWHERE)
    assert freed(NEW, [*crowd, *links(10, OTHER, 5000)]) <= set(range(MAX_LINKS))


def test_peers_on_this_machine_have_no_share_of_their_own() -> None:
    assert freed(NOWHERE, links(MAX_LINKS - 1, NOWHERE)) == {None}
    assert None not in freed(NOWHERE, links(MAX_LINKS, NOWHERE))


def test_a_link_that_is_needed_or_new_does_not_give_way() -> None:
    held = links(NETWORK_LINKS, ONE)
    busy = [replace(held[0], needed=True), replace(held[1], came_s=LATER - 0.1), *held[2:]]
    assert not freed(ONE, busy) & {0, 1}
    assert room_for(ONE, [replace(one, needed=True) for one in held], LATER, 0.5) == Vacancy(free=False)


def test_a_link_that_we_dialled_gives_way_last() -> None:
    held = [replace(one, ours=True) for one in links(NETWORK_LINKS, ONE)]
    held[5] = replace(held[5], ours=False)
    assert freed(ONE, held) == {5}
    held[5] = replace(held[5], needed=True)
    assert freed(ONE, held) <= set(range(NETWORK_LINKS)) - {5}


def test_chance_decides_so_that_nobody_keeps_a_place_by_talking() -> None:
    assert len(freed(ONE, links(NETWORK_LINKS, ONE))) > 40


# Half-way in


async def test_the_first_of_a_network_that_has_its_share_gives_way() -> None:
    crowd = Crowd(2, 10)
    with (
        crowd.entered(ONE) as first,
        crowd.entered(OTHER) as other,
        crowd.entered(ONE) as second,
        crowd.entered(ONE) as third,
    ):
        assert [one.cancel_called for one in (first, other, second, third)] == [True, False, False, False]


async def test_where_all_places_are_taken_the_network_that_has_most_gives_way() -> None:
    crowd = Crowd(5, 4)
    with (
        crowd.entered(OTHER) as other,
        crowd.entered(ONE) as first,
        crowd.entered(ONE),
        crowd.entered(ONE),
        crowd.entered(NEW),
    ):
        assert [one.cancel_called for one in (other, first)] == [False, True]


async def test_who_is_through_leaves_a_place() -> None:
    crowd = Crowd(1, 1)
    for _ in range(3):
        with crowd.entered(ONE) as scope:
            await trio.lowlevel.checkpoint()
        assert not scope.cancel_called


# Links among peers


class Swarm:
    """A peer with room for few links, and strangers that dial it."""

    def __init__(self, world: MemoryWorld, network: Network, collector: Collector, stack: AsyncExitStack) -> None:
        self.network = network
        self.came = collector
        self._world = world
        self._stack = stack
        self._count = 0

    async def dial(self, source: Source = NOWHERE) -> Collector:
        """A new peer from a network is linked; what it hears."""
        key = PrivateKey((1000 + self._count).to_bytes(32, "big")).public
        self._count += 1
        self._world.sources[key] = source
        collector = Collector()
        network = await self._stack.enter_async_context(open_memory_network(self._world, key, collector))
        await network.dial(self.network.addresses()[0])
        return collector


@asynccontextmanager
async def open_swarm(most: int) -> AsyncIterator[Swarm]:
    world, collector = MemoryWorld(), Collector()
    async with AsyncExitStack() as stack:
        opened = open_memory_network(world, KEYS[0].public, collector, most=most)
        yield Swarm(world, await stack.enter_async_context(opened), collector, stack)


async def test_a_newcomer_finds_room_whatever_others_hold_idle(autojump_clock: MockClock) -> None:
    """WIRE-22"""
    async with open_swarm(most=4) as swarm:
        held = [await swarm.dial() for _ in range(4)]
        await trio.sleep(NEW_LINK_S)
        await swarm.dial()
        await trio.sleep(1)
        assert [one.closed[0].code for one in held if one.closed] == [Code.IDLE]
        assert len(swarm.network.links()) == 4


async def test_who_is_needed_stays_and_the_newcomer_is_told(autojump_clock: MockClock) -> None:
    """WIRE-22"""
    async with open_swarm(most=4) as swarm:
        for _ in range(4):
            await swarm.dial()
        swarm.came.needs = {link.peer for link in swarm.network.links()}
        await trio.sleep(NEW_LINK_S)
        with pytest.raises(LinkDead) as caught:
            await swarm.dial()
        assert caught.value.code is Code.BUSY
        assert swarm.came.closed == []


async def test_free_keys_of_one_address_do_not_take_the_links_of_others(autojump_clock: MockClock) -> None:
    """WIRE-22"""
    async with open_swarm(most=MAX_LINKS) as swarm:
        friend = await swarm.dial(OTHER)
        for _ in range(NETWORK_LINKS):
            await swarm.dial(ONE)
        await trio.sleep(NEW_LINK_S)
        for _ in range(8):
            await swarm.dial(ONE)
        await trio.sleep(1)
        assert friend.closed == []
        assert len(swarm.network.links()) == NETWORK_LINKS + 1
