"""A node that nobody can reach says so, once at each place, and leaves what it saw for `doctor`."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from p2pinfer.core.swarm.source import Scope, Source
from p2pinfer.core.values.keys import peer_name
from p2pinfer.node.outlook import LOOK_S, MAX_SEEN, NOTE_S, ROUTER_S, Outlook, Sight, last_sight, out_of_reach
from p2pinfer.node.settings import NetworkSettings as NetworkSettings
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.machine import Machine
from p2pinfer.overlay.memory import MemoryWorld, open_memory_network
from tests.overlay.conftest import KEYS, Collector

HERE, LAN = ("/ip4/127.0.0.1/tcp/4001",), ("/ip4/192.168.1.20/tcp/4001", "/ip4/127.0.0.1/tcp/4001")
EVERYWHERE = ("/ip4/0.0.0.0/tcp/4001",)
NAME = peer_name(KEYS[1].public)
HOME, AWAY = f"/ip4/127.0.0.1/tcp/4001/p2p/{NAME}", f"/ip4/192.168.1.21/tcp/4001/p2p/{NAME}"
PUBLIC = Source("198.41.0.9", Scope.PUBLIC)


class Place:
    """A network of which a test says where it is, and who is linked."""

    key = KEYS[0].public
    machine = Machine()

    def __init__(self, addresses: tuple[str, ...] = LAN) -> None:
        self.up: list[Link] = []
        self._addresses = addresses
        self._moved = trio.Event()

    def addresses(self) -> tuple[str, ...]:
        return self._addresses

    def links(self) -> tuple[Link, ...]:
        return tuple(self.up)

    async def wait_moved(self) -> None:
        await self._moved.wait()

    def move(self, addresses: tuple[str, ...]) -> None:
        self._addresses = addresses
        self._moved.set()
        self._moved = trio.Event()


@asynccontextmanager
async def watching(place: Place, settings: NetworkSettings, folder: Path) -> AsyncIterator[Outlook]:
    async with trio.open_nursery() as nursery:
        outlook = Outlook(place, settings, folder / "network.json")
        nursery.start_soon(outlook.run)
        yield outlook
        nursery.cancel_scope.cancel()


async def linked(number: int = 1) -> Link:
    """A link that we dialled, closed again: it pings no more. Tests say where it leads, and what its peer said."""
    world = MemoryWorld()
    async with (
        open_memory_network(world, KEYS[0].public, Collector()) as network,
        open_memory_network(world, KEYS[number].public, Collector()) as other,
    ):
        return await network.dial(other.addresses()[0])


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


@pytest.mark.parametrize(
    ("sight", "bootstrap", "has_links", "words"),
    [
        (Sight(HERE, 0, 0, (), 0), (), False, ("--listen /ip4/0.0.0.0/tcp/4001", "--bootstrap")),
        (Sight((), 0, 0, (), 0), (), False, ("--listen", "--bootstrap", "it has no address")),
        (Sight(HERE, 1, 1, (), 0), (), False, ("--listen", "--bootstrap")),  # somebody asked, and went
        (Sight(HERE, 1, 1, (), 0), (), True, ()),  # a trial: all are on this machine
        (Sight(HERE, 0, 0, (), 0), (HOME,), False, ()),
        (Sight(HERE, 0, 0, (), 0), (AWAY,), False, ("--listen /ip4/0.0.0.0/tcp/4001", "network.listen")),
        (Sight(HERE, 0, 0, (), 0), ("/dns4/boot.example/tcp/1",), False, ("--listen",)),
        (Sight(HERE, 3, 0, (), 0, beyond=1), (HOME,), True, ("--listen", "has peers on other machines")),
        (Sight(LAN, 0, 0, (), 0), (), False, ()),
        (Sight(LAN, 9, 0, ("198.41.0.4",), 0, beyond=9), (AWAY,), True, ()),  # not so soon
    ],
    ids=str,
)
def test_who_cannot_be_reached_is_told_what_to_do(
    sight: Sight, bootstrap: tuple[str, ...], has_links: bool, words: tuple[str, ...]
) -> None:
    why = out_of_reach(sight, NetworkSettings(bootstrap=bootstrap), has_links, LOOK_S)
    assert bool(why) is bool(words)
    assert [one for one in words if one not in why] == []


@pytest.mark.parametrize(
    ("seen", "outside", "here_s", "words"),
    [
        (("198.41.0.4", "198.41.0.5"), 0, ROUTER_S, 'network.announce = ["/ip4/198.41.0.4/tcp/4001"]'),
        (("2a00::/64",), 0, ROUTER_S, 'network.announce = ["/ip4/ADDRESS/tcp/4001"]'),
        (("198.41.0.4",), 0, ROUTER_S - 1, ""),
        (("198.41.0.4",), 1, ROUTER_S, ""),
        ((), 0, ROUTER_S, ""),
    ],
    ids=str,
)
def test_who_stands_behind_a_router_is_told_after_a_while(
    seen: tuple[str, ...], outside: int, here_s: float, words: str
) -> None:
    sight = Sight(LAN, 5, 1, seen, 0, beyond=5, outside=outside)
    why = out_of_reach(sight, NetworkSettings(listen=EVERYWHERE, bootstrap=(AWAY,)), True, here_s)
    assert bool(why) is bool(words)
    assert words in why


def test_who_listens_everywhere_and_has_no_network_is_told_that_nothing_is_to_be_changed() -> None:
    why = out_of_reach(Sight(HERE, 0, 0, (), 0), NetworkSettings(listen=EVERYWHERE), False, LOOK_S)
    assert ("no network" in why, "--listen" in why) == (True, False)


async def test_a_node_that_joined_others_and_listens_here_alone_says_so_once(
    autojump_clock: MockClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = Place(HERE)
    link = await linked()
    async with watching(place, NetworkSettings(bootstrap=(HOME,)), tmp_path) as outlook:
        place.up = [link]
        outlook.note(link)
        await trio.sleep(3 * LOOK_S)
        assert warnings(caplog) == []
        link.source = Source("192.168.1.21", Scope.PRIVATE)
        outlook.note(link)
        await trio.sleep(ROUTER_S)
        (why,) = warnings(caplog)
        assert "--listen" in why


async def test_a_node_that_comes_behind_a_router_says_so_and_one_that_is_reached_there_does_not(
    autojump_clock: MockClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    public = ("/ip4/198.41.0.4/tcp/4001",)
    place = Place(public)
    settings = NetworkSettings(listen=EVERYWHERE, bootstrap=(AWAY,))
    link = await linked()
    async with watching(place, settings, tmp_path) as outlook:
        place.up = [link]
        link.source, link.hello = PUBLIC, replace(link.hello, seen="198.41.0.4")
        outlook.note(link)
        await trio.sleep(2 * ROUTER_S)
        assert warnings(caplog) == []
        place.move(LAN)
        await trio.sleep(ROUTER_S - 1)
        assert warnings(caplog) == []
        await trio.sleep(LOOK_S + 2)
        assert "network.announce" in warnings(caplog)[0]
        place.move(LAN[:1])
        link.address = None  # the peer dialled us, as it does where a port is forwarded
        await trio.sleep(2 * ROUTER_S)
        assert len(warnings(caplog)) == 1


async def test_counts_are_never_older_than_an_hour_and_are_noted_at_the_end(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    path = tmp_path / "network.json"
    one, other, third = [await linked(number) for number in (1, 2, 3)]
    async with watching(Place(), NetworkSettings(), tmp_path) as outlook:
        outlook.note(one)
        await trio.sleep(LOOK_S + 1)
        outlook.note(other)
        await trio.sleep(LOOK_S)
        assert (seen := last_sight(path)) is not None
        assert seen.met == 1  # a peer more is worth no write at once
        await trio.sleep(NOTE_S)
        assert (seen := last_sight(path)) is not None
        assert seen.met == 2
        outlook.note(third)
    assert (seen := last_sight(path)) is not None
    assert (seen.met, seen.beyond, seen.addresses) == (3, 0, LAN)


async def test_who_ends_before_it_looked_leaves_the_note_that_was_there(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with watching(Place(), NetworkSettings(), tmp_path):
        await trio.sleep(LOOK_S - 1)
    assert last_sight(tmp_path / "network.json") is None


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
    "text",
    [
        *("", "[]", "{}", "[" * 100_000),
        '{"addresses": 3, "met": 1, "came": 1, "seen": [], "at": 1, "beyond": 1, "outside": 1}',
        '{"addresses": [], "met": 1, "came": 1, "seen": [], "at": 1}',
    ],
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
        outlook = Outlook(network, NetworkSettings(), tmp_path / "none" / "network.json")
        nursery.start_soon(outlook.run)
        await trio.sleep(2 * LOOK_S)
        nursery.cancel_scope.cancel()
    assert last_sight(tmp_path / "none" / "network.json") is None


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
