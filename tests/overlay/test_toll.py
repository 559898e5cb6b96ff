"""What reading for peers costs, and who is read later for it."""

import pytest
import trio
from trio.testing import MockClock

from p2pinfer.core.messages import AskContacts
from p2pinfer.core.source import NOWHERE, Scope, Source
from p2pinfer.overlay.limits import (
    ALL_STRANGERS_BURST,
    ALL_STRANGERS_RATE,
    LINK_RATE,
    STRANGERS_BURST,
    STRANGERS_RATE,
)
from p2pinfer.overlay.memory import MemoryWorld, open_memory_network
from p2pinfer.overlay.toll import PAY_S, READ_S, WAIT_S, Meter, Toll

from .conftest import KEYS, Collector

ONE, OTHER = Source("198.41.0.1", Scope.PUBLIC), Source("198.41.0.2", Scope.PUBLIC)


async def wait_of(toll: Toll, source: Source, cost_s: float, *, is_partner: bool = False) -> float:
    """How long a link has to wait."""
    began = trio.current_time()
    await toll.pay(source, cost_s, is_partner=is_partner)
    return trio.current_time() - began


async def test_a_network_that_took_too_much_is_read_later(autojump_clock: MockClock) -> None:
    toll = Toll()
    assert await wait_of(toll, ONE, STRANGERS_BURST) == 0
    cost_s = 0.02
    assert await wait_of(toll, ONE, cost_s) == pytest.approx(cost_s / STRANGERS_RATE, abs=WAIT_S)
    assert await wait_of(toll, OTHER, cost_s) == 0


async def test_all_strangers_together_take_no_more_than_their_share(autojump_clock: MockClock) -> None:
    toll = Toll()
    assert await wait_of(toll, NOWHERE, ALL_STRANGERS_BURST) == 0
    assert await wait_of(toll, OTHER, 0.02) == pytest.approx(0.02 / ALL_STRANGERS_RATE, abs=WAIT_S)


@pytest.mark.parametrize("is_partner", [False, True])
async def test_one_read_that_took_longer_than_all_may_at_once_is_paid_for_too(
    autojump_clock: MockClock, is_partner: bool
) -> None:
    """A slow machine, a large portion: the link is read later, and not never."""
    toll = Toll()
    assert await wait_of(toll, ONE, 60.0, is_partner=is_partner) == 0
    assert await wait_of(toll, ONE, 0.02, is_partner=is_partner) > 60


async def test_who_is_in_a_session_does_not_pay_for_strangers(autojump_clock: MockClock) -> None:
    toll = Toll()
    await toll.pay(NOWHERE, ALL_STRANGERS_BURST, is_partner=False)
    assert await wait_of(toll, NOWHERE, 0.5, is_partner=True) == 0


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


async def test_a_flood_is_held_back_and_others_are_read_at_once(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2pinfer.overlay.toll.READ_S", 0.05)
    times = iter(range(10**6))
    monkeypatch.setattr("p2pinfer.overlay.toll.thread_time", lambda: next(times))  # all of it was ours
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
        assert collector.waiting() < 2 * (STRANGERS_BURST + 2 * STRANGERS_RATE) / 0.05
        began = trio.current_time()
        link.send_nowait(AskContacts(9999))
        while await collector.next() != AskContacts(9999):
            pass
        assert trio.current_time() - began < WAIT_S
        nursery.cancel_scope.cancel()


async def flood_with_asks(send: object) -> None:
    for number in range(1, 5000):
        send(AskContacts(number))  # type: ignore[operator]
        await trio.sleep(0.01)
