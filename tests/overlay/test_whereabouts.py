"""Our own addresses: which they are now, what is told to whom, and what happens when they change."""

import ipaddress
import math
import socket
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
import trio

from p2pinfer.core.swarm.own_address import OwnAddress
from p2pinfer.core.swarm.source import Scope, Source
from p2pinfer.overlay.libp2p import interfaces
from p2pinfer.overlay.libp2p.interfaces import changes, own_addresses
from p2pinfer.overlay.libp2p.whereabouts import Whereabouts, expected

ANY = (ipaddress.ip_address("0.0.0.0"), 4001)
ANY_6 = (ipaddress.ip_address("::"), 4001)


def own(*texts: str) -> list[OwnAddress]:
    found = map(ipaddress.ip_interface, texts)
    return [OwnAddress(one.ip, one.network.prefixlen) for one in found]


class Machine:
    """A machine whose addresses the test changes."""

    def __init__(self, *texts: str) -> None:
        self.here = own(*texts)
        self.change, self._changes = trio.open_memory_channel[None](math.inf)

    def look(self) -> list[OwnAddress]:
        return self.here

    async def changing(self) -> AsyncIterator[None]:
        async for _ in self._changes:
            yield

    def move(self, *texts: str) -> None:
        self.here = own(*texts)
        self.change.send_nowait(None)


def plain(where: Whereabouts) -> list[str]:
    return [one.removesuffix("/p2p/NAME") for one in where.addresses()]


def test_a_listener_on_all_interfaces_is_told_at_each_of_its_family() -> None:
    machine = Machine("127.0.0.1/8", "192.168.1.20/24", "fd00::2/64", "::1/128")
    assert plain(Whereabouts("NAME", [ANY], (), machine.look)) == [
        "/ip4/192.168.1.20/tcp/4001",
        "/ip4/127.0.0.1/tcp/4001",
    ]
    assert plain(Whereabouts("NAME", [ANY_6], (), machine.look)) == ["/ip6/fd00::2/tcp/4001", "/ip6/::1/tcp/4001"]


def test_a_listener_at_an_address_that_no_interface_names_is_told_all_the_same() -> None:
    """All of 127.0.0.0/8 is this machine's, and one address of it stands on the interface."""
    where = Whereabouts("NAME", [(ipaddress.ip_address("127.0.0.2"), 7)], (), Machine("127.0.0.1/8").look)
    assert plain(where) == ["/ip4/127.0.0.2/tcp/7"]


async def test_who_moves_is_told_where_it_is_now(nursery: trio.Nursery) -> None:
    machine = Machine()
    where = Whereabouts("NAME", [ANY], (), machine.look)
    assert plain(where) == []
    nursery.start_soon(where.follow, machine.changing)
    for place in ("10.0.0.5/24", "192.168.7.2/24"):
        await trio.testing.wait_all_tasks_blocked()
        with trio.fail_after(5):
            async with trio.open_nursery() as waiting:
                waiting.start_soon(where.wait_moved)
                await trio.testing.wait_all_tasks_blocked()
                machine.move(place, "127.0.0.1/8")
        assert plain(where)[0] == f"/ip4/{place.partition('/')[0]}/tcp/4001"
    nursery.cancel_scope.cancel()


async def test_an_address_that_a_listener_had_to_itself_is_dropped_when_it_goes(nursery: trio.Nursery) -> None:
    machine = Machine("10.0.0.5/24")
    where = Whereabouts("NAME", [(ipaddress.ip_address("10.0.0.5"), 7)], (), machine.look)
    nursery.start_soon(where.follow, machine.changing)
    machine.move("192.168.7.2/24")
    await trio.testing.wait_all_tasks_blocked()
    assert plain(where) == []
    nursery.cancel_scope.cancel()


def test_what_is_announced_stands_in_for_what_is_listened_at() -> None:
    where = Whereabouts("NAME", [ANY], ["/ip4/198.41.0.4/tcp/1"], Machine("10.0.0.5/24").look)
    assert plain(where) == ["/ip4/198.41.0.4/tcp/1"]
    assert where.is_ours("/ip4/10.0.0.5/tcp/4001/p2p/OTHER")
    assert where.is_ours("/ip4/198.41.0.4/tcp/1")
    assert not where.is_ours("/ip4/10.0.0.5/tcp/4002")


@pytest.mark.parametrize(
    ("scope", "told"),
    [
        (Scope.LOOPBACK, ["198.41.0.4", "10.0.0.5", "127.0.0.1"]),
        (Scope.PRIVATE, ["198.41.0.4", "10.0.0.5"]),
        (Scope.LINK, ["198.41.0.4"]),
        (Scope.PUBLIC, ["198.41.0.4"]),
    ],
)
def test_who_asks_from_where_decides_what_is_told(scope: Scope, told: list[str]) -> None:
    """WIRE-19, seen from the other side: what may not be dialled on our word is not told."""
    machine = Machine("127.0.0.1/8", "10.0.0.5/24", "169.254.1.1/16", "198.41.0.4/24")
    where = Whereabouts("NAME", [ANY], (), machine.look)
    assert [one.split("/")[2] for one in where.told(Source("x", scope))] == told


def test_this_machine_has_loopback() -> None:
    assert ipaddress.ip_address("127.0.0.1") in {one.ip for one in own_addresses()}
    assert "/ip4/127.0.0.1/tcp/0" in expected(["/ip4/0.0.0.0/tcp/0"])


async def test_without_netlink_the_interfaces_are_looked_at_now_and_then(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interfaces, "_open_netlink", lambda: None)
    async with aclosing(changes()) as told:
        await anext(told)
        await anext(told)
    assert trio.current_time() == interfaces.LOOK_S


async def test_a_change_that_the_system_tells_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    near, far = socket.socketpair()
    near.setblocking(False)
    monkeypatch.setattr(interfaces, "_open_netlink", lambda: near)
    monkeypatch.setattr(interfaces, "SETTLE_S", 0.0)
    with far, trio.fail_after(5):
        far.send(b"a link came up")
        async with aclosing(changes()) as told:
            await anext(told)
            await anext(told)
