"""A node that comes to be elsewhere says so in its offer, and those who know it forget where it was."""

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from p2pinfer.core.values.keys import peer_name
from p2pinfer.core.values.units import PeerKey
from p2pinfer.node.own_offers import RENEW_S
from p2pinfer.overlay.pipe import Address
from tests.overlay.sides import Side, open_one_side

from .clocks import clock_that_waits
from .town import Town


def known(peer: Side, node: PeerKey) -> tuple[int, tuple[str, ...]]:
    """How often a node has moved, and where it is, as a peer knows."""
    one = peer.directory.table.get(node)
    assert one is not None
    return one.offer.record.moves, one.addresses


async def test_an_offer_says_how_often_its_node_has_moved(
    autojump_clock: MockClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    town = Town(tmp_path)
    with clock_that_waits(autojump_clock):
        async with town.node("node") as node, open_one_side(town.world, "peer") as peer:
            key = (await peer.network.dial(node.addresses[0])).peer
            await trio.sleep(RENEW_S + 1)
            assert known(peer, key) == (0, node.addresses)
            for moves in (1, 2):
                there = (Address(f"/memory/{moves}/p2p/{peer_name(key)}"),)
                monkeypatch.setattr(town.world.grounds[key], "addresses", lambda there=there: there)
                monkeypatch.setattr(town.world.grounds[key], "told", lambda _to, there=there: there)
                await trio.sleep(2 * RENEW_S)
                assert known(peer, key) == (moves, there)
