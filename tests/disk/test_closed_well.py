"""A journal is read through where it was not closed well, and only there: kills, copies, and others that write."""

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import trio

from p2pinfer.cli import journal_bar as checking
from p2pinfer.cli.journal_bar import CheckBar
from p2pinfer.core.values.errors import JournalError
from p2pinfer.disk import journal_file
from p2pinfer.disk.backup import back_up
from p2pinfer.disk.journal import open_journal
from p2pinfer.disk.journal_check import Progress, no_progress
from p2pinfer.disk.journal_file import prove_journal
from p2pinfer.disk.journal_reader import JournalReader, read_journal
from p2pinfer.disk.journal_tables import TOTAL, row_digest
from tests.cli.books import CERTIFICATE, paid, store

PAID = [paid(number) for number in range(4)]

ENDLESS = """
import sys, trio
from pathlib import Path
from p2pinfer.disk.journal import open_journal
from tests.cli.books import paid, store
async def main():
    async with open_journal(Path(sys.argv[1])) as journal:
        for number in range(int(sys.argv[2]), 10**6):
            await store(journal, paid(number))
            print(number, flush=True)
            if len(sys.argv) > 3:
                await trio.sleep_forever()
trio.run(main)
"""
IDLE = """
import sys, trio
from pathlib import Path
from p2pinfer.disk.journal import open_journal
async def main():
    async with open_journal(Path(sys.argv[1])):
        print(0, flush=True)
        await trio.sleep_forever()
trio.run(main)
"""


@pytest.fixture
def proven(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The journals that were read through, in turn."""
    found, prove = [], journal_file.prove

    def noted(connection: sqlite3.Connection, path: Path, progress: Progress = no_progress) -> None:
        found.append(path)
        prove(connection, path, progress)

    monkeypatch.setattr(journal_file, "prove", noted)
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    trio.run(fill, tmp_path / "data" / "j")
    return tmp_path / "data" / "j"


async def fill(path: Path) -> None:
    async with open_journal(path) as journal:
        await journal.certify(CERTIFICATE)
        for entry in PAID:
            await store(journal, entry)


def read(path: Path) -> int:
    with read_journal(path) as reader:
        return len(reader.earned())


async def opened(path: Path) -> None:
    async with open_journal(path):
        pass


def open_to_write(path: Path) -> None:
    trio.run(opened, path)


def killed(path: Path, program: str, *words: str, after_s: float = 0.0) -> int:
    """Kill a process that writes to the journal; the last number that it said."""
    words = (sys.executable, "-c", program, str(path), *words)
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        first = writer.stdout.readline()
        time.sleep(after_s)
        writer.send_signal(signal.SIGKILL)
        return int([first, *(line for line in writer.stdout if line.endswith("\n"))][-1])


WAYS = pytest.mark.parametrize("way", [read, open_to_write], ids=lambda way: way.__name__)


@WAYS
def test_what_was_closed_well_is_not_read_through(
    path: Path, proven: list[Path], way: Callable[[Path], object]
) -> None:
    for _ in range(3):
        way(path)
    assert proven == []


@WAYS
def test_what_a_kill_left_is_read_through_once(
    path: Path, proven: list[Path], way: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    killed(path, ENDLESS, "100", "one")
    way(path)
    assert proven == [path]
    assert [record.getMessage() for record in caplog.records] == [
        f"the journal {path} was not closed well, or is a copy: all of it is read, to see if it is whole"
    ]
    way(path)
    assert proven == [path]
    assert read(path) == len(PAID) + 1


def test_who_was_killed_before_it_wrote_anything_left_it_as_it_was(path: Path, proven: list[Path]) -> None:
    killed(path, IDLE)
    assert read(path) == len(PAID)
    assert proven == []


def test_whenever_a_writer_is_killed_its_sums_are_those_of_its_receipts(path: Path, proven: list[Path]) -> None:
    rng = random.Random(6)
    said = 99
    for _ in range(3):
        said = killed(path, ENDLESS, str(said + 1_000), after_s=rng.uniform(0, 0.1))
        with read_journal(path) as reader:
            ids = {one.contract.id for one in reader.earned()}
            assert sum(part.receipts for part in reader.totals()) == len(ids)
        assert paid(said).contract.id in ids
    assert len(proven) == 3


async def test_who_reads_while_a_node_writes_trusts_it(path: Path, proven: list[Path]) -> None:
    async with open_journal(path) as journal:
        await store(journal, paid(10))
        assert read(path) == len(PAID) + 1
        async with open_journal(path) as another:
            await store(another, paid(11))
        await store(journal, paid(12))
    assert read(path) == len(PAID) + 3
    assert proven == []


async def test_a_reader_that_outlives_the_writer_costs_one_more_look(path: Path, proven: list[Path]) -> None:
    async with open_journal(path) as journal:
        await store(journal, paid(10))
        reader = journal_file.connect_reader(path)
        reader.execute("SELECT * FROM seal").fetchall()
    reader.close()
    assert [read(path), read(path)] == [len(PAID) + 1] * 2
    assert len(proven) <= 1


@WAYS
def test_a_copy_is_read_through_once(
    path: Path, tmp_path: Path, proven: list[Path], way: Callable[[Path], object]
) -> None:
    shutil.copytree(path.parent, tmp_path / "copied", copy_function=shutil.copyfile)
    back_up(path, tmp_path / "restored")
    for copy in (tmp_path / "copied" / "j", tmp_path / "restored"):
        proven.clear()
        way(copy)
        way(copy)
        assert proven == [copy]


def changed_behind_its_back(path: Path, *changes: str) -> None:
    """Changes that a close well would not tell from what it left: as a disk that spoils what it keeps."""
    before = path.stat()
    with closing(sqlite3.connect(path)) as db:
        db.create_function("digest_of", -1, lambda *values: row_digest(values))
        for change in changes:
            assert db.execute(change).rowcount
        db.commit()
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size


FEWER = "UPDATE total SET positions = positions - 1"
SEAL = f"UPDATE total SET digest = digest_of({TOTAL.rpartition(',')[0]})"


def test_sums_that_are_not_those_of_the_rows_are_found_by_whoever_reads_all(path: Path, proven: list[Path]) -> None:
    changed_behind_its_back(path, FEWER, SEAL)
    assert read(path) == len(PAID)
    assert proven == []
    with pytest.raises(JournalError, match="is damaged: its totals are not those of its rows; move"):
        prove_journal(path)
    with pytest.raises(JournalError, match="is damaged: its totals are not those of its rows; move"):
        back_up(path, path.with_name("copy"))


@pytest.mark.parametrize(
    ("changes", "query", "why"),
    [
        ([FEWER], JournalReader.totals, "a row is not what was written"),
        (["DELETE FROM receipt WHERE seq = 1"], JournalReader.totals, "it has 4 of 0 rows of receipts"),
        (["DELETE FROM receipt WHERE seq = 1"], JournalReader.earned, "0 of 4 rows of receipts are found"),
        (["UPDATE seal SET certificate = 2"], JournalReader.certificates, "it has 1 of 2 rows of certificates"),
        (["UPDATE seal SET statement = 2"], JournalReader.last_statement, "it has 0 of 2 rows of statements"),
    ],
)
def test_what_is_lost_though_it_was_closed_well_is_missed_where_it_is_read(
    path: Path, proven: list[Path], changes: list[str], query: Callable[[JournalReader], object], why: str
) -> None:
    changed_behind_its_back(path, *changes)
    with read_journal(path) as reader, pytest.raises(JournalError, match=f"is damaged: {why}"):
        query(reader)
    assert proven == []
    with pytest.raises(JournalError, match="is damaged"):
        prove_journal(path)


def test_a_bar_is_shown_where_it_takes_long_and_is_gone_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = CheckBar()
    for done in (0, 5, 10):
        quick(done, 10)
    assert quick._bars is None
    monkeypatch.setattr(checking, "SLOW_S", 0.0)
    slow = CheckBar()
    slow(0, 10)
    assert slow._bars is not None
    assert slow._bars.tasks[0].total == 10
    slow(1, 1)
    assert not slow._bars.live.is_started


def test_a_proof_tells_how_far_it_is_and_that_it_is_over(path: Path, tmp_path: Path) -> None:
    shutil.copyfile(path, tmp_path / "copy")
    told: list[tuple[int, int]] = []
    with read_journal(tmp_path / "copy", lambda done, total: told.append((done, total))):
        pass
    assert told[0] == (0, 2 * len(PAID) + 1)
    assert told[-1] == (1, 1)
    assert all(done < total for done, total in told[:-1])
