"""Holders of a node's layers: made-up ones do not hide those that are there, and far ones are waited for."""

import trio
from trio.testing import MockClock

from p2pinfer.core.swarm.offers import KnownOffer
from p2pinfer.core.values.keys import peer_name
from p2pinfer.core.values.units import Roles, Span
from p2pinfer.node.holders import HOLDERS_S, Holders
from p2pinfer.overlay.exchange import Exchange
from p2pinfer.overlay.limits import DIALS_BURST
from p2pinfer.overlay.memory import MemoryWorld, open_memory_network
from tests.core.paid_route import certificate_for, key, offer_of

MINE = Span(0, 10)


def known(name: str, addresses: tuple[str, ...], network: str) -> KnownOffer:
    return KnownOffer(offer_of(key(name), MINE, Roles.HEAD), certificate_for(key(name)), addresses, 0.0, network)


async def test_holders_that_do_not_answer_hide_nobody(autojump_clock: MockClock) -> None:
    world = MemoryWorld()
    async with trio.open_nursery() as nursery:
        exchange = Exchange(nursery)
        async with (
            open_memory_network(world, key("real").public, exchange) as real,
            open_memory_network(world, key("n").public, exchange) as network,
        ):
            fakes = [known(f"fake{number}", ("/memory/nobody",), "10.0.9.1") for number in range(60)]
            holders = Holders(network)
            there = known("real", real.addresses(), "10.0.0.1")
            assert await holders.meet(MINE, [*fakes, there]) == {there.node}
            assert await Holders(network).meet(MINE, fakes) == set()
        nursery.cancel_scope.cancel()


async def test_who_was_not_dialled_since_too_many_are_comes_last_the_next_time_no_more_than_others(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    world, exchange = MemoryWorld(), Exchange(nursery)
    async with open_memory_network(world, key("n").public, exchange) as network:
        names = [f"fake {number}" for number in range(DIALS_BURST + 4)]
        fakes = [known(name, (f"/memory/p2p/{peer_name(key(name).public)}",), "10.0.9.1") for name in names]
        holders = Holders(network)
        await holders.meet(MINE, fakes)
        assert len(holders._absent) == DIALS_BURST


async def test_a_holder_that_turns_us_away_comes_last_the_next_time(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    world, exchange = MemoryWorld(), Exchange(nursery)
    async with (
        open_memory_network(world, key("full").public, exchange, most=0) as full,
        open_memory_network(world, key("n").public, exchange) as network,
    ):
        holders = Holders(network)
        assert await holders.meet(MINE, [known("full", full.addresses(), "10.0.0.1")]) == set()
        assert holders._absent == {full.key}


async def test_a_far_holder_is_met(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    world, exchange = MemoryWorld(latency_s=1.0), Exchange(nursery)
    async with (
        open_memory_network(world, key("real").public, exchange) as real,
        open_memory_network(world, key("n").public, exchange) as network,
    ):
        there = known("real", real.addresses(), "10.0.0.1")
        assert await Holders(network).meet(MINE, [there]) == {there.node}


async def test_a_holder_that_never_answers_is_waited_for_no_longer(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    world, exchange = MemoryWorld(latency_s=1000.0), Exchange(nursery)
    async with (
        open_memory_network(world, key("real").public, exchange) as real,
        open_memory_network(world, key("n").public, exchange) as network,
    ):
        assert await Holders(network).meet(MINE, [known("real", real.addresses(), "10.0.0.1")]) == set()
        assert trio.current_time() == HOLDERS_S
