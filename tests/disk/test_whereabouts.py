"""Where a node of this machine is met: told while it runs, and stale files lead nowhere."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import trio

from p2pinfer.core.values.errors import UsageError
from p2pinfer.core.values.keys import peer_name
from p2pinfer.disk.data_folder import hold_folder
from p2pinfer.disk.locks import hold_lock, is_held
from p2pinfer.disk.places import node_addresses, node_lock
from p2pinfer.disk.plain import read_small
from p2pinfer.disk.whereabouts import MAX_HERE, NodesHere, from_here, tell, untell
from p2pinfer.node.whereabouts import keep_whereabouts
from p2pinfer.overlay.exchange import Exchange
from p2pinfer.overlay.memory import MemoryWorld, open_memory_network
from tests.core.paid_route import NODES

NAME = peer_name(NODES[0].public)
PLACE = f"/ip4/127.0.0.1/tcp/4001/p2p/{NAME}"
OTHER = f"/ip4/127.0.0.1/tcp/4002/p2p/{NAME}"


def nodes_here(folders: Iterable[Path]) -> list[str]:
    return trio.run(NodesHere(folders).find)


def test_a_running_node_is_found_and_one_that_ended_is_not(tmp_path: Path) -> None:
    with hold_folder(tmp_path):
        tell(tmp_path, [PLACE])
        assert nodes_here([tmp_path, tmp_path, tmp_path / "other"]) == [PLACE]
        assert node_addresses(tmp_path).stat().st_mode & 0o777 == 0o600
    assert nodes_here([tmp_path]) == []  # as after kill -9
    with hold_folder(tmp_path):
        untell(tmp_path)
        untell(tmp_path)
        assert nodes_here([tmp_path]) == []


@pytest.mark.parametrize("data", [b"", b"\xff", b"x" * 10_000, None], ids=["empty", "no text", "giant", "a folder"])
def test_a_file_that_says_nothing_names_nobody(tmp_path: Path, data: bytes | None) -> None:
    with hold_folder(tmp_path):
        if data is None:
            node_addresses(tmp_path).mkdir()
        else:
            node_addresses(tmp_path).write_bytes(data)
        assert nodes_here([tmp_path]) == []


def test_whoever_looks_at_a_lock_keeps_no_node_from_starting(tmp_path: Path) -> None:
    node_lock(tmp_path).touch()
    look = f"from p2pinfer.disk.locks import is_held; from pathlib import Path; path = Path({str(tmp_path)!r})"
    look += "\nwhile True: is_held(path / 'node.lock')"
    looking = subprocess.Popen([sys.executable, "-c", look])
    try:
        for _ in range(20):
            with hold_folder(tmp_path):
                assert is_held(node_lock(tmp_path))
            time.sleep(0.01)
    finally:
        looking.kill()
        looking.wait()


def test_a_lock_that_is_held_for_long_is_still_somebodys(tmp_path: Path) -> None:
    with hold_lock(node_lock(tmp_path)), pytest.raises(UsageError, match="in use by node"), hold_folder(tmp_path):
        pass
    assert not is_held(node_lock(tmp_path))
    assert not is_held(tmp_path / "nothing")
    (tmp_path / "link").symlink_to(node_lock(tmp_path))
    assert not is_held(tmp_path / "link")


@pytest.mark.parametrize(
    ("listened", "told", "found"),
    [
        (["/ip4/127.0.0.1/tcp/0"], ["/ip4/127.0.0.1/tcp/5000"], ["/ip4/127.0.0.1/tcp/5000"]),
        (
            ["/ip4/0.0.0.0/tcp/4001"],
            ["/ip4/203.0.113.7/tcp/9001"],
            ["/ip4/127.0.0.1/tcp/4001", "/ip4/127.0.0.1/tcp/9001", "/ip4/203.0.113.7/tcp/9001"],
        ),
        (
            ["/ip4/192.168.1.20/tcp/4101"],
            ["/ip4/192.168.1.20/tcp/4101"],
            ["/ip4/127.0.0.1/tcp/4101", "/ip4/192.168.1.20/tcp/4101"],
        ),
        (["/ip6/::/tcp/4001"], ["/ip6/2001:db8::1/tcp/4001"], ["/ip6/::1/tcp/4001", "/ip6/2001:db8::1/tcp/4001"]),
        ([], ["/memory"], ["/memory"]),
    ],
)
def test_loopback_comes_first_whatever_others_are_told(listened: list[str], told: list[str], found: list[str]) -> None:
    suffix = f"/p2p/{NAME}"
    assert from_here(listened, [address + suffix for address in told], NAME) == [one + suffix for one in found]


def test_many_interfaces_do_not_make_the_file_long() -> None:
    assert len(from_here([], [f"/ip4/10.0.0.1/tcp/{port}" for port in range(1, 100)], NAME)) == MAX_HERE


async def test_a_mount_that_hangs_holds_up_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has one thread, however often we look, and its node is found once it answers again."""
    answers, reads = threading.Event(), list[Path]()

    def read(path: Path, limit: int) -> bytes:
        reads.append(path.parent)
        if path.parent.name == "far" and not answers.is_set():
            answers.wait()
        return read_small(path, limit)

    monkeypatch.setattr("p2pinfer.disk.whereabouts.read_small", read)
    monkeypatch.setattr("p2pinfer.disk.whereabouts.LOOK_S", 0.2)
    with hold_folder(tmp_path / "far"), hold_folder(tmp_path / "near"):
        tell(tmp_path / "far", [PLACE])
        tell(tmp_path / "near", [OTHER])
        here = NodesHere([tmp_path / "far", tmp_path / "near"])
        try:
            assert [await here.find() for _ in range(3)] == [[OTHER]] * 3
            assert reads.count(tmp_path / "far") == 1
            with trio.move_on_after(0.01) as scope:
                await NodesHere([tmp_path / "far"]).find()
            assert scope.cancelled_caught
        finally:
            answers.set()
        while len(found := await here.find()) < 2:  # noqa: ASYNC110 - a thread tells no event
            await trio.sleep(0.01)
        assert found == [PLACE, OTHER]


class Hanging:
    """A step on a disk that does not answer. reads: how often it was begun"""

    def __init__(self) -> None:
        self.reads = 0
        self.answers = threading.Event()

    def __call__(self, *_: object) -> list[Path]:
        self.reads += 1
        self.answers.wait()
        return []


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    hanging = Hanging()
    yield hanging
    hanging.answers.set()


async def test_a_roll_that_hangs_has_one_thread_of_a_node_however_often_it_is_looked_at(
    hanging: Hanging, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full roll is looked through before anything is written, be one of its nodes on a mount that hangs."""
    monkeypatch.setattr("p2pinfer.node.whereabouts.enter", hanging)
    monkeypatch.setattr("p2pinfer.node.whereabouts.ENTER_S", 0.05)
    monkeypatch.setattr("p2pinfer.node.whereabouts.LOOK_S", 0.05)
    monkeypatch.setattr("p2pinfer.node.whereabouts.leave", lambda _data: None)
    async with open_memory_network(MemoryWorld(), NODES[0].public, Exchange(None)) as network:  # type: ignore[arg-type]
        with trio.move_on_after(0.5):
            await keep_whereabouts(tmp_path, network, [], True)
    assert hanging.reads == 1


async def test_a_roll_that_hangs_has_one_thread_of_who_looks_for_nodes(
    hanging: Hanging, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2pinfer.disk.whereabouts.entered", hanging)
    monkeypatch.setattr("p2pinfer.disk.whereabouts.LOOK_S", 0.1)
    here = NodesHere([tmp_path], True)
    assert [await here.find() for _ in range(5)] == [[]] * 5
    assert hanging.reads == 1
