"""What the fake of a journal does by itself; what it does as one in a file is in `test_journal.py`."""

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from p2pinfer.core.values.errors import JournalError
from p2pinfer.disk.journal import Journal
from p2pinfer.disk.journal_reader import JournalReader
from p2pinfer.disk.memory_journal import MemoryDisk

from .test_journal import SESSION, solo

PATH = Path("of a node")


async def contracts(journal: Journal) -> int:
    return len(await journal.read(lambda reader: reader.unfinished(0)))


async def test_what_was_committed_is_there_when_it_is_opened_again(autojump_clock: MockClock) -> None:
    disk, contract = MemoryDisk(), solo().contracts[0]
    async with disk.open_journal(PATH) as journal:
        await journal.agree(contract, SESSION)
    async with disk.open_journal(PATH) as journal, disk.open_journal(Path("of another")) as other:
        assert [await contracts(journal), await contracts(other)] == [1, 0]


async def test_a_full_disk_takes_nothing_until_it_has_room(autojump_clock: MockClock) -> None:
    disk, contract = MemoryDisk(), solo().contracts[0]
    async with disk.open_journal(PATH) as journal:
        disk.full = True
        with pytest.raises(JournalError, match="not stored: the disk is full"):
            await journal.agree(contract, SESSION)
        assert journal.failing
        disk.full = False
        await journal.agree(contract, SESSION)
        assert not journal.failing
        assert await contracts(journal) == 1


async def test_a_slow_disk_is_waited_for_and_what_waits_shares_the_next_commit(autojump_clock: MockClock) -> None:
    disk = MemoryDisk(commit_s=2.0)
    async with disk.open_journal(PATH) as journal, trio.open_nursery() as nursery:
        nursery.start_soon(journal.drop, SESSION)
        await trio.sleep(1)
        for _ in range(5):
            nursery.start_soon(journal.drop, SESSION)
        assert await journal.read(JournalReader.newest) is None  # nobody who reads waits for it
        await journal.drop(SESSION)
        assert trio.current_time() == 4
