"""Peers that are far away: whatever takes several round trips waits for them, and for nobody who is silent."""

from collections.abc import Callable
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from p2pinfer.core.swarm.offers import KnownOffer
from p2pinfer.core.values.errors import LinkDead
from p2pinfer.core.values.keys import PrivateKey, peer_name
from p2pinfer.core.values.units import Roles, Span
from p2pinfer.overlay.dial import SILENT_S
from p2pinfer.overlay.directory import MEET_S, Directory
from p2pinfer.overlay.exchange import Exchange
from p2pinfer.overlay.greeting import new_greeting
from p2pinfer.overlay.memory import MemoryGround, MemoryWorld, open_memory_network
from p2pinfer.overlay.pipe import Address, Pipe, hear_nothing
from p2pinfer.overlay.reach import reach
from tests.core.paid_route import certificate_for, key, offer_of
from tests.overlay.sides import AT_NOW

from .conftest import KEYS, Collector

FAR_S = 2.0  # there and back: mobile and satellite links


async def look(world: MemoryWorld, name: str, *bootstrap: str) -> list[KnownOffer]:
    async with trio.open_nursery() as nursery:
        exchange = Exchange(nursery)
        async with open_memory_network(world, key(name).public, exchange, new_greeting(AT_NOW)) as network:
            found = await Directory(network, exchange, bootstrap).look()
        nursery.cancel_scope.cancel()
    return found


async def serve(world: MemoryWorld, name: str, *, task_status: trio.TaskStatus[str]) -> None:
    async with trio.open_nursery() as nursery:
        exchange = Exchange(nursery)
        async with open_memory_network(world, key(name).public, exchange, new_greeting(AT_NOW)) as network:
            directory = Directory(network, exchange)
            offer = offer_of(key(name), Span(0, 30), Roles.HEAD | Roles.TAIL)
            address = network.addresses()[0]
            directory.announce(KnownOffer(offer, certificate_for(key(name)), (address,), trio.current_time()))
            task_status.started(address)
            await trio.sleep_forever()


class Mute(MemoryGround):
    """At addresses with `nowhere` in them nobody answers; with `stuck`, somebody does, and then no more."""

    async def dial(self, address: Address, heard: Callable[[], None] = hear_nothing) -> Pipe:
        if "stuck" in address:
            heard()
        if "nowhere" in address or "stuck" in address:
            await trio.sleep_forever()
        return await super().dial(address, heard)


@pytest.mark.parametrize("rtt_s", [0.4, 0.7, FAR_S])
async def test_a_far_peer_is_found(autojump_clock: MockClock, nursery: trio.Nursery, rtt_s: float) -> None:
    world = MemoryWorld(latency_s=rtt_s / 2)
    address = await nursery.start(partial(serve, world, "node"))
    began = trio.current_time()
    assert len(await look(world, "client", address)) == 1
    assert trio.current_time() - began < 5 * rtt_s
    nursery.cancel_scope.cancel()


async def test_a_far_peer_is_reached_for_a_session(autojump_clock: MockClock) -> None:
    world = MemoryWorld(latency_s=FAR_S / 2)
    async with (
        open_memory_network(world, KEYS[0].public, Collector()) as network,
        open_memory_network(world, KEYS[1].public, Collector()) as other,
    ):
        link = await reach(network, other.key, other.addresses())
        assert link.rtt_s == pytest.approx(FAR_S)
        assert await link.check()
        await trio.sleep(60)
        assert link.dead is None


@pytest.mark.parametrize(
    ("what", "takes_s"), [("nowhere", MEET_S), ("stuck", MEET_S), ("nothing else", SILENT_S)], ids=str
)
async def test_silent_peers_cost_a_look_little(
    autojump_clock: MockClock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, what: str, takes_s: float
) -> None:
    """One that answers and stops costs no more than one that never does; if nobody answers at all, some patience."""
    monkeypatch.setattr("p2pinfer.overlay.memory.MemoryGround", Mute)
    world = MemoryWorld()
    live = await nursery.start(partial(serve, world, "node"))
    place = "stuck" if what == "stuck" else "nowhere"
    silent = f"/memory/{place}/p2p/{peer_name(PrivateKey(bytes([77]) * 32).public)}"
    began = trio.current_time()
    await look(world, "client", silent, *([] if what == "nothing else" else [live]))
    assert trio.current_time() - began == pytest.approx(takes_s, abs=0.01)
    nursery.cancel_scope.cancel()


async def test_who_proves_a_key_and_says_hello_late_is_waited_for(autojump_clock: MockClock) -> None:
    world = MemoryWorld()
    silent = world.grounds[KEYS[3].public] = MemoryGround(world, KEYS[3].public)
    async with open_memory_network(world, KEYS[0].public, Collector()) as network:
        with pytest.raises(LinkDead, match="came up within 15 s"):
            await network.dial(silent.addresses()[0])
