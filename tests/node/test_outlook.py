"""A node that nobody can reach says so, once, and leaves what it saw for `doctor`."""

from dataclasses import replace
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from p2pinfer.core.source import Scope, Source
from p2pinfer.node.outlook import LOOK_S, MAX_SEEN, Outlook, Sight, last_sight, lonely
from p2pinfer.node.settings import Network as NetworkSettings
from p2pinfer.overlay.memory import MemoryWorld, open_memory_network
from tests.overlay.conftest import KEYS, Collector

HERE, LAN = ("/ip4/127.0.0.1/tcp/4001",), ("/ip4/192.168.1.20/tcp/4001", "/ip4/127.0.0.1/tcp/4001")


@pytest.mark.parametrize(
    ("sight", "bootstrap", "is_lonely"),
    [
        (Sight(HERE, 0, 0, (), 0), (), True),
        (Sight((), 0, 0, (), 0), (), True),
        (Sight(HERE, 0, 0, (), 0), ("/ip4/..",), False),
        (Sight(HERE, 1, 1, (), 0), (), False),
        (Sight(LAN, 0, 0, (), 0), (), False),
    ],
    ids=str,
)
def test_who_is_lonely(sight: Sight, bootstrap: tuple[str, ...], is_lonely: bool) -> None:
    why = lonely(sight, NetworkSettings(bootstrap=bootstrap))
    assert bool(why) is is_lonely
    assert ("--listen" in why and "--bootstrap" in why) is is_lonely


async def test_a_node_notes_whom_it_met_and_who_came(autojump_clock: MockClock, tmp_path: Path) -> None:
    path, world, collector = tmp_path / "network.json", MemoryWorld(), Collector()
    async with (
        open_memory_network(world, KEYS[0].public, collector) as network,
        open_memory_network(world, KEYS[1].public, Collector()) as other,
        trio.open_nursery() as nursery,
    ):
        outlook = Outlook(network, NetworkSettings(), path)
        nursery.start_soon(outlook.run)
        await trio.sleep(LOOK_S + 1)
        assert (seen := last_sight(path)) is not None
        assert (seen.met, seen.came) == (0, 0)
        outlook.note(await network.dial(other.addresses()[0]))
        await trio.sleep(LOOK_S + 1)
        assert (seen := last_sight(path)) is not None
        assert (seen.addresses, seen.met, seen.came) == (network.addresses(), 1, 0)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"addresses": 3, "met": 1, "came": 1, "seen": [], "at": 1}', "[" * 100_000]
)
def test_a_note_that_is_none_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "network.json").write_text(text)
    assert last_sight(tmp_path / "network.json") is None
    assert last_sight(tmp_path / "nothing") is None


async def test_a_folder_that_takes_no_note_is_no_harm(autojump_clock: MockClock, tmp_path: Path) -> None:
    async with (
        open_memory_network(MemoryWorld(), KEYS[0].public, Collector()) as network,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(Outlook(network, NetworkSettings(), tmp_path / "none" / "network.json").run)
        await trio.sleep(2 * LOOK_S)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("addresses", "seen", "is_behind"),
    [
        (LAN, ("198.41.0.4",), True),
        (("/ip4/198.41.0.4/tcp/1",), ("198.41.0.4",), False),
        (("/ip6/2a00::7/tcp/1",), ("2a00::/64",), False),
        (LAN, (), False),
    ],
    ids=str,
)
def test_who_is_seen_elsewhere_stands_behind_a_router(
    addresses: tuple[str, ...], seen: tuple[str, ...], is_behind: bool
) -> None:
    assert Sight(addresses, 1, 0, seen, 0).is_behind_router is is_behind


async def test_where_peers_from_outside_see_us_is_noted_and_what_is_no_network_is_not(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    path, world = tmp_path / "network.json", MemoryWorld()
    world.sources = {key.public: Source("198.41.0.4", Scope.PUBLIC) for key in KEYS[:2]}
    async with (
        open_memory_network(world, KEYS[0].public, Collector()) as network,
        open_memory_network(world, KEYS[1].public, Collector()) as other,
        trio.open_nursery() as nursery,
    ):
        outlook = Outlook(network, NetworkSettings(), path)
        link = await network.dial(other.addresses()[0])
        tales = ["198.41.0.4", "198.41.0.4", "\x1b[2J", "10.0.0.1", "2a00::%\x1b[2J"]
        tales += (f"198.41.1.{number}" for number in range(100))
        for number, seen in enumerate(tales):
            link.hello, link.source = replace(link.hello, seen=seen), Source(f"198.41.2.{number}", Scope.PUBLIC)
            outlook.note(link)
        for number in range(100):  # of one network, which has one word
            link.hello = replace(link.hello, seen=f"198.41.3.{number}")
            outlook.note(link)
        nursery.start_soon(outlook.run)
        await trio.sleep(LOOK_S + 1)
        sight = last_sight(path)
        assert sight is not None
        assert (sight.seen[0], len(sight.seen)) == ("198.41.0.4", MAX_SEEN)
        assert not any("%" in network for network in outlook._sight().seen)
        assert len(set(outlook._seen.values())) == 101
        nursery.cancel_scope.cancel()
