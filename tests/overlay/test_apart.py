"""Parts of a swarm that fell apart find each other, though every peer that all knew is dead (protocols/wire.md, 6)."""

from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock

from p2pinfer.core.swarm.coverage import WELL_HELD
from p2pinfer.core.values.keys import peer_name
from p2pinfer.core.values.units import PeerKey
from p2pinfer.overlay.directory import model_key
from p2pinfer.overlay.first_peers import keep_first_peers, open_first_peers
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.memory import MemoryWorld
from p2pinfer.overlay.pipe import Address
from p2pinfer.overlay.search import OTHERS
from p2pinfer.overlay.word import Word
from tests.core.paid_route import MODEL, key
from tests.overlay.sides import Book, OpenSide, Side

APART_S = 100.0, 200.0  # a third of what it is, for the sake of those who wait for the test
WELL_S = 30.0  # that the swarm is one
HEARD_S = 90.0  # for news to reach everybody, once two have met


@pytest.fixture(autouse=True)
def _looks_are_less_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2pinfer.overlay.directory.APART_S", APART_S)
    monkeypatch.setattr("p2pinfer.overlay.recall.APART_S", APART_S)


async def keep_book(side: Side, book: Book) -> None:
    """As a node does."""
    await keep_first_peers(side.network.machine.lots, side.directory, open_first_peers(side.directory, book))


async def fall_apart(world: MemoryWorld, nodes: Sequence[Side], boot: Side) -> None:
    """In two, for a while, each of them well off; whom all knew dies meanwhile."""
    await boot.kill()
    world.parts = {node.key.public: number % 2 for number, node in enumerate(nodes)}
    for node in nodes:
        for link in node.network.links():
            if world.parts.get(link.peer) != world.parts[node.key.public]:
                world.cut(node.key.public, link.peer)
    await trio.sleep(APART_S[0] - WELL_S)
    for node in nodes:
        assert all(world.parts[other] == world.parts[node.key.public] for other in node.nodes())
        assert len(node.nodes(MODEL)) + 1 >= WELL_HELD
    world.parts = {}


@pytest.mark.parametrize("by", ["the DHT", "address books"])
async def test_two_halves_find_together_though_the_bootstrap_peer_is_dead(
    autojump_clock: MockClock, open_side: OpenSide, nursery: trio.Nursery, world: MemoryWorld, by: str
) -> None:
    boot = await open_side("boot")
    nursery.start_soon(boot.directory.keep_meeting)
    nodes = [await open_side(f"node {number}", boot.address) for number in range(6)]
    for node in nodes:
        if by == "the DHT":
            nursery.start_soon(node.directory.keep_providing, MODEL)
        else:
            nursery.start_soon(keep_book, node, Book())
    await trio.sleep(0.1)
    for node in nodes:
        nursery.start_soon(node.keep_serving)
    await trio.sleep(WELL_S)
    await fall_apart(world, nodes, boot)
    await trio.sleep(APART_S[1] - APART_S[0] + HEARD_S)
    everybody = {node.key.public for node in nodes}
    others = [everybody - {node.key.public} for node in nodes]
    assert [node.nodes() for node in nodes] == others
    assert [{link.peer for link in node.network.links()} for node in nodes] == others  # not by a single bridge


async def test_whose_model_is_well_held_asks_the_dht_seldom_and_meets_few(
    autojump_clock: MockClock, open_side: OpenSide, nursery: trio.Nursery, world: MemoryWorld
) -> None:
    node, *others = [await open_side(f"node {number}") for number in range(3)]
    for other in others:
        await other.network.dial(node.address)
    for side in (node, *others):
        nursery.start_soon(side.keep_serving)
    gone = [key(f"gone {number}").public for number in range(20)]
    world.providers[model_key(MODEL)] = [Address(f"/memory/p2p/{peer_name(peer)}") for peer in gone]
    await trio.sleep(WELL_S)
    dialled: list[PeerKey] = []
    finds: list[bytes] = []
    reach, find = node.network.reach, node.network.find

    async def noting_reach(peer: PeerKey, addresses: Sequence[str], word: Word) -> Link:
        if peer in gone:  # the others, whom nobody has dialled, may ask for it meanwhile
            dialled.append(peer)
        return await reach(peer, addresses, word)

    async def noting_find(sought: bytes) -> tuple[Address, ...]:
        finds.append(sought)
        return await find(sought)

    node.network.reach, node.network.find = noting_reach, noting_find  # type: ignore[method-assign]
    await trio.sleep(2 * APART_S[1])
    assert 2 <= len(finds) <= 2 * APART_S[1] / APART_S[0]
    assert len(dialled) == OTHERS * len(finds) == len(set(dialled))
