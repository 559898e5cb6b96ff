"""A machine that slept knows how old what it knows is: nobody goes by offers of yesterday."""

from math import inf

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from p2pinfer.core.wire.messages import AskOffers, Offers
from p2pinfer.overlay.directory import LOOK_AROUND_S, PULL_S
from p2pinfer.overlay.memory import MemoryWorld
from p2pinfer.overlay.sleep import JUMP_S, Sleep, asleep_s
from tests.core.paid_route import MODEL
from tests.overlay.sides import LIFE_S, OpenSide

NIGHT_S = 30_000.0


def test_a_sleep_is_told_once_and_short_ones_together() -> None:
    slept = [5.0]
    sleep = Sleep(lambda: slept[0])
    assert sleep.passed_s() == 0
    told = []
    for slept[0] in (5.0, 5.0 + JUMP_S / 2, 5.0 + JUMP_S, 5.0 + JUMP_S, 105.0 + JUMP_S):
        told.append(sleep.passed_s())
    assert told == [0, 0, JUMP_S, 0, 100]


def test_while_nobody_sleeps_nothing_passes() -> None:
    sleep = Sleep(asleep_s)
    assert [sleep.passed_s() for _ in range(1_000)] == [0.0] * 1_000


async def test_who_slept_neither_uses_nor_tells_offers_of_before(
    autojump_clock: MockClock, world: MemoryWorld, open_side: OpenSide
) -> None:
    node, sleeper, asker = [await open_side(name) for name in ("node", "sleeper", "asker")]
    await node.network.dial(sleeper.address)
    link = await asker.network.dial(sleeper.address)
    node.serve()
    sleeper.serve()
    await trio.sleep(1)
    assert sleeper.nodes(MODEL) == {node.key.public}
    world.asleep_s[sleeper.key.public] = NIGHT_S
    answer = await asker.exchange.call(link, lambda call: AskOffers(call, MODEL, 64), Offers)
    assert answer.offers == ()
    assert sleeper.nodes(MODEL) == set()
    sleeper.serve(seq=2)
    node.serve(seq=2)
    await trio.sleep(1)
    assert (sleeper.nodes(MODEL), asker.nodes(MODEL)) == ({node.key.public}, {sleeper.key.public})


async def test_an_offer_that_is_made_on_waking_is_no_older_for_the_sleep(
    autojump_clock: MockClock, world: MemoryWorld, open_side: OpenSide
) -> None:
    sleeper, peer = await open_side("sleeper"), await open_side("peer")
    await peer.network.dial(sleeper.address)
    sleeper.serve()
    await trio.sleep(LIFE_S / 2)
    world.asleep_s[sleeper.key.public] = NIGHT_S
    sleeper.serve(seq=2)
    await trio.sleep(LIFE_S - 1)
    assert peer.nodes() == {sleeper.key.public}


async def test_a_nap_makes_offers_older_by_so_much(
    autojump_clock: MockClock, world: MemoryWorld, open_side: OpenSide
) -> None:
    node, sleeper = await open_side("node"), await open_side("sleeper")
    await node.network.dial(sleeper.address)
    node.serve()
    await trio.sleep(1)
    world.asleep_s[sleeper.key.public] = LIFE_S - 10
    assert sleeper.nodes() == {node.key.public}
    await trio.sleep(10)
    assert sleeper.nodes() == set()


async def test_who_waits_for_a_move_hears_of_a_sleep(
    autojump_clock: MockClock, world: MemoryWorld, open_side: OpenSide, nursery: trio.Nursery
) -> None:
    """The offer is renewed then, links are looked at, and those who were away are dialled again."""
    client, node = await open_side("client"), await open_side("node")
    nursery.start_soon(client.directory.keep_pulling)
    nursery.start_soon(node.directory.keep_meeting)
    for sleeper, within_s in ((client, PULL_S[1]), (node, LOOK_AROUND_S)):
        with trio.move_on_after(100) as scope:
            await sleeper.network.wait_moved()
        assert scope.cancelled_caught
        world.asleep_s[sleeper.key.public] = NIGHT_S
        with trio.fail_after(within_s + 1):
            await sleeper.network.wait_moved()


async def test_a_peer_that_idles_is_not_woken_to_look_if_it_slept(
    autojump_clock: MockClock, world: MemoryWorld, open_side: OpenSide
) -> None:
    await open_side("idle")
    await wait_all_tasks_blocked()
    assert trio.lowlevel.current_statistics().seconds_to_next_deadline == inf
