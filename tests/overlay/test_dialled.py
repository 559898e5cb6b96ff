"""A node that nobody has dialled has a peer turn its link round, and no node is dialled by nobody for long."""

from collections.abc import Collection
from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock

from p2pinfer.core.swarm.source import Scope, Source
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import LinkDead
from p2pinfer.core.values.units import PeerKey
from p2pinfer.overlay.dialled import REDIAL_S, UNDIALLED_S
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.meeting import CALM_S
from p2pinfer.overlay.memory import MemoryWorld
from p2pinfer.overlay.pipe import Address
from tests.overlay.sides import OpenSide, Side

SOON_S = UNDIALLED_S[0] + CALM_S + REDIAL_S  # by then who wants to be dialled has been, and those who turned are back
PUBLIC = Source("198.41.0.9", Scope.PUBLIC)


def ends(side: Side) -> list[tuple[PeerKey, float]]:
    """Fills with the peers whose links ended for a redial, and when."""
    found: list[tuple[PeerKey, float]] = []

    def note(link: Link, why: LinkDead) -> None:
        if why.code is Code.REDIAL:
            found.append((link.peer, trio.current_time()))

    side.exchange.mourners.append(note)
    return found


def came(side: Side) -> set[PeerKey]:
    """Those linked to it that dialled it."""
    return {link.peer for link in side.network.links() if not link.dialled}


async def last_of_three(
    open_side: OpenSide, nursery: trio.Nursery, debtors: Collection[PeerKey] = ()
) -> tuple[Side, set[PeerKey]]:
    """A node that dialled the two others, who then need not dial it. debtors: with whom it has something to settle"""
    others = [await open_side(f"other {number}") for number in range(2)]
    node = await open_side("node", *(other.address for other in others), settles=lambda: debtors)
    for side in (*others, node):
        nursery.start_soon(side.keep_serving)
    await trio.sleep(1)
    return node, {other.key.public for other in others}


@pytest.mark.parametrize("latency_s", [0.0, 0.4])
async def test_a_node_that_dialled_all_whom_it_knows_is_dialled_by_one_of_them(
    autojump_clock: MockClock, open_side: OpenSide, nursery: trio.Nursery, world: MemoryWorld, latency_s: float
) -> None:
    world.latency_s = latency_s
    node, others = await last_of_three(open_side, nursery)
    asked = ends(node)
    await trio.sleep(UNDIALLED_S[0] - 20)
    assert (node.linked(), came(node)) == (others, set())
    await trio.sleep(SOON_S)
    assert node.linked() == others
    assert came(node) == {peer for peer, _ in asked}
    assert len(asked) == 1
    await trio.sleep(4 * UNDIALLED_S[0])
    assert len(asked) == 1  # once is enough


async def test_a_node_that_nobody_can_dial_asks_ever_more_rarely_and_keeps_its_links(
    autojump_clock: MockClock,
    open_side: OpenSide,
    nursery: trio.Nursery,
    world: MemoryWorld,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("p2pinfer.overlay.dialled.UNDIALLED_S", (first_s := UNDIALLED_S[0], 4 * first_s))
    node, others = await last_of_three(open_side, nursery)
    world.unreachable.add(node.key.public)
    asked = ends(node)
    while len(asked) < 6:
        await trio.sleep(first_s / 2)
        if not asked or trio.current_time() > asked[-1][1] + CALM_S + REDIAL_S:
            assert node.linked() == others
    waits = [after - before for (_, before), (_, after) in pairwise(asked)]
    assert waits == pytest.approx([first_s * factor for factor in (1, 2, 4, 4, 4)], abs=CALM_S)


async def test_a_node_with_one_link_and_one_without_an_offer_do_not_ask(
    autojump_clock: MockClock, open_side: OpenSide, nursery: trio.Nursery
) -> None:
    boot, one, other = [await open_side(name) for name in ("boot", "one", "other")]
    node, idle = await open_side("node", boot.address), await open_side("idle", one.address, other.address)
    nursery.start_soon(node.keep_serving)
    nursery.start_soon(idle.directory.keep_meeting)
    asked = [ends(node), ends(idle)]
    await trio.sleep(SOON_S)
    assert (len(node.linked()), len(idle.linked())) == (1, 2)
    assert asked == [[], []]


async def test_links_of_sessions_and_of_debtors_are_not_turned_round(
    autojump_clock: MockClock, open_side: OpenSide, nursery: trio.Nursery
) -> None:
    debtors: set[PeerKey] = set()
    node, others = await last_of_three(open_side, nursery, debtors)
    one, other = others
    asked = ends(node)
    debtors.add(one)
    with node.exchange.open_session(bytes(16), [other], rests=lambda: True):  # type: ignore[arg-type]
        await trio.sleep(SOON_S)
        assert asked == []
    await trio.sleep(SOON_S)
    assert [peer for peer, _ in asked] == [other]


async def test_who_dials_from_the_same_machine_shows_nothing_to_those_beyond_it(
    autojump_clock: MockClock, open_side: OpenSide, nursery: trio.Nursery, world: MemoryWorld
) -> None:
    client = await open_side("client")
    node, others = await last_of_three(open_side, nursery)
    await client.network.dial(node.address)
    asked = ends(node)
    await trio.sleep(SOON_S)
    assert asked == []
    for link in node.network.links():
        if link.peer in others:
            link.source = PUBLIC
    world.sources.update(dict.fromkeys(others, PUBLIC))
    await trio.sleep(SOON_S)
    assert len(asked) == 1
    assert came(node) == {client.key.public, asked[0][0]}


async def test_a_node_that_moved_asks_anew(
    autojump_clock: MockClock, open_side: OpenSide, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, others = await last_of_three(open_side, nursery)
    asked = ends(node)
    await trio.sleep(SOON_S)
    assert len(asked) == 1
    place = (*node.network.addresses(), Address("/ip4/198.41.0.7/tcp/4001"))
    monkeypatch.setattr(node.network, "addresses", lambda: place)
    await trio.sleep(2 * SOON_S)
    assert {peer for peer, _ in asked} == others  # the one that dialled it before is asked nothing
    assert came(node) == others


async def test_who_hears_that_on_a_link_that_it_dialled_itself_does_nothing(
    autojump_clock: MockClock, open_side: OpenSide, nursery: trio.Nursery
) -> None:
    node, liar = await open_side("node"), await open_side("liar")
    nursery.start_soon(node.directory._meeting.losses.keep_dialling)  # and nobody is met for other reasons
    liar.serve()
    await node.network.dial(liar.address)
    await trio.sleep(1)
    liar.network.link(node.key.public).close(Code.REDIAL)  # type: ignore[union-attr]
    await trio.sleep(1)
    assert node.linked() == set()
    await liar.network.dial(node.address)
    await trio.sleep(1)
    liar.network.link(node.key.public).close(Code.REDIAL)  # type: ignore[union-attr]
    await trio.sleep(1)
    assert node.linked() == {liar.key.public}
