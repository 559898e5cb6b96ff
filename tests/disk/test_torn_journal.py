"""A journal that was damaged: all that it held, or a sentence; never less in silence, and never a traceback."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from p2pinfer.core.money.ledger import Earned
from p2pinfer.core.values.errors import JournalError, P2pinferError, UsageError
from p2pinfer.core.values.units import SessionId
from p2pinfer.disk.backup import back_up
from p2pinfer.disk.journal import Journal, open_journal
from p2pinfer.disk.journal_reader import read_journal
from p2pinfer.disk.tally import read_tally, tally_of
from tests.cli.books import CERTIFICATE, paid

PAID = [paid(number) for number in range(12)]


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders: one whose journal was closed as it should be, and one as a crash leaves it."""
    folder = tmp_path_factory.mktemp("journals")
    (folder / "closed").mkdir()
    trio.run(fill, folder / "closed" / "j", folder / "crashed")
    return folder


async def fill(path: Path, crashed: Path) -> None:
    async with open_journal(path) as journal:
        await journal.certify(CERTIFICATE)
        for number, entry in enumerate(PAID):
            await journal.agree(entry.contract, SessionId(bytes([number]) * 16))
            await journal.complete(entry.receipt)
        shutil.copytree(path.parent, crashed)


def whole(path: Path) -> list[Earned]:
    with read_journal(path) as reader:
        reader.certificates(), reader.pending(), reader.totals(), reader.last_statement()
        return reader.earned()


async def opened(path: Path) -> None:
    async with open_journal(path):
        pass


def open_to_write(path: Path) -> list[Earned]:
    trio.run(opened, path)
    return whole(path)


def flipped(data: bytearray, rng: random.Random) -> bytearray:
    for _ in range(rng.choice([1, 1, 8])):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return data


def cut(data: bytearray, rng: random.Random) -> bytearray:
    return data[: rng.randrange(len(data))]


def overwritten(data: bytearray, rng: random.Random) -> bytearray:
    start, size = rng.randrange(len(data)), rng.choice([64, 512, 4096])
    piece = data[start : start + size]
    data[start : start + size] = rng.choice([bytes(len(piece)), rng.randbytes(len(piece))])
    return data


@pytest.mark.parametrize("way", [whole, open_to_write], ids=lambda way: way.__name__)
@pytest.mark.parametrize("damage", [flipped, cut, overwritten], ids=lambda damage: damage.__name__)
def test_a_damaged_journal_is_whole_or_refused(
    closed: Path,
    tmp_path: Path,
    damage: Callable[[bytearray, random.Random], bytearray],
    way: Callable[[Path], list[Earned]],
) -> None:
    expected, refused = whole(closed / "closed" / "j"), 0
    assert len(expected) == len(PAID)
    for seed in range(60):
        rng = random.Random(seed)
        folder = tmp_path / str(seed)
        shutil.copytree(closed / rng.choice(["closed", "crashed"]), folder)
        files = sorted(path for path in folder.iterdir() if path.name in ("j", "j-wal") and path.stat().st_size)
        path = rng.choice(files)
        path.write_bytes(damage(bytearray(path.read_bytes()), rng))
        try:
            assert way(folder / "j") == expected
        except P2pinferError as error:
            refused += 1
            assert str(folder / "j") in str(error)
    assert refused > 10


@pytest.mark.parametrize("way", [whole, open_to_write], ids=lambda way: way.__name__)
@pytest.mark.parametrize(("state", "lost"), [("closed", "j"), ("crashed", "j"), ("crashed", "j-wal")])
def test_a_journal_of_which_a_file_is_lost_is_refused(
    closed: Path, tmp_path: Path, state: str, way: Callable[[Path], list[Earned]], lost: str
) -> None:
    shutil.copytree(closed / state, tmp_path / "data")
    (tmp_path / "data" / lost).unlink()
    with pytest.raises(JournalError, match=r"is damaged: .* move j\* away, and put a copy made with"):
        way(tmp_path / "data" / "j")


def test_an_older_copy_is_noticed_and_may_be_gone_on_with(closed: Path, tmp_path: Path) -> None:
    shutil.copytree(closed / "closed", tmp_path / "data")
    journal = tmp_path / "data" / "j"
    back_up(journal, tmp_path / "copy")
    trio.run(complete_more, journal)
    shutil.copy(tmp_path / "copy", journal)
    with pytest.raises(JournalError, match=r"the last 2 of 27 commits are missing, .* \(.* remove j-tally\)"):
        whole(journal)
    tally_of(journal).unlink()
    assert whole(journal) == whole(closed / "closed" / "j")


async def complete_more(path: Path) -> None:
    async with open_journal(path) as journal:
        await agree_and_complete(journal, 50)


async def agree_and_complete(journal: Journal, number: int) -> None:
    entry = paid(number)
    await journal.agree(entry.contract, SessionId(bytes([number]) * 16))
    await journal.complete(entry.receipt)


@pytest.mark.parametrize("text", [b"", b"\0" * 42, b"99999999999999999999", b"7", b"1 2", b"\xff" * 42], ids=ascii)
def test_a_torn_tally_says_nothing(closed: Path, tmp_path: Path, text: bytes) -> None:
    """Its number stands there twice; a journal is not refused for what a power cut did to the note of it."""
    shutil.copytree(closed / "closed", tmp_path / "data")
    tally_of(tmp_path / "data" / "j").write_bytes(text)
    assert read_tally(tmp_path / "data" / "j") == 0
    assert open_to_write(tmp_path / "data" / "j") == whole(closed / "closed" / "j")


def test_a_tally_is_written_with_each_commit(closed: Path) -> None:
    assert read_tally(closed / "closed" / "j") == 1 + 2 * len(PAID)
    assert tally_of(closed / "closed" / "j").stat().st_mode & 0o777 == 0o600


# Backups


async def test_a_journal_in_use_is_copied(tmp_path: Path) -> None:
    async with open_journal(tmp_path / "j") as journal:
        for number in range(3):
            await agree_and_complete(journal, number)
        copied = back_up(tmp_path / "j", tmp_path / "copy")
        await agree_and_complete(journal, 3)
    assert (copied.receipts, copied.amount) == (3, sum(paid(n).receipt.record.amount for n in range(3)))
    assert [len(whole(tmp_path / name)) for name in ("copy", "j")] == [3, 4]


def test_a_copy_is_one_file_and_its_owners_alone(closed: Path, tmp_path: Path) -> None:
    back_up(closed / "crashed" / "j", tmp_path / "copy")
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]
    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o600
    assert len(whole(tmp_path / "copy")) == len(PAID)


def test_a_copy_replaces_nothing_unless_it_is_told_to(closed: Path, tmp_path: Path) -> None:
    back_up(closed / "closed" / "j", tmp_path / "copy")
    before = (tmp_path / "copy").stat().st_ino
    with pytest.raises(UsageError, match="exists: choose another name, or replace it with --force"):
        back_up(closed / "closed" / "j", tmp_path / "copy")
    assert (tmp_path / "copy").stat().st_ino == before
    back_up(closed / "closed" / "j", tmp_path / "copy", replace=True)
    assert (tmp_path / "copy").stat().st_ino != before
    assert len(whole(tmp_path / "copy")) == len(PAID)


@pytest.mark.parametrize(
    ("name", "reason"), [("no/copy", "there is no folder"), (".", "is a folder"), ("\udcff/x", "there is no folder")]
)
def test_a_name_that_cannot_be_written_is_told(closed: Path, tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        back_up(closed / "closed" / "j", tmp_path / name)


def test_a_damaged_journal_is_not_copied(closed: Path, tmp_path: Path) -> None:
    shutil.copytree(closed / "closed", tmp_path / "data")
    with (tmp_path / "data" / "j").open("r+b") as file:
        file.truncate(8192)
    with pytest.raises(JournalError, match="is damaged"):
        back_up(tmp_path / "data" / "j", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
