"""The nodes that a user runs on this machine, known to the user's programs and to nobody else."""

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import trio

from p2pinfer.core.values.keys import peer_name
from p2pinfer.disk import roll as roll_file
from p2pinfer.disk.data_folder import hold_folder
from p2pinfer.disk.places import runtime_folders
from p2pinfer.disk.roll import enter, entered, leave
from p2pinfer.disk.whereabouts import MAX_NODES, NodesHere, tell
from tests.core.paid_route import NODES

NAME = peer_name(NODES[0].public)


@contextmanager
def running(data: Path, port: int = 4001) -> Iterator[str]:
    """A node that runs on a folder and is on the roll; its address."""
    address = f"/ip4/127.0.0.1/tcp/{port}/p2p/{NAME}"
    with hold_folder(data):
        tell(data, [address])
        assert enter(data) == ""
        yield address


def nodes_here(folders: Iterable[Path], on_roll: bool = False) -> list[str]:
    return trio.run(NodesHere(folders, on_roll).find)


def entries(roll: Path) -> list[Path]:
    return sorted(roll.glob("p2pinfer/*.node"))


def test_a_node_is_found_without_its_folder_while_it_runs(roll: Path, tmp_path: Path) -> None:
    assert entered() == []
    with running(tmp_path / "one") as one, running(tmp_path / "other", 4002) as other:
        (entry,) = [entry for entry in entries(roll) if str(tmp_path / "one") in entry.read_text()]
        os.utime(entry, (1, 1))  # long before the other
        assert entered() == [tmp_path / "other", tmp_path / "one"]
        assert nodes_here([tmp_path / "one"], True) == [one, other]
        assert nodes_here([], True) == [other, one]
        assert nodes_here([]) == []
        leave(tmp_path / "one")
        leave(tmp_path / "one")
        assert nodes_here([], True) == [other]
        assert enter(tmp_path / "one") == ""  # as a node does that finds its entry gone
        assert set(nodes_here([], True)) == {one, other}
    assert nodes_here([], True) == []


def test_the_roll_is_its_users_alone(roll: Path, tmp_path: Path) -> None:
    with running(tmp_path / "node"):
        (entry,) = entries(roll)
        assert (entry.parent.stat().st_mode & 0o777, entry.stat().st_mode & 0o777) == (0o700, 0o600)


def test_a_node_that_was_killed_is_removed_by_the_next_one(roll: Path, tmp_path: Path) -> None:
    with running(tmp_path / "killed"):
        pass
    assert (entered(), nodes_here([], True)) == ([tmp_path / "killed"], [])
    with running(tmp_path / "next"):
        assert entered() == [tmp_path / "next"]


@pytest.mark.parametrize(
    "make",
    [
        lambda entry: entry.write_bytes(b""),
        lambda entry: entry.write_bytes(b"node"),
        lambda entry: entry.write_bytes(b"/a\0b"),
        lambda entry: entry.write_bytes(b"/\xff\xfe"),
        lambda entry: entry.write_bytes(b"/" * 10_000),
        lambda entry: entry.symlink_to("/nothing"),
        os.mkfifo,
        Path.mkdir,
    ],
    ids=["empty", "relative", "zero", "no text", "giant", "a link to nothing", "a pipe", "a folder"],
)
def test_an_entry_that_names_no_node_is_in_nobodys_way(
    roll: Path, tmp_path: Path, make: Callable[[Path], object]
) -> None:
    with running(tmp_path / "one") as one:
        make(roll / "p2pinfer" / f"{'0' * 32}.node")
        assert nodes_here([], True) == [one]
        with running(tmp_path / "other", 4002):
            assert set(entered()) >= {tmp_path / "one", tmp_path / "other"}


def test_a_roll_that_is_full_takes_nobody_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(roll_file, "MAX_ENTRIES", 3)
    with ExitStack() as stack:
        for number in range(3):
            stack.enter_context(running(tmp_path / str(number)))
        with hold_folder(tmp_path / "late"):
            assert "too many" in enter(tmp_path / "late")
        assert len(entered()) == 3


def test_a_node_is_entered_though_anothers_folder_hangs(
    monkeypatch: pytest.MonkeyPatch, roll: Path, tmp_path: Path
) -> None:
    def hang(_path: Path) -> bool:
        raise TimeoutError

    with running(tmp_path / "far"):
        monkeypatch.setattr(roll_file, "is_held", hang)
        enter(tmp_path / "near")
        assert set(entered()) == {tmp_path / "near", tmp_path / "far"}


def test_who_looks_is_named_a_few_nodes(tmp_path: Path) -> None:
    with ExitStack() as stack:
        told = [stack.enter_context(running(tmp_path / str(port), port)) for port in range(1, MAX_NODES + 3)]
        named = nodes_here([tmp_path / "1"], True)
        assert (named[0], len(named)) == (told[0], MAX_NODES)


def test_the_sessions_folder_comes_before_the_systems(monkeypatch: pytest.MonkeyPatch, roll: Path) -> None:
    system = Path(f"/run/user/{os.geteuid()}")
    assert runtime_folders() == [roll, system]
    for said in ("", "run"):
        monkeypatch.setenv("XDG_RUNTIME_DIR", said)
        assert runtime_folders() == [system]


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch, roll: Path, tmp_path: Path) -> Path:
    """A temporary directory for all users, and no other place for the roll but the one that the tests have."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    folder.chmod(0o1777)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(roll_file, "runtime_folders", lambda: [roll])
    return folder


def test_where_the_sessions_folder_is_open_to_others_the_roll_is_in_the_temporary_directory(
    roll: Path, shared: Path, tmp_path: Path
) -> None:
    for spoil in (lambda: roll.chmod(0o750), roll.rmdir, lambda: roll.symlink_to(tmp_path)):
        spoil()
        with running(tmp_path / "node") as node:
            assert nodes_here([], True) == [node]
            assert [path.name for path in shared.iterdir()] == [f"p2pinfer-{os.geteuid()}"]
            assert (shared / f"p2pinfer-{os.geteuid()}").stat().st_mode & 0o777 == 0o700
            leave(tmp_path / "node")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda place: place.mkdir(0o755),
        lambda place: place.symlink_to(place.parent.parent),
        lambda place: place.write_bytes(b""),
        lambda place: place.parent.chmod(0o777),  # whoever likes renames what is ours there
    ],
    ids=["open to others", "a link", "a file", "a directory that keeps nobody's"],
)
def test_a_roll_that_somebody_else_may_have_made_is_neither_written_nor_read(
    roll: Path, shared: Path, tmp_path: Path, spoil: Callable[[Path], object]
) -> None:
    roll.rmdir()
    spoil(shared / f"p2pinfer-{os.geteuid()}")
    with hold_folder(tmp_path / "node"):
        assert enter(tmp_path / "node") != ""
        assert entered() == []
        leave(tmp_path / "node")
    assert list(tmp_path.rglob("*.node")) == []


def test_somebody_elses_folder_is_none_of_ours(monkeypatch: pytest.MonkeyPatch, roll: Path, shared: Path) -> None:
    with running(shared / "node"):
        assert len(entered()) == 1
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
        assert entered() == []


def test_where_no_folder_takes_a_file_there_is_no_roll(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise FileNotFoundError("no usable temporary directory")

    monkeypatch.setattr(roll_file, "runtime_folders", list)
    monkeypatch.setattr(tempfile, "gettempdir", none)
    assert "can be trusted" in enter(tmp_path)
    leave(tmp_path)
    assert entered() == []
