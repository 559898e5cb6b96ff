"""Clients and nodes find their swarm again without the peers that were named, by what their folders remember."""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio

from p2pinfer.cli.demo import _ask_all
from p2pinfer.cli.screen import Terminal
from p2pinfer.client.api import open_client
from p2pinfer.client.setup import World
from p2pinfer.core.swarm.source import Source
from p2pinfer.core.values.keys import PrivateKey, peer_name
from p2pinfer.core.values.units import PeerKey
from p2pinfer.disk.places import address_book, default_data, node_addresses
from p2pinfer.disk.whereabouts import NodesHere
from p2pinfer.node.daemon import Surroundings, open_node
from p2pinfer.node.settings import Settings, change
from p2pinfer.overlay.memory import MemoryGround, MemoryWorld
from p2pinfer.overlay.pipe import Address
from tests.overlay.sides import Near
from tests.swarms import Loop, TinySwarm

DEAD = f"/memory/p2p/{peer_name(PrivateKey(bytes(32)).public)}"


def alone(loop: Loop) -> TinySwarm:
    swarm = loop.swarm
    return TinySwarm(MemoryWorld(), swarm.root, swarm.store, swarm.model)


async def ask(swarm: TinySwarm, data: Path, *bootstrap: str) -> int:
    async with open_client(data, swarm.store.root, bootstrap, around=World(swarm.network)) as client:
        return (await client.answer("hello", max_tokens=3)).tokens


def test_a_client_with_only_dead_addresses_on_its_command_line_gets_its_answer(loop: Loop, tmp_path: Path) -> None:
    async def test() -> None:
        swarm, client = alone(loop), tmp_path / "client"
        async with open_node(Settings(), tmp_path / "boot", swarm.store, Surroundings(swarm.network)) as boot:
            first = boot.addresses[0]
            async with swarm.node(tmp_path / "node", "0:3", bootstrap=[first]):
                assert await ask(swarm, client, first) == 3
                boots = swarm.world.grounds.pop(boot.identity.key.public)
                assert await ask(swarm, client, DEAD, first) == 3
                assert await ask(swarm, client) == 3
                swarm.world.grounds[boot.identity.key.public] = boots
        assert address_book(client).stat().st_mode & 0o777 == 0o600

    loop.run(test)


def test_a_damaged_address_book_costs_no_answer(loop: Loop, tmp_path: Path) -> None:
    async def test() -> None:
        swarm, client = alone(loop), tmp_path / "client"
        client.mkdir()
        address_book(client).write_bytes(b"\x00")
        async with swarm.node(tmp_path / "node", "0:3") as node:
            assert await ask(swarm, client, DEAD, *node.addresses) == 3
            assert await ask(swarm, client) == 3

    loop.run(test)


def test_a_node_finds_its_swarm_again_without_its_bootstrap_peer(loop: Loop, tmp_path: Path) -> None:
    async def test() -> None:
        swarm = alone(loop)

        def plain(name: str, *bootstrap: str) -> object:
            settings = change(Settings(), "network", bootstrap=bootstrap)
            return open_node(settings, tmp_path / name, swarm.store, Surroundings(swarm.network))

        async with plain("other") as other:  # type: ignore[attr-defined]
            async with plain("node", *other.addresses) as node:  # type: ignore[attr-defined]
                await wait_linked(node._network, other.identity.key.public)
            async with plain("node", DEAD) as node:  # type: ignore[attr-defined]
                await wait_linked(node._network, other.identity.key.public)

    loop.run(test)


def test_a_node_on_the_clients_folder_is_found_by_itself(loop: Loop, tmp_path: Path) -> None:
    async def test() -> None:
        swarm = alone(loop)
        async with swarm.node(tmp_path / "both", "0:3", bootstrap=[]) as node:
            here = NodesHere([tmp_path / "both"])
            while not (told := await here.find()):  # noqa: ASYNC110 - a file tells no event
                await trio.sleep(0.01)
            assert tuple(told) == node.addresses
            assert await ask(swarm, tmp_path / "both") == 3
        assert not node_addresses(tmp_path / "both").exists()

    loop.run(test)


@pytest.mark.parametrize("who", ["a client", "one that shall not look here", "the demo"])
def test_who_shall_not_look_on_this_machine_reads_no_other_folder_of_the_user(
    loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    """Nor the roll, though nobody is found otherwise: the demo is among its own nodes."""
    read: list[Path | str] = []
    monkeypatch.setattr("p2pinfer.disk.whereabouts.entered", lambda: read.append("roll") or [])
    monkeypatch.setattr("p2pinfer.disk.whereabouts._addresses", lambda data: read.append(data) or [])
    data, store = tmp_path / "client", loop.swarm.store

    async def test() -> None:
        if who == "the demo":
            with trio.move_on_after(3):
                await _ask_all(data, store, silent_address(), Terminal(quiet=True))
            return
        async with open_client(data, store.root, [silent_address()], mdns=False, here=who == "a client") as client:
            await client._directory.look()

    loop.run(test)
    assert set(read) == ({"roll", data, default_data()} if who == "a client" else set())


def silent_address() -> Address:
    return Address(f"/ip4/127.0.0.1/tcp/9/p2p/{peer_name(PrivateKey(bytes(32)).public)}")


def test_a_client_meets_a_neighbour_of_which_others_know_no_address(
    loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        swarm, near = alone(loop), Near()
        seen: set[PeerKey] = set()  # others are behind a router, as is the client: their addresses are told to nobody

        def told(ground: MemoryGround, _: Source) -> tuple[Address, ...]:
            is_of_ours = ground._world is swarm.world  # the loop's swarm goes on beside it
            return ground.addresses() if ground.key in seen or not is_of_ours else ()

        monkeypatch.setattr(MemoryGround, "told", told)
        async with AsyncExitStack() as stack:
            far = await stack.enter_async_context(swarm.node(tmp_path / "far", "0:3"))
            seen.add(far.identity.key.public)
            node = await stack.enter_async_context(swarm.node(tmp_path / "near", "0:3"))
            near.heard = [Address(one) for one in node.addresses]
            await node._network.dial(far.addresses[0])
            around = World(swarm.network, near.open)
            async with open_client(tmp_path / "client", swarm.store.root, far.addresses, around=around) as client:
                for _ in range(200):
                    if len(await client.offers()) == 2:
                        break
                    await trio.sleep(0.05)
                for _ in range(2):
                    assert (await client.answer("hello", max_tokens=3)).tokens == 3
                assert (client._network.link(node.identity.key.public) is not None, near.opened) == (True, 1)

    loop.run(test)


async def wait_linked(network: object, peer: PeerKey, within: Sequence[float] = (0.02,) * 1_000) -> None:
    for pause_s in within:
        if network.link(peer) is not None:  # type: ignore[attr-defined]
            return
        await trio.sleep(pause_s)
    raise AssertionError("no link")
