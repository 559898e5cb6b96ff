"""Peers that a node lost: it dials them once, their own silence alone says that they are dead, and all come back."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from p2pinfer.core.swarm.source import Scope, Source
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import LinkDead, Undialled
from p2pinfer.core.values.units import PeerKey
from p2pinfer.core.wire.messages import Offers
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.losses import LOOK_AROUND_S, NETWORK_SUSPECTS
from p2pinfer.overlay.memory import MemoryWorld
from p2pinfer.overlay.word import Word
from tests.core.paid_route import MODEL, key
from tests.overlay.sides import OpenSide


async def test_the_offer_of_a_node_whose_link_broke_and_that_does_not_answer_is_not_passed_on(
    autojump_clock: MockClock, open_side: OpenSide, nursery: trio.Nursery
) -> None:
    boot = await open_side("boot")
    nursery.start_soon(boot.directory.keep_meeting)
    nodes = [await open_side(f"node {number}", boot.address) for number in range(6)]
    for node in nodes:
        nursery.start_soon(node.keep_serving)
    await trio.sleep(3)
    for node in nodes[1:]:
        await node.kill()
    await trio.sleep(0.5)
    client = await open_side("client", boot.address)
    assert [one.node for one in await client.directory.look(MODEL)] == [nodes[0].key.public]
    await trio.sleep(10)  # nor from others, who tell it again
    assert boot.nodes() == {nodes[0].key.public}


async def test_one_whose_link_broke_while_too_many_were_dialled_is_dialled_later(
    autojump_clock: MockClock, open_side: OpenSide, nursery: trio.Nursery
) -> None:
    node, other = await open_side("node"), await open_side("other")
    nursery.start_soon(node.directory._meeting.losses.keep_dialling)  # and nobody is met for other reasons
    await node.network.dial(other.address)
    other.serve()
    await trio.sleep(1)
    reach, busy = node.network.reach, [True]

    async def busy_reach(peer: PeerKey, addresses: Sequence[str], word: Word) -> Link:
        if busy:
            raise Undialled("too many dials", Code.BUSY)
        return await reach(peer, addresses, word)

    node.network.reach = busy_reach  # type: ignore[method-assign]
    await other.kill()
    await trio.sleep(LOOK_AROUND_S + 1)
    assert node.nodes() == {other.key.public}  # nothing says that it is dead
    busy.clear()
    await trio.sleep(LOOK_AROUND_S + 1)
    assert node.nodes() == set()


async def test_one_whose_link_broke_and_that_has_no_room_for_another_lives(
    autojump_clock: MockClock, open_side: OpenSide, nursery: trio.Nursery
) -> None:
    node, other = await open_side("node"), await open_side("other")
    nursery.start_soon(node.directory._meeting.losses.keep_dialling)  # and nobody is met for other reasons
    await node.network.dial(other.address)
    other.serve()
    await trio.sleep(1)

    async def full(*_: object) -> Link:
        raise LinkDead("no room", Code.BUSY)

    node.network.reach = full  # type: ignore[method-assign]
    await other.kill()
    await trio.sleep(LOOK_AROUND_S + 1)
    assert node.nodes() == {other.key.public}


async def test_a_node_that_says_that_it_leaves_is_left_out_at_once(
    autojump_clock: MockClock, open_side: OpenSide, nursery: trio.Nursery
) -> None:
    boot, node, other = [await open_side(name) for name in ("boot", "node", "other")]
    for one in (boot, other):
        nursery.start_soon(one.directory.keep_meeting)
        await node.network.dial(one.address)
    node.serve()
    await trio.sleep(1)
    for link in node.network.links():
        link.close(Code.LEAVING)
    await trio.sleep(1)
    assert boot.nodes() == other.nodes() == set()


async def test_a_link_that_broke_is_no_death_where_the_node_answers(
    autojump_clock: MockClock, open_side: OpenSide, nursery: trio.Nursery, world: MemoryWorld
) -> None:
    boot, node = await open_side("boot"), await open_side("node")
    nursery.start_soon(boot.directory.keep_meeting)
    await node.network.dial(boot.address)
    node.serve()
    await trio.sleep(1)
    world.cut(boot.key.public, node.key.public)
    await trio.sleep(1)
    assert boot.nodes() == {node.key.public}
    assert boot.linked() == {node.key.public}


async def test_a_node_that_was_silent_counts_again_as_soon_as_it_speaks(
    autojump_clock: MockClock, open_side: OpenSide, nursery: trio.Nursery, world: MemoryWorld
) -> None:
    boot, node = await open_side("boot"), await open_side("node")
    nursery.start_soon(boot.directory.keep_meeting)
    await node.network.dial(boot.address)
    node.serve()
    await trio.sleep(1)
    world.unreachable.add(node.key.public)
    world.cut(boot.key.public, node.key.public)
    await trio.sleep(2)
    assert boot.nodes() == set()
    await node.network.dial(boot.address)
    await trio.sleep(1)
    assert boot.nodes() == {node.key.public}


async def test_what_a_third_peer_says_of_a_death_counts_for_nothing(
    autojump_clock: MockClock, open_side: OpenSide, nursery: trio.Nursery
) -> None:
    boot, node, liar = [await open_side(name) for name in ("boot", "node", "liar")]
    nursery.start_soon(boot.directory.keep_meeting)
    told = node.serve()
    link = await liar.network.dial(boot.address)
    link.send_nowait(Offers(0, (told.relay(trio.current_time()),)))
    await trio.sleep(1)
    await liar.kill()
    await trio.sleep(1)
    assert node.key.public in boot.nodes()
    with pytest.raises(LinkDead):
        link.send_nowait(Offers(0, ()))


async def test_a_node_that_cannot_be_dialled_is_not_found_dead_and_holds_nothing(
    autojump_clock: MockClock, open_side: OpenSide, nursery: trio.Nursery
) -> None:
    """It came to the one who tells of it, behind its router."""
    boot, hidden, teller = [await open_side(name) for name in ("boot", "hidden", "teller")]
    nursery.start_soon(boot.directory.keep_meeting)
    link = await teller.network.dial(boot.address)
    link.send_nowait(Offers(0, (replace(hidden.offer(), addresses=()).relay(trio.current_time()),)))
    await trio.sleep(30)
    assert boot.linked() == {teller.key.public}
    assert boot.nodes() == {hidden.key.public}
    assert boot.directory.hides(MODEL)
    await hidden.network.dial(boot.address)
    assert not boot.directory.hides(MODEL)


async def test_one_that_answers_slowly_keeps_no_other_from_being_found_dead(
    autojump_clock: MockClock, open_side: OpenSide, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    boot = await open_side("boot")
    nursery.start_soon(boot.directory.keep_meeting)
    slow, dead, lives = [await open_side(name, boot.address) for name in ("slow", "dead", "lives")]
    for node in (slow, dead, lives):
        nursery.start_soon(node.keep_serving)
    await trio.sleep(3)
    reach = boot.network.reach

    async def slow_reach(peer: PeerKey, addresses: Sequence[str], word: Word) -> Link:
        if peer == slow.key.public:
            await trio.sleep_forever()
        return await reach(peer, addresses, word)

    monkeypatch.setattr(boot.network, "reach", slow_reach)
    await slow.kill()
    await trio.sleep(0.5)
    await dead.kill()
    await trio.sleep(0.5)
    assert boot.nodes() == {slow.key.public, lives.key.public}


async def test_who_has_many_keys_leaves_places_for_other_suspects(
    autojump_clock: MockClock, open_side: OpenSide, nursery: trio.Nursery, world: MemoryWorld
) -> None:
    boot = await open_side("boot")
    names = [f"liar {number}" for number in range(NETWORK_SUSPECTS + 2)]
    for name in names:
        world.sources[key(name).public] = Source("203.0.113.7", Scope.PUBLIC)
    liars = [await open_side(name) for name in names]
    node = await open_side("node")
    for side in [*liars, node]:
        await side.network.dial(boot.address)
        side.serve()
    await trio.sleep(1)
    for side in [*liars, node]:
        await side.kill()
    await trio.sleep(1)
    nursery.start_soon(boot.directory._meeting.losses.keep_dialling)  # all who are suspected are found dead
    await trio.sleep(1)
    assert node.key.public not in boot.nodes()
    assert len(boot.nodes()) == len(liars) - NETWORK_SUSPECTS


# Our own network


@pytest.mark.parametrize("outage_s", [4.0, 90.0])
async def test_who_was_cut_off_is_back_at_once_though_the_bootstrap_node_died_meanwhile(
    autojump_clock: MockClock, open_side: OpenSide, nursery: trio.Nursery, world: MemoryWorld, outage_s: float
) -> None:
    boot = await open_side("boot")
    nodes = [await open_side(f"node {number}", boot.address) for number in range(6)]
    for side in [boot, *nodes]:
        nursery.start_soon(side.keep_serving)
    await trio.sleep(40)
    away, *others = nodes
    everybody = {side.key.public for side in [boot, *nodes]}
    world.unreachable |= everybody  # what cannot be dialled from here, nor from there
    for link in away.network.links():
        world.cut(away.key.public, link.peer)
    await trio.sleep(outage_s)
    assert away.linked() == set()
    await boot.kill()
    world.unreachable -= everybody - {boot.key.public}
    await trio.sleep(2 * LOOK_AROUND_S)
    assert away.linked() >= {other.key.public for other in others}
    assert away.nodes() == {other.key.public for other in others}
