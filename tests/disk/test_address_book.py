"""The address book is kept, shared, bounded, and in nobody's way when it is damaged or cannot be written."""

import errno
import json
import os
from pathlib import Path

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from p2pinfer.core.swarm.acquaintances import FORGET_S, MAX_PEERS, Acquaintance
from p2pinfer.core.values.keys import peer_name
from p2pinfer.core.values.units import PeerKey
from p2pinfer.disk.address_book import DOUBT_S, AddressBook
from p2pinfer.disk.shared_file import MAX_FILE
from tests.core.paid_route import NODES, key

ONE, OTHER = (PeerKey(node.public) for node in NODES[:2])
PLACE = "/ip4/203.0.113.7/tcp/4001/p2p/x"
NOW = 1_800_000_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "peers.json"


def load(book: AddressBook, now: int = NOW) -> None:
    trio.run(book.load, now)


def save(book: AddressBook, now: int = NOW) -> None:
    trio.run(book.save, now)


def filled(path: Path) -> AddressBook:
    book = AddressBook(path)
    book.note_link(ONE, "203.0.113.7", PLACE, NOW)
    save(book)
    return book


def read(path: Path, now: int = NOW) -> list[Acquaintance]:
    book = AddressBook(path)
    load(book, now)
    return book.to_dial(now)


def test_who_was_met_is_there_after_a_restart(path: Path) -> None:
    filled(path)
    [one] = read(path)
    assert (one.peer, one.places[0].address, one.linked) == (ONE, PLACE, NOW)
    assert path.stat().st_mode & 0o777 == 0o600


def test_without_a_file_nobody_is_known_and_nothing_is_written_where_nobody_was_met(path: Path) -> None:
    book = AddressBook(path)
    save(book)
    assert (read(path), book.to_dial(NOW), path.exists()) == ([], [], False)


def test_two_processes_of_one_folder_lose_nothing_of_each_other(path: Path) -> None:
    first, second = AddressBook(path), AddressBook(path)
    first.note_link(ONE, "", PLACE, NOW)
    second.note_link(OTHER, "", PLACE, NOW)
    save(first)
    save(second)
    assert {one.peer for one in read(path)} == {ONE, OTHER}


def test_what_is_no_news_is_not_written_again(path: Path) -> None:
    book = filled(path)
    path.unlink()
    book.note_link(ONE, "203.0.113.7", PLACE, NOW + 9)
    book.note_told(ONE, [], NOW + 9)
    save(book, NOW + 9)
    assert not path.exists()
    book.note_failed(ONE, NOW + 10)
    save(book, NOW + 10)
    [one] = read(path, NOW + 10)
    assert one.is_away
    book.note_served(ONE, NOW + 11)
    save(book, NOW + 11)
    [one] = read(path, NOW + 11)
    assert one.served == NOW + 11


def test_of_strangers_that_were_never_linked_nothing_is_noted(path: Path) -> None:
    book = AddressBook(path)
    book.note_told(ONE, [PLACE], NOW)
    book.note_failed(ONE, NOW)
    book.note_served(ONE, NOW)
    assert book.to_dial(NOW) == []


def test_a_flood_of_peers_is_bounded_in_memory_and_on_the_disk(path: Path) -> None:
    book = filled(path)
    for number in range(5 * MAX_PEERS):
        book.note_link(PeerKey(number.to_bytes(32)), f"10.0.{number >> 8}.{number & 255}", None, NOW)
        book.note_told(PeerKey(number.to_bytes(32)), [f"/ip4/203.0.113.9/tcp/{port}/p2p/x" for port in range(9)], NOW)
        assert len(book.to_dial(NOW)) <= 2 * MAX_PEERS + 1
    save(book)
    assert len(json.loads(path.read_bytes())["peers"]) <= MAX_PEERS
    assert path.stat().st_size < MAX_FILE / 2


NAME = peer_name(ONE)
TIMES = {"met": 1, "linked": 2, "failed": 0, "served": 0}
GOOD = {"peer": NAME, "network": "", "addresses": {PLACE: [1, 0]}, **TIMES}


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff\xfe",
        b"nonsense",
        b"[" * 100_000,
        b"1" * 10_000,
        b"[]",
        b"{}",
        *(
            json.dumps({"peers": [{**GOOD, **wrong}]}).encode()
            for wrong in (
                {"peer": "x"},
                {"peer": 5},
                {"network": None},
                {"network": "n" * 100},
                {"addresses": [PLACE]},
                {"addresses": {PLACE: 1}},
                {"addresses": {PLACE: [1]}},
                {"addresses": {PLACE: [-1, 0]}},
                {"addresses": {PLACE: [0, 1.5]}},
                {"addresses": {"x" * 1000: [1, 0]}},
                {"addresses": {str(number): [1, 0] for number in range(9)}},
                {"linked": "yesterday"},
                {"met": True},
            )
        ),
        json.dumps({"peers": [[]]}).encode(),
    ],
)
def test_a_damaged_book_is_put_aside_and_a_new_one_begun(
    path: Path, text: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_bytes(text)
    book = AddressBook(path)
    load(book)
    assert f"{path} is damaged" in caplog.text
    assert "put aside as peers.json.damaged" in caplog.text
    assert (path.parent / "peers.json.damaged").read_bytes() == text
    book.note_link(ONE, "", PLACE, NOW)
    save(book)
    assert [one.peer for one in read(path)] == [ONE]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200) | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_no_bytes_stop_anything(path: Path, data: bytes | str) -> None:
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    load(AddressBook(path))


def linked_in(path: Path) -> set[int]:
    return {one["linked"] for one in json.loads(path.read_text())["peers"]}


async def test_a_clock_that_was_ahead_makes_nobody_the_latest_for_ever(path: Path, autojump_clock: MockClock) -> None:
    book = AddressBook(path)
    book.note_link(ONE, "203.0.113.7", PLACE, NOW)
    await book.save(NOW)
    book, before = AddressBook(path), NOW - 1_000
    await book.load(before)
    await trio.sleep(DOUBT_S)
    book.note_link(OTHER, "203.0.113.8", PLACE, before)
    await book.save(before)
    assert {one.linked for one in book.to_dial(before)} == {before}
    assert linked_in(path) == {before}


async def test_a_clock_that_begins_in_1970_makes_nobody_forgotten(path: Path, autojump_clock: MockClock) -> None:
    book = AddressBook(path)
    book.note_link(ONE, "203.0.113.7", PLACE, NOW)
    await book.save(NOW)
    book = AddressBook(path)
    book.note_link(OTHER, "203.0.113.8", PLACE, 1_000)
    await book.save(1_000)
    assert linked_in(path) == {NOW}
    book.note_link(OTHER, "203.0.113.8", PLACE, NOW + 1)
    await book.save(NOW + 1)
    assert linked_in(path) == {NOW, NOW + 1}


DAY_S = 86_400


def peer(number: int) -> PeerKey:
    return key(f"peer {number}").public


async def old_book(path: Path) -> None:
    """One a day was met, the first 19 days before the last."""
    book = AddressBook(path)
    for number in range(20):
        book.note_link(peer(number), f"203.0.113.{number}", PLACE, NOW - (19 - number) * DAY_S)
    await book.save(NOW)


async def test_a_clock_that_is_months_ahead_makes_nobody_forgotten(path: Path, autojump_clock: MockClock) -> None:
    """Whether it is wrong, or the machine was off, nobody can tell; links come up with a wrong one, too."""
    await old_book(path)
    late = NOW + 10 * FORGET_S
    for start in range(3):
        book = AddressBook(path)
        await book.load(late)
        for number in range(3):
            book.note_link(peer(100 + start), "203.0.113.99", PLACE, late + 60 * number)
            book.note_failed(peer(5), late + 60 * number)
            await book.save(late + 60 * number)
    assert len(read_peers(path)) == 23
    book = AddressBook(path)
    await book.load(NOW)  # and now it is right
    await trio.sleep(DOUBT_S)
    book.note_link(ONE, "203.0.113.98", PLACE, NOW + 3_600)
    await book.save(NOW + 3_600)
    assert len(read_peers(path)) == 24


async def test_a_clock_that_jumps_while_we_run_makes_nobody_forgotten(path: Path, autojump_clock: MockClock) -> None:
    await old_book(path)
    book = AddressBook(path)
    await book.load(NOW)
    for number in range(2 * MAX_PEERS):  # there may be no room for all, and no look at the file before some are left
        book.note_link(peer(1_000 + number), f"2001:db8:{number:x}::/64", None, NOW + 10 * FORGET_S)
    await book.save(NOW + 10 * FORGET_S)
    assert {peer_name(peer(number)) for number in range(20)} <= read_peers(path)


async def test_who_is_not_met_while_others_are_is_forgotten_in_the_end(path: Path, autojump_clock: MockClock) -> None:
    """Those who were met first go first, though the machine was off for long."""
    await old_book(path)
    late = NOW + FORGET_S
    for day in range(FORGET_S // DAY_S - 10):
        book = AddressBook(path)
        book.note_link(ONE, "203.0.113.99", PLACE, late + day * DAY_S)
        await book.save(late + day * DAY_S)
    left = read_peers(path)
    assert peer_name(peer(0)) not in left
    assert {peer_name(peer(19)), peer_name(ONE)} <= left


def read_peers(path: Path) -> set[str]:
    return {one["peer"] for one in json.loads(path.read_text())["peers"]}


@pytest.mark.parametrize("kind", ["pipe", "folder", "giant"])
def test_what_is_no_file_of_ours_is_left_alone(path: Path, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_bytes(b" " * (MAX_FILE + 1))
    before = path.stat()
    book = AddressBook(path)
    book.note_link(ONE, "", PLACE, NOW)
    save(book)
    assert "cannot be read, and is left as it is" in caplog.text
    now = path.stat()  # without the time of the last look, which reading moves on
    assert (now.st_ino, now.st_mode, now.st_mtime_ns) == (before.st_ino, before.st_mode, before.st_mtime_ns)
    assert [one.peer for one in book.to_dial(NOW)] == [ONE]


def test_a_disk_that_takes_nothing_is_told_once_and_tried_again(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_words: object) -> None:
        raise OSError(28, os.strerror(28))

    book = AddressBook(path)
    book.note_link(ONE, "", PLACE, NOW)
    with monkeypatch.context() as broken:
        broken.setattr("p2pinfer.disk.shared_file.write_atomic", full)
        save(book)
        save(book)
    assert caplog.messages == [f"the address book {path} cannot be written: No space left on device"]
    save(book)
    assert [one.peer for one in read(path)] == [ONE]


def test_after_a_moment_without_free_files_the_book_is_written_again(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A node full of links may have none left; what was noted meanwhile is no less worth."""

    def short(*_words: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    book = filled(path)
    book.note_link(OTHER, "203.0.113.8", PLACE, NOW)
    with monkeypatch.context() as broken:
        broken.setattr("p2pinfer.disk.shared_file.read_small", short)
        save(book)
        assert not trio.run(book.load, NOW)  # whoever needs it tries again
    assert caplog.messages == [f"the address book {path} cannot be read, and is left as it is: Too many open files"]
    assert [one.peer for one in read(path)] == [ONE]
    save(book)
    assert {one.peer for one in read(path)} == {ONE, OTHER}
