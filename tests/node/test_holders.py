"""Holders of a node's layers: made-up ones do not hide those that are there."""

import trio
from trio.testing import MockClock

from p2pinfer.core.offers import KnownOffer
from p2pinfer.core.units import Roles, Span
from p2pinfer.node.holders import Holders
from p2pinfer.overlay.exchange import Exchange
from p2pinfer.overlay.greeting import Greeting
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
            open_memory_network(world, key("real").public, exchange, Greeting()) as real,
            open_memory_network(world, key("n").public, exchange, Greeting()) as network,
        ):
            fakes = [known(f"fake{number}", ("/memory/nobody",), "10.0.9.0/24") for number in range(60)]
            holders = Holders(network)
            there = known("real", real.addresses(), "10.0.0.0/24")
            assert await holders.meet(MINE, [*fakes, there]) == {there.node}
            assert await Holders(network).meet(MINE, fakes) == set()
        nursery.cancel_scope.cancel()
