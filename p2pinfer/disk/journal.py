"""The journal: contracts and receipts of a node or a client, durable before they are sent (receipts.md, "Duties").

One thread writes for as long as the journal is open: to fetch one for each commit costs more than the commit. Records
that are stored in one pass of the scheduler, or wait while another batch commits, share a commit, since each one waits
for the disk. A store returns after its commit. Its caller's cancellation does not undo it. Tables are in
`journal_file.py`, queries in `journal_reader.py`, and a journal without a disk is in `memory_journal.py`.
"""

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Final, NamedTuple, TypeVar

import trio

from p2pinfer.core.money.budget import MAX_UNSIGNED
from p2pinfer.core.records.certificate import NodeCert
from p2pinfer.core.records.contract import Contract
from p2pinfer.core.records.delivered import Delivered, encode_delivered
from p2pinfer.core.records.receipt import FINAL, Receipt
from p2pinfer.core.records.records import SignedRecord
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import JournalError, LocalProtocolError, P2pinferError, RemoteProtocolError
from p2pinfer.core.values.units import PeerKey, RecordId, SessionId
from p2pinfer.disk.address_book import DOUBT_S
from p2pinfer.disk.journal_check import Progress, no_progress
from p2pinfer.disk.journal_file import connect_reader, connect_writer, not_stored
from p2pinfer.disk.journal_reader import JournalReader
from p2pinfer.disk.journal_tables import row_digest
from p2pinfer.disk.journal_totals import Parties, count, counted, counted_before, parties_of
from p2pinfer.disk.tally import Tally, open_tally

MAX_BATCH: Final = 256  # changes in one commit
COMMIT_S: Final = 2.0  # so long its last commit is waited for by what is cut off
MAX_DELIVERED: Final = 1_024  # generations that are not paid for in full; some 40 kB each where a window is unsigned
UNSIGNED_S: Final = 30 * 86_400  # after its contract expires, a proposal that nobody signed is kept

NEWEST: Final = "SELECT coalesce(max(expires), 0) FROM contract"
RANKED: Final = """SELECT contract, (SELECT expires FROM contract WHERE id = proposal.contract) AS expires
    FROM proposal GROUP BY contract ORDER BY count(*) DESC, expires DESC, contract"""

T = TypeVar("T")
Change = Callable[[sqlite3.Connection], object]


class Keep(NamedTuple):
    """A client's records of an answer, kept until it is paid for.

    now: Unix seconds, of a clock that may be wrong
    """

    session: SessionId
    client: PeerKey
    delivered: Delivered
    now: int


@dataclass(slots=True, eq=False)
class _Store:
    """A change that somebody waits for."""

    change: Change
    done: trio.Event = field(default_factory=trio.Event)
    error: P2pinferError | None = None


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
        self._waiting: list[_Store] = []
        self._writing: list[_Store] = []
        self._changed = trio.Event()
        self._stopped = False
        self._opened_s = trio.current_time()
        self.failing = False  # the last commit: the disk may be full

    @abstractmethod
    async def read(self, query: Callable[[JournalReader], T]) -> T:
        """Run a query. Raises JournalError where the journal turns out to be unsound."""

    @abstractmethod
    def _begin(self, batch: list[_Store]) -> None:
        """Have `_commit_batches` commit it; an empty one is the last. Waits for nothing."""

    @abstractmethod
    async def _commit_batches(self) -> None:
        """Commit one batch after the other, each followed by `_written`, until an empty one comes."""

    async def certify(self, certificate: SignedRecord[NodeCert]) -> None:
        """Keep a certificate; contracts under it may have to be proven long after it was renewed."""
        row = (certificate.id, certificate.body, *certificate.signatures)
        await self._store(lambda db: _execute(db, "INSERT OR IGNORE INTO certificate VALUES (?, ?, ?)", row))

    async def agree(self, contract: SignedRecord[Contract], session: SessionId) -> None:
        """Store a contract that both signed.

        Raises RemoteProtocolError (BAD_STATE) where it has been stored before: a contract opens once.
        """
        await self.agree_all([contract], session)

    async def agree_all(self, contracts: Sequence[SignedRecord[Contract]], session: SessionId) -> None:
        """Store the contracts of a route, all or none. Raises as `agree` does."""

        def change(db: sqlite3.Connection) -> None:
            for contract in contracts:
                _agree(db, contract, session)

        await self._store(change)

    async def propose(self, receipt: SignedRecord[Receipt]) -> None:
        """Store a proposal of ours before it is sent.

        Raises LocalProtocolError for a second body under one number.
        """
        await self._store(lambda db: _propose(db, receipt))

    async def propose_first(
        self, receipt: SignedRecord[Receipt], contract: SignedRecord[Contract], session: SessionId
    ) -> None:
        """Store the first proposal under a contract and the contract: one that never became work leaves nothing.

        Raises as `agree` and `propose` do.
        """

        def change(db: sqlite3.Connection) -> None:
            _agree(db, contract, session)
            _propose(db, receipt)

        await self._store(change)

    async def prune(self, now: int) -> None:
        """Forget what nobody signed: the least beyond MAX_UNSIGNED contracts, and what expired UNSIGNED_S ago.

        now: Unix seconds, of a clock that may be wrong. It says nothing before DOUBT_S, and never goes beyond the
        newest contract, to whose time another clock agreed.
        """
        is_doubted = trio.current_time() < self._opened_s + DOUBT_S
        await self._store(lambda db: _prune(db, 0 if is_doubted else now))

    async def complete(self, *receipts: SignedRecord[Receipt], stored: bool = False) -> None:
        """Store receipts with both signatures, all or none; lower numbers of their contracts mean nothing from then on.

        stored: we are their node, and nobody has to be sent them

        Raises LocalProtocolError for a second body under one number.
        """

        def change(db: sqlite3.Connection) -> None:
            for receipt in receipts:
                _complete(db, receipt, stored)

        await self._store(change)

    async def acknowledge(self, contract: RecordId, seq: int) -> None:
        """The node said that it has the receipt: there is no need to send it again."""
        await self._store(lambda db: _acknowledge(db, contract, seq))

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
                _keep(db, _row_of(kept))  # first, for what is paid in full by the receipts is forgotten
            for receipt in receipts:
                _complete(db, receipt, stored=False)
            for receipt in acknowledged:
                _acknowledge(db, receipt.record.contract, receipt.record.seq)

        await self._store(change)

    async def add_statement(self, number: int, id_: RecordId, created: int, before: int) -> None:
        """Remember a statement, so that the next one names it. before: number of the one that it names; 0 for none.

        Raises JournalError where another one came between.
        """
        await self._store(lambda db: _add_statement(db, number, id_, created, before))

    async def keep(self, session: SessionId, client: PeerKey, delivered: Delivered, now: int) -> None:
        """Keep what a client was given until it is paid for in full, or MAX_DELIVERED came later.

        now: Unix seconds, of a clock that may be wrong: it forgets nothing
        """
        row = _row_of(Keep(session, client, delivered, now))
        await self._store(lambda db: _keep(db, row))

    async def drop(self, session: SessionId) -> None:
        """Forget the ids of a session, all of which are paid for."""
        await self._store(lambda db: _execute(db, "DELETE FROM delivered WHERE session = ?", (session,)))

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
        self._waiting.append(store := _Store(change))
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
        self._batches: SimpleQueue[list[_Store]] = SimpleQueue()  # to the thread

    async def read(self, query: Callable[[JournalReader], T]) -> T:
        return await trio.to_thread.run_sync(query, self._reader, limiter=self._reading)

    def _begin(self, batch: list[_Store]) -> None:
        self._batches.put(batch)

    async def _commit_batches(self) -> None:
        token = trio.lowlevel.current_trio_token()
        own = trio.CapacityLimiter(1)  # of those that all share, one would be missing for good
        await trio.to_thread.run_sync(self._write, token, limiter=own)

    def _write(self, token: trio.lowlevel.TrioToken) -> None:
        """Runs in the thread."""
        while batch := self._batches.get():
            if commits := _commit(self._writer, self.path, batch):
                self._tally.write(commits)
            token.run_sync_soon(self._written)


def _commit(connection: sqlite3.Connection, path: Path, batch: list[_Store]) -> int:
    """Commit all changes at once; where one fails, each alone, so that it fails alone.

    How many commits the journal then has had, or 0 where none was made.
    """
    try:
        connection.execute("BEGIN IMMEDIATE")
        for store in batch:
            store.change(connection)
        ((commits,),) = connection.execute("UPDATE seal SET commits = commits + 1 RETURNING commits").fetchall()
        connection.execute("COMMIT")
        return int(commits)
    except (sqlite3.Error, P2pinferError) as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        if len(batch) == 1:
            batch[0].error = error if isinstance(error, P2pinferError) else not_stored(error, path)
            return 0
        return max([_commit(connection, path, [store]) for store in batch])


def _execute(db: sqlite3.Connection, query: str, values: tuple[object, ...]) -> int:
    """Rows that changed."""
    return db.execute(query, values).rowcount


def _agree(db: sqlite3.Connection, contract: SignedRecord[Contract], session: SessionId) -> None:
    terms = contract.record
    parties = terms.client, terms.node, terms.owner, terms.model, len(terms.span)
    row = (contract.id, contract.body, *contract.signatures, *parties, session, terms.expires)
    query = "INSERT OR IGNORE INTO contract VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?)"
    if not _execute(db, query, (*row, row_digest(row))):
        raise RemoteProtocolError("this contract was opened before", Code.BAD_STATE)


def _propose(db: sqlite3.Connection, receipt: SignedRecord[Receipt]) -> None:
    terms, parties = receipt.record, _parties(db, receipt)
    generated = int(bool(terms.usage.decode or terms.usage.sampled))
    row = (terms.contract, terms.seq, receipt.body, receipt.signatures[0], generated, parties.client)
    query = "INSERT INTO proposal VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
    if not _execute(db, query, (*row, row_digest(row))):
        _check_same(db, "proposal", receipt)


def _complete(db: sqlite3.Connection, receipt: SignedRecord[Receipt], stored: bool) -> None:
    terms, parties = receipt.record, _parties(db, receipt)
    now, before = counted(terms, parties), counted_before(db, terms.contract)
    if before is not None and before.seq >= now.seq:
        _check_same(db, "receipt", receipt)
    else:
        numbers = now.work, now.positions, now.sampled, now.amount
        row = (terms.contract, terms.seq, receipt.body, *receipt.signatures, now.final, now.time)
        row = (*row, parties.client, parties.node, *numbers)
        query = """INSERT INTO receipt VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
                   seq = excluded.seq, body = excluded.body, node_signature = excluded.node_signature,
                   client_signature = excluded.client_signature, final = excluded.final, time = excluded.time,
                   work = excluded.work, positions = excluded.positions, sampled = excluded.sampled,
                   amount = excluded.amount, stored = excluded.stored, digest = excluded.digest"""
        _execute(db, query, (*row, int(stored), row_digest(row)))
        count(db, parties, now, before)
        _execute(db, "UPDATE contract SET finished = ?1 WHERE id = ?2 AND finished != ?1", (now.final, terms.contract))
    _execute(db, "DELETE FROM proposal WHERE contract = ? AND seq <= ?", (terms.contract, terms.seq))
    if terms.state == FINAL:
        _settle(db, terms.contract)


def _parties(db: sqlite3.Connection, receipt: SignedRecord[Receipt]) -> Parties:
    """Raises JournalError for a receipt of a contract that is not in the journal."""
    if (found := parties_of(db, receipt.record.contract)) is None:
        raise JournalError("not stored: its contract is not known here")
    return found


def _settle(db: sqlite3.Connection, contract: RecordId) -> None:
    """A contract is paid in full; where all of its session are, what was delivered need not be known any more."""
    _execute(
        db,
        """DELETE FROM delivered WHERE session = (SELECT session FROM contract WHERE id = ?) AND NOT EXISTS (
               SELECT * FROM contract WHERE contract.session = delivered.session AND NOT finished)""",
        (contract,),
    )


def _acknowledge(db: sqlite3.Connection, contract: RecordId, seq: int) -> None:
    _execute(db, "UPDATE receipt SET stored = 1 WHERE contract = ? AND seq <= ?", (contract, seq))


def _row_of(kept: Keep) -> tuple[object, ...]:
    return kept.session, kept.client, encode_delivered(kept.delivered), kept.now


def _keep(db: sqlite3.Connection, row: tuple[object, ...]) -> None:
    # Later than all others, though the clock was set back: the oldest go
    _execute(
        db,
        "INSERT OR REPLACE INTO delivered SELECT ?, ?, ?, max(?, coalesce(max(time) + 1, 0)) FROM delivered",
        row,
    )
    oldest = "SELECT session FROM delivered ORDER BY time DESC, session LIMIT -1 OFFSET ?"
    _execute(db, f"DELETE FROM delivered WHERE session IN ({oldest})", (MAX_DELIVERED,))


def _add_statement(db: sqlite3.Connection, number: int, id_: RecordId, created: int, before: int) -> None:
    ((last,),) = db.execute("SELECT coalesce(max(number), 0) FROM statement").fetchall()
    if last != before:
        raise JournalError(f"another export became statement {last} just now: run this one again")
    _execute(db, "INSERT INTO statement VALUES (?, ?, ?)", (number, id_, created))


def _prune(db: sqlite3.Connection, now: int) -> None:
    # In two halves, for each of which the index has the last at hand
    newest = max(db.execute(f"{NEWEST} WHERE finished = {half}").fetchone()[0] for half in (0, 1))
    # The most proposals first: many contracts of a little work must not push out a few of much
    for rank, (contract, expires) in enumerate(db.execute(RANKED).fetchall()):
        if rank >= MAX_UNSIGNED or expires + UNSIGNED_S < min(now, newest):
            _execute(db, "DELETE FROM proposal WHERE contract = ?", (contract,))
            unpaid = "NOT EXISTS (SELECT * FROM receipt WHERE contract = id)"
            _execute(db, f"DELETE FROM contract WHERE id = ? AND {unpaid}", (contract,))


def _check_same(db: sqlite3.Connection, table: str, receipt: SignedRecord[Receipt]) -> None:
    """Raise LocalProtocolError where another receipt stands under this one's number."""
    query = f"SELECT body FROM {table} WHERE contract = ? AND seq = ?"
    found = db.execute(query, (receipt.record.contract, receipt.record.seq)).fetchone()
    if found is not None and found[0] != receipt.body:
        raise LocalProtocolError(f"a second body for receipt {receipt.record.seq} of one contract")
