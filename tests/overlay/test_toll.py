"""What reading for peers costs, and who is read later for it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from p2pinfer.core.swarm.source import NOWHERE, Scope, Source
from p2pinfer.core.values.units import PeerKey
from p2pinfer.core.wire.messages import AskContacts
from p2pinfer.overlay.limits import (
    ALL_STRANGERS_BURST,
    ALL_STRANGERS_RATE,
    LINK_RATE,
    PARTNERS_RATE,
    STRANGERS_BURST,
    STRANGERS_RATE,
)
from p2pinfer.overlay.memory import MemoryWorld, open_memory_network
from p2pinfer.overlay.toll import LOOK_S, PAY_S, READ_S, WAIT_S, Meter, Toll
from tests.core.paid_route import key

from .conftest import KEYS, Collector, say


def network_of(number: int) -> Source:
    return Source(f"198.42.{number // 256}.{number % 256}", Scope.PUBLIC)


ONE, OTHER = Source("198.41.0.1", Scope.PUBLIC), Source("198.41.0.2", Scope.PUBLIC)


STRANGER, PARTNER = KEYS[5].public, KEYS[6].public


@asynccontextmanager
async def open_toll() -> AsyncIterator[Toll]:
    toll = Toll(lambda: {PARTNER})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(toll.run)
        yield toll
        nursery.cancel_scope.cancel()


async def pay(toll: Toll, peer: PeerKey, source: Source, cost_s: float = 0.0) -> None:
    toll.owe(peer, source, cost_s)
    if not toll.lets(peer, source):
        await toll.wait(peer, source)


async def wait_of(toll: Toll, source: Source, cost_s: float, peer: PeerKey = STRANGER) -> float:
    """How long a link has to wait."""
    began = trio.current_time()
    await pay(toll, peer, source, cost_s)
    return trio.current_time() - began


async def test_a_network_that_took_too_much_is_read_later(autojump_clock: MockClock) -> None:
    async with open_toll() as toll:
        assert await wait_of(toll, ONE, STRANGERS_BURST) == 0
        cost_s = 0.02
        assert await wait_of(toll, ONE, cost_s) == pytest.approx(cost_s / STRANGERS_RATE, abs=WAIT_S)
        assert await wait_of(toll, OTHER, cost_s) == 0


async def test_all_strangers_together_take_no_more_than_their_share(autojump_clock: MockClock) -> None:
    async with open_toll() as toll:
        assert await wait_of(toll, NOWHERE, ALL_STRANGERS_BURST) == 0
        assert await wait_of(toll, OTHER, 0.02) == pytest.approx(0.02 / ALL_STRANGERS_RATE, abs=WAIT_S)


@pytest.mark.parametrize(("peer", "rate"), [(STRANGER, STRANGERS_RATE), (PARTNER, PARTNERS_RATE)])
async def test_one_read_that_took_longer_than_all_may_at_once_is_paid_for_too(
    autojump_clock: MockClock, peer: PeerKey, rate: float
) -> None:
    """A slow machine, a large portion: the link is read later, and not never."""
    async with open_toll() as toll:
        assert 50 / rate < await wait_of(toll, ONE, 60.0, peer) <= 60 / rate
        assert await wait_of(toll, ONE, 0.0, peer) == 0


async def test_who_is_in_a_session_does_not_pay_for_strangers(autojump_clock: MockClock) -> None:
    async with open_toll() as toll:
        toll.owe(STRANGER, NOWHERE, 2 * ALL_STRANGERS_BURST)
        assert await wait_of(toll, NOWHERE, 0.5, PARTNER) == 0


@pytest.mark.parametrize(("peer", "networks"), [(STRANGER, 3), (PARTNER, 2)])
async def test_networks_are_read_in_turn(autojump_clock: MockClock, peer: PeerKey, networks: int) -> None:
    """A few that use up what there is for all keep nobody else's link unread, however little each wants at a time."""

    async def use_up(number: int) -> None:
        await trio.sleep(number * 0.0137 % WAIT_S)
        while True:
            await pay(toll, peer, network_of(number % networks), 0.012)

    async with open_toll() as toll, trio.open_nursery() as nursery:
        for number in range(40):
            nursery.start_soon(use_up, number)
        await trio.sleep(30)
        for _ in range(5):
            assert await wait_of(toll, OTHER, 0.025, peer) < 1
            await trio.sleep(1.03)
        nursery.cancel_scope.cancel()


async def test_who_becomes_a_partner_while_it_waits_is_read_as_one(autojump_clock: MockClock) -> None:
    needed: set[PeerKey] = set()
    toll = Toll(lambda: needed)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(toll.run)
        toll.owe(STRANGER, ONE, 10.0)
        with trio.fail_after(1 + 2 * WAIT_S):
            async with trio.open_nursery() as waiting:
                waiting.start_soon(toll.wait, STRANGER, ONE)
                await trio.sleep(1)
                assert toll._waiting
                needed.add(STRANGER)
        nursery.cancel_scope.cancel()


async def test_a_network_owes_whatever_becomes_of_its_links(autojump_clock: MockClock) -> None:
    async with open_toll() as toll:
        with trio.move_on_after(1):
            await pay(toll, STRANGER, ONE, STRANGERS_BURST + 1)
        assert toll.is_owed
        assert await wait_of(toll, ONE, 0.0, KEYS[7].public) == pytest.approx(1 / STRANGERS_RATE - 1, abs=2 * WAIT_S)
        await trio.sleep(WAIT_S)
        assert not toll.is_owed


async def test_a_meter_counts_what_it_took_to_take_what_came(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([100.0, 100.5, 200.0, 200.25])
    monkeypatch.setattr("p2pinfer.overlay.toll.perf_counter", lambda: next(times))
    meter = Meter()
    for _ in range(2):
        meter.run()
        meter.run()
        meter.rest()
        meter.rest()
    assert meter.cost_s == 0.75 + 2 * READ_S


async def test_a_look_at_a_disk_counts_whatever_our_own_thread_did(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is another thread that looks."""
    monkeypatch.setattr("p2pinfer.overlay.toll.thread_time", lambda: 7.0)
    meter = Meter()
    for _ in range(100):
        meter.add_look()
    assert meter.take() == pytest.approx(100 * LOOK_S)
    assert meter.take() == 0


async def test_what_every_link_costs_is_free(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter(range(100))
    monkeypatch.setattr("p2pinfer.overlay.toll.thread_time", lambda: next(times))
    meter = Meter()
    meter.cost_s = 0.9 * PAY_S
    assert meter.take() == 0
    meter.cost_s = 2 * PAY_S
    await trio.sleep(PAY_S / LINK_RATE)
    assert meter.take() == pytest.approx(PAY_S)
    meter.cost_s = 2 * PAY_S
    await trio.sleep(3 * PAY_S / LINK_RATE)
    assert meter.take() == 0


async def test_what_others_had_of_our_processor_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([5.0, 5.0 + PAY_S, 5.0 + 9 * PAY_S])
    monkeypatch.setattr("p2pinfer.overlay.toll.thread_time", lambda: next(times))
    meter = Meter()
    meter.cost_s = 3 * PAY_S
    assert meter.take() == pytest.approx(PAY_S, abs=PAY_S / 10)
    meter.cost_s = 3 * PAY_S
    assert meter.take() == pytest.approx(3 * PAY_S, abs=PAY_S / 10)


@pytest.fixture
def dear_reads(monkeypatch: pytest.MonkeyPatch) -> float:
    """Seconds that each read costs."""
    monkeypatch.setattr("p2pinfer.overlay.toll.READ_S", 0.05)
    times = iter(range(10**6))
    monkeypatch.setattr("p2pinfer.overlay.toll.thread_time", lambda: next(times))  # all of it was ours
    return 0.05


async def test_a_flood_is_held_back_and_others_are_read_at_once(autojump_clock: MockClock, dear_reads: float) -> None:
    world, collector = MemoryWorld(), Collector()
    world.sources |= {KEYS[1].public: ONE, KEYS[2].public: OTHER}
    async with (
        open_memory_network(world, KEYS[0].public, collector) as network,
        open_memory_network(world, KEYS[1].public, Collector()) as flooding,
        open_memory_network(world, KEYS[2].public, Collector()) as quiet,
        trio.open_nursery() as nursery,
    ):
        flood = await flooding.dial(network.addresses()[0])
        link = await quiet.dial(network.addresses()[0])
        nursery.start_soon(flood_with_asks, flood.send_nowait)
        await trio.sleep(2)
        assert collector.waiting() < 2 * (STRANGERS_BURST + 2 * STRANGERS_RATE) / dear_reads
        began = trio.current_time()
        link.send_nowait(AskContacts(9999))
        while await collector.next() != AskContacts(9999):
            pass
        assert trio.current_time() - began < WAIT_S
        nursery.cancel_scope.cancel()


async def test_of_thousands_of_messages_that_come_at_once_no_more_are_taken_than_may_be(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a network would owe seconds before anybody looked, and those who are read in all with it."""
    each_s = 0.001
    world, collector = MemoryWorld(), Collector()
    for clock in ("perf_counter", "thread_time"):
        monkeypatch.setattr(f"p2pinfer.overlay.toll.{clock}", lambda: 1 + each_s * collector.waiting())
    world.sources |= {KEYS[1].public: ONE}
    async with (
        open_memory_network(world, KEYS[0].public, collector) as network,
        open_memory_network(world, KEYS[1].public, Collector()) as flooding,
    ):
        flood = await flooding.dial(network.addresses()[0])
        await say(flood._pipe, *map(AskContacts, range(1, 5001)))
        await trio.sleep(1)
        assert collector.waiting() <= (STRANGERS_BURST + STRANGERS_RATE + 2 * PAY_S) / each_s
        await trio.sleep(10)
        assert collector.waiting() >= 0.8 * 10 * STRANGERS_RATE / each_s


async def test_who_comes_with_ever_new_keys_is_read_no_more_than_with_one(
    autojump_clock: MockClock, dear_reads: float
) -> None:
    world, collector = MemoryWorld(), Collector()
    async with open_memory_network(world, KEYS[0].public, collector) as network:
        for number in range(40):
            peer = key(f"new {number}").public
            world.sources[peer] = ONE
            async with open_memory_network(world, peer, Collector()) as other:
                link = await other.dial(network.addresses()[0])
                link.send_nowait(AskContacts(1))
                await trio.sleep(0.2)
        assert collector.waiting() <= (STRANGERS_BURST + 8 * STRANGERS_RATE) / dear_reads + 1


async def flood_with_asks(send: object) -> None:
    for number in range(1, 5000):
        send(AskContacts(number))  # type: ignore[operator]
        await trio.sleep(0.01)
