"""The journal: contracts and receipts of a node or a client, durable before they are sent (receipts.md, "Duties").

One thread writes for as long as the journal is open: to fetch one for each commit costs more than the commit. Records
that are stored in one pass of the scheduler, or wait while another batch commits, share a commit, since each one waits
for the disk. A store returns after its commit. Its caller's cancellation does not undo it. What a change does is in
`journal_changes.py`, queries are in `journal_reader.py`, and a journal without a disk is in `memory_journal.py`.
"""

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from pathlib import Path
from queue import SimpleQueue
from typing import Final, TypeVar

import trio

from p2pinfer.core.records.certificate import NodeCert
from p2pinfer.core.records.contract import Contract
from p2pinfer.core.records.delivered import Delivered
from p2pinfer.core.records.receipt import Receipt
from p2pinfer.core.records.records import SignedRecord
from p2pinfer.core.values.errors import JournalError
from p2pinfer.core.values.units import PeerKey, RecordId, SessionId
from p2pinfer.disk import journal_changes as changes
from p2pinfer.disk.address_book import DOUBT_S
from p2pinfer.disk.journal_changes import Awaited, Change, Keep
from p2pinfer.disk.journal_check import Progress, no_progress
from p2pinfer.disk.journal_file import connect_reader, connect_writer
from p2pinfer.disk.journal_reader import JournalReader
from p2pinfer.disk.tally import Tally, open_tally

MAX_BATCH: Final = 256  # changes in one commit
COMMIT_S: Final = 2.0  # so long its last commit is waited for by what is cut off

T = TypeVar("T")
OpenJournal = Callable[[Path, Progress], AbstractAsyncContextManager["Journal"]]  # as `open_journal`


@asynccontextmanager
async def open_journal(path: Path, progress: Progress = no_progress) -> AsyncIterator["FileJournal"]:
    """The journal at `path`, made when there is none.

    progress: told how far it is read, where it was not closed well; in a thread

    Raises JournalError for a file that is no journal, damaged, altered or of another version.
    """
    with closing(await trio.to_thread.run_sync(connect_writer, path, progress)) as writer:
        tally = open_tally(path)
        try:
            with closing(connect_reader(path, checked=True)) as reader:
                journal = FileJournal(path, writer, reader, tally)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(journal.run)
                    try:
                        yield journal
                    finally:
                        journal.stop()
        finally:
            writer.close()  # all of it is in its file then, and the tally says so
            tally.close()


class Journal(ABC):
    """Stores; each returns when it is durable, and raises JournalError where it cannot be.

    In a file (`open_journal`), or in memory (`memory_journal.py`): where it lies says how it is read and committed.
    """

    def __init__(self, path: Path, reader: sqlite3.Connection) -> None:
        self.path: Final = path
        self._reader = JournalReader(reader, path)
        self._waiting: list[Awaited] = []
        self._writing: list[Awaited] = []
        self._changed = trio.Event()
        self._stopped = False
        self._opened_s = trio.current_time()
        self.failing = False  # the last commit: the disk may be full

    @abstractmethod
    async def read(self, query: Callable[[JournalReader], T]) -> T:
        """Run a query. Raises JournalError where the journal turns out to be unsound."""

    @abstractmethod
    def _begin(self, batch: list[Awaited]) -> None:
        """Have `_commit_batches` commit it; an empty one is the last. Waits for nothing."""

    @abstractmethod
    async def _commit_batches(self) -> None:
        """Commit one batch after the other, each followed by `_written`, until an empty one comes."""

    async def certify(self, certificate: SignedRecord[NodeCert]) -> None:
        """Keep a certificate; contracts under it may have to be proven long after it was renewed."""
        row = (certificate.id, certificate.body, *certificate.signatures)
        await self._store(lambda db: changes.execute(db, "INSERT OR IGNORE INTO certificate VALUES (?, ?, ?)", row))

    async def agree(self, contract: SignedRecord[Contract], session: SessionId) -> None:
        """Store a contract that both signed.

        Raises RemoteProtocolError (BAD_STATE) where it has been stored before: a contract opens once.
        """
        await self.agree_all([contract], session)

    async def agree_all(self, contracts: Sequence[SignedRecord[Contract]], session: SessionId) -> None:
        """Store the contracts of a route, all or none. Raises as `agree` does."""

        def change(db: sqlite3.Connection) -> None:
            for contract in contracts:
                changes.agree(db, contract, session)

        await self._store(change)

    async def propose(self, receipt: SignedRecord[Receipt]) -> None:
        """Store a proposal of ours before it is sent.

        Raises LocalProtocolError for a second body under one number.
        """
        await self._store(lambda db: changes.propose(db, receipt))

    async def propose_first(
        self, receipt: SignedRecord[Receipt], contract: SignedRecord[Contract], session: SessionId
    ) -> None:
        """Store the first proposal under a contract and the contract: one that never became work leaves nothing.

        Raises as `agree` and `propose` do.
        """

        def change(db: sqlite3.Connection) -> None:
            changes.agree(db, contract, session)
            changes.propose(db, receipt)

        await self._store(change)

    async def prune(self, now: int) -> None:
        """Forget what nobody signed: the least beyond MAX_UNSIGNED contracts, and what expired UNSIGNED_S ago.

        now: Unix seconds, of a clock that may be wrong. It says nothing before DOUBT_S, and never goes beyond the
        newest contract, to whose time another clock agreed.
        """
        is_doubted = trio.current_time() < self._opened_s + DOUBT_S
        await self._store(lambda db: changes.prune(db, 0 if is_doubted else now))

    async def complete(self, *receipts: SignedRecord[Receipt], stored: bool = False) -> None:
        """Store receipts with both signatures, all or none; lower numbers of their contracts mean nothing from then on.

        stored: we are their node, and nobody has to be sent them

        Raises LocalProtocolError for a second body under one number.
        """

        def change(db: sqlite3.Connection) -> None:
            for receipt in receipts:
                changes.complete(db, receipt, stored)

        await self._store(change)

    async def acknowledge(self, contract: RecordId, seq: int) -> None:
        """The node said that it has the receipt: there is no need to send it again."""
        await self._store(lambda db: changes.acknowledge(db, contract, seq))

    async def keep_books(
        self,
        receipts: Collection[SignedRecord[Receipt]],
        acknowledged: Collection[SignedRecord[Receipt]],
        kept: Keep | None,
    ) -> None:
        """Store what a client signs, what its nodes have, and what it was given, all or none.

        Raises as `complete` does.
        """

        def change(db: sqlite3.Connection) -> None:
            if kept is not None:
                changes.keep(db, changes.row_of(kept))  # first, for what is paid in full by the receipts is forgotten
            for receipt in receipts:
                changes.complete(db, receipt, stored=False)
            for receipt in acknowledged:
                changes.acknowledge(db, receipt.record.contract, receipt.record.seq)

        await self._store(change)

    async def add_statement(self, number: int, id_: RecordId, created: int, before: int) -> None:
        """Remember a statement, so that the next one names it. before: number of the one that it names; 0 for none.

        Raises JournalError where another one came between.
        """
        await self._store(lambda db: changes.add_statement(db, number, id_, created, before))

    async def keep(self, session: SessionId, client: PeerKey, delivered: Delivered, now: int) -> None:
        """Keep what a client was given until it is paid for in full, or MAX_DELIVERED came later.

        now: Unix seconds, of a clock that may be wrong: it forgets nothing
        """
        row = changes.row_of(Keep(session, client, delivered, now))
        await self._store(lambda db: changes.keep(db, row))

    async def drop(self, session: SessionId) -> None:
        """Forget the ids of a session, all of which are paid for."""
        await self._store(lambda db: changes.execute(db, "DELETE FROM delivered WHERE session = ?", (session,)))

    async def run(self) -> None:
        """Commit what is stored, until `stop`; called by `open_journal` alone."""
        with trio.CancelScope(shield=True):  # commits are ours, and end by themselves
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._commit_batches)
                try:
                    while self._waiting or self._writing or not self._stopped:
                        await self._changed.wait()
                        self._changed = trio.Event()
                        self._write_next()
                finally:
                    self._begin([])
                    self._give_up()

    def stop(self) -> None:
        """Store nothing more; what waits is committed."""
        self._stopped = True
        self._changed.set()

    def _give_up(self) -> None:
        """After a fault of ours nothing is stored any more: nobody waits for it, shielded or not."""
        self._stopped = True
        for store in (*self._writing, *self._waiting):
            store.error = store.error or JournalError("not stored: the journal has ended")
            store.done.set()

    async def _store(self, change: Change) -> None:
        if self._stopped:
            raise JournalError("the journal is closed")
        self._waiting.append(store := Awaited(change))
        self._changed.set()
        await store.done.wait()
        if store.error is not None:
            raise store.error

    def _write_next(self) -> None:
        """Begin to commit what waits, unless a batch is under way."""
        if self._waiting and not self._writing:
            self._writing, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
            self._begin(self._writing)

    def _written(self) -> None:
        self.failing = any(isinstance(store.error, JournalError) for store in self._writing)
        for store in self._writing:
            store.done.set()
        self._writing = []
        self._changed.set()


class FileJournal(Journal):
    """A journal in a file. A thread of its own writes it."""

    def __init__(self, path: Path, writer: sqlite3.Connection, reader: sqlite3.Connection, tally: Tally) -> None:
        super().__init__(path, reader)
        self._writer = writer
        self._tally = tally
        self._reading = trio.CapacityLimiter(1)  # a connection serves one thread at a time
        self._batches: SimpleQueue[list[Awaited]] = SimpleQueue()  # to the thread

    async def read(self, query: Callable[[JournalReader], T]) -> T:
        return await trio.to_thread.run_sync(query, self._reader, limiter=self._reading)

    def _begin(self, batch: list[Awaited]) -> None:
        self._batches.put(batch)

    async def _commit_batches(self) -> None:
        token = trio.lowlevel.current_trio_token()
        own = trio.CapacityLimiter(1)  # of those that all share, one would be missing for good
        await trio.to_thread.run_sync(self._write, token, limiter=own)

    def _write(self, token: trio.lowlevel.TrioToken) -> None:
        """Runs in the thread."""
        while batch := self._batches.get():
            if commits := changes.commit(self._writer, self.path, batch):
                self._tally.write(commits)
            token.run_sync_soon(self._written)
