"""How many handshakes a second others get, and who waits for one."""

import trio
from trio.testing import MockClock

from p2pinfer.core.swarm.source import NOWHERE, Source, source_of
from p2pinfer.overlay.libp2p.knocks import Knocks
from p2pinfer.overlay.limits import ALL_HANDSHAKES_BURST, ALL_HANDSHAKES_RATE, HANDSHAKES_BURST, SITE_HANDSHAKES_BURST


def let(knocks: Knocks, sources: list[Source]) -> int:
    return sum(knocks.may_wait(source) for source in sources)


async def test_one_network_has_its_part(autojump_clock: MockClock) -> None:
    assert let(Knocks(), [source_of("198.41.0.1")] * 500) == HANDSHAKES_BURST
    assert let(Knocks(), [source_of("2a00:1450:4001:80b::1")] * 500) == HANDSHAKES_BURST
    assert let(Knocks(), [NOWHERE] * 500) == 500


async def test_who_holds_many_ipv6_networks_has_not_the_part_of_all_of_them(autojump_clock: MockClock) -> None:
    knocks = Knocks()
    assert let(knocks, [source_of(f"2a00:1450:4001:{number:x}::1") for number in range(1_000)]) == SITE_HANDSHAKES_BURST
    assert let(knocks, [source_of("2a00:1450:4002:1::1")]) == 1


async def test_all_together_have_so_many_a_second(autojump_clock: MockClock) -> None:
    knocks, answered = Knocks(), 0

    async def knock(number: int) -> None:
        nonlocal answered
        await knocks.wait(source_of(f"198.41.{number // 250}.{number % 250}"))
        answered += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(knocks.run)
        for number in range(2 * ALL_HANDSHAKES_BURST):
            nursery.start_soon(knock, number)
        await trio.sleep(1)
        assert abs(answered - ALL_HANDSHAKES_BURST - ALL_HANDSHAKES_RATE) <= 1
        nursery.cancel_scope.cancel()


async def test_who_waits_is_served_in_turn(autojump_clock: MockClock) -> None:
    """However many others hold, of one IPv4 address or of the networks of one /48."""
    knocks = Knocks()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(knocks.run)
        for number in range(ALL_HANDSHAKES_BURST + 300):
            nursery.start_soon(knocks.wait, source_of("198.41.0.1"))
            nursery.start_soon(knocks.wait, source_of(f"2a00:1450:4001:{number:x}::1"))
        await trio.sleep(0.1)
        began = trio.current_time()
        await knocks.wait(source_of("198.41.0.2"))
        assert trio.current_time() - began < 3 / ALL_HANDSHAKES_RATE
        nursery.cancel_scope.cancel()
    assert not knocks._waiting
