"""Journals in memory, for simulations: the same tables and queries, without a file, a thread or a disk to wait for.

`MemoryDisk.open_journal` stands in for `journal.open_journal`. What was committed is there when a journal is opened
again; a block that is cancelled as a killed process ends loses what was not.
"""

import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from math import inf
from pathlib import Path
from typing import TypeVar

import trio

from p2pinfer.core.values.errors import JournalError
from p2pinfer.disk.journal import Journal
from p2pinfer.disk.journal_changes import Awaited, commit
from p2pinfer.disk.journal_check import Progress, no_progress
from p2pinfer.disk.journal_reader import JournalReader
from p2pinfer.disk.journal_tables import create_tables, digest_in_sql

T = TypeVar("T")


class MemoryDisk:
    """Holds journals by their paths. commit_s: seconds that a commit takes. full: it takes nothing."""

    def __init__(self, *, commit_s: float = 0.0) -> None:
        self.commit_s = commit_s
        self.full = False
        self._files: dict[Path, bytes] = {}  # of journals that nobody has open
        self._connections: dict[Path, sqlite3.Connection] = {}  # of the others
        self._users: Counter[Path] = Counter()

    @asynccontextmanager
    async def open_journal(self, path: Path, progress: Progress = no_progress) -> AsyncIterator[Journal]:
        """The journal of that path, made when there is none. Many may have it open."""
        with self._connected(path) as connection:
            journal = _MemoryJournal(path, connection, self)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(journal.run)
                try:
                    yield journal
                finally:
                    journal.stop()

    @contextmanager
    def _connected(self, path: Path) -> Iterator[sqlite3.Connection]:
        if not self._users[path]:
            self._connections[path] = _connect(self._files.get(path))
        self._users[path] += 1
        try:
            yield self._connections[path]
        finally:
            self._users[path] -= 1
            if not self._users[path]:
                with closing(self._connections.pop(path)) as connection:
                    self._files[path] = connection.serialize()


class _MemoryJournal(Journal):
    """A journal on a `MemoryDisk`."""

    def __init__(self, path: Path, connection: sqlite3.Connection, disk: MemoryDisk) -> None:
        super().__init__(path, connection)
        self._connection = connection
        self._disk = disk
        self._put, self._batches = trio.open_memory_channel[list[Awaited]](inf)  # one, and the last

    async def read(self, query: Callable[[JournalReader], T]) -> T:
        await trio.lowlevel.checkpoint()
        return query(self._reader)

    def _begin(self, batch: list[Awaited]) -> None:
        self._put.send_nowait(batch)

    async def _commit_batches(self) -> None:
        while batch := await self._batches.receive():
            await trio.sleep(self._disk.commit_s)
            if self._disk.full:
                for store in batch:
                    store.error = JournalError("not stored: the disk is full")
            else:
                commit(self._connection, self.path, batch)
            self._written()


def _connect(file: bytes | None) -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    if file is not None:
        connection.deserialize(file)
    connection.execute("PRAGMA foreign_keys = ON")
    connection.create_function("row_digest", -1, digest_in_sql, deterministic=True)
    if file is None:
        create_tables(connection)
    return connection
