"""Changes of a journal, each of them rows that come and go together, and the commit of several at once.

Tables are in `journal_tables.py`, sums in `journal_totals.py`; who waits for a change is in `journal.py`.
"""

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import trio

from p2pinfer.core.money.budget import MAX_UNSIGNED
from p2pinfer.core.records.contract import Contract
from p2pinfer.core.records.delivered import Delivered, encode_delivered
from p2pinfer.core.records.receipt import FINAL, Receipt
from p2pinfer.core.records.records import SignedRecord
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import JournalError, LocalProtocolError, P2pinferError, RemoteProtocolError
from p2pinfer.core.values.units import PeerKey, RecordId, SessionId
from p2pinfer.disk.journal_file import not_stored
from p2pinfer.disk.journal_tables import row_digest
from p2pinfer.disk.journal_totals import Parties, count, counted, counted_before, parties_of

MAX_DELIVERED: Final = 1_024  # generations that are not paid for in full; some 40 kB each where a window is unsigned
UNSIGNED_S: Final = 30 * 86_400  # after its contract expires, a proposal that nobody signed is kept

NEWEST: Final = "SELECT coalesce(max(expires), 0) FROM contract"
RANKED: Final = """SELECT contract, (SELECT expires FROM contract WHERE id = proposal.contract) AS expires
    FROM proposal GROUP BY contract ORDER BY count(*) DESC, expires DESC, contract"""

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
class Awaited:
    """A change that somebody waits for. error: why it was not made"""

    change: Change
    done: trio.Event = field(default_factory=trio.Event)
    error: P2pinferError | None = None


def commit(connection: sqlite3.Connection, path: Path, batch: list[Awaited]) -> int:
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
        return max([commit(connection, path, [store]) for store in batch])


def execute(db: sqlite3.Connection, query: str, values: tuple[object, ...]) -> int:
    """Rows that changed."""
    return db.execute(query, values).rowcount


def agree(db: sqlite3.Connection, contract: SignedRecord[Contract], session: SessionId) -> None:
    terms = contract.record
    parties = terms.client, terms.node, terms.owner, terms.model, len(terms.span)
    row = (contract.id, contract.body, *contract.signatures, *parties, session, terms.expires)
    query = "INSERT OR IGNORE INTO contract VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?)"
    if not execute(db, query, (*row, row_digest(row))):
        raise RemoteProtocolError("this contract was opened before", Code.BAD_STATE)


def propose(db: sqlite3.Connection, receipt: SignedRecord[Receipt]) -> None:
    terms, parties = receipt.record, _parties(db, receipt)
    generated = int(bool(terms.usage.decode or terms.usage.sampled))
    row = (terms.contract, terms.seq, receipt.body, receipt.signatures[0], generated, parties.client)
    query = "INSERT INTO proposal VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
    if not execute(db, query, (*row, row_digest(row))):
        _check_same(db, "proposal", receipt)


def complete(db: sqlite3.Connection, receipt: SignedRecord[Receipt], stored: bool) -> None:
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
        execute(db, query, (*row, int(stored), row_digest(row)))
        count(db, parties, now, before)
        execute(db, "UPDATE contract SET finished = ?1 WHERE id = ?2 AND finished != ?1", (now.final, terms.contract))
    execute(db, "DELETE FROM proposal WHERE contract = ? AND seq <= ?", (terms.contract, terms.seq))
    if terms.state == FINAL:
        _settle(db, terms.contract)


def _parties(db: sqlite3.Connection, receipt: SignedRecord[Receipt]) -> Parties:
    """Raises JournalError for a receipt of a contract that is not in the journal."""
    if (found := parties_of(db, receipt.record.contract)) is None:
        raise JournalError("not stored: its contract is not known here")
    return found


def _settle(db: sqlite3.Connection, contract: RecordId) -> None:
    """A contract is paid in full; where all of its session are, what was delivered need not be known any more."""
    execute(
        db,
        """DELETE FROM delivered WHERE session = (SELECT session FROM contract WHERE id = ?) AND NOT EXISTS (
               SELECT * FROM contract WHERE contract.session = delivered.session AND NOT finished)""",
        (contract,),
    )


def acknowledge(db: sqlite3.Connection, contract: RecordId, seq: int) -> None:
    execute(db, "UPDATE receipt SET stored = 1 WHERE contract = ? AND seq <= ?", (contract, seq))


def row_of(kept: Keep) -> tuple[object, ...]:
    return kept.session, kept.client, encode_delivered(kept.delivered), kept.now


def keep(db: sqlite3.Connection, row: tuple[object, ...]) -> None:
    # Later than all others, though the clock was set back: the oldest go
    execute(
        db,
        "INSERT OR REPLACE INTO delivered SELECT ?, ?, ?, max(?, coalesce(max(time) + 1, 0)) FROM delivered",
        row,
    )
    oldest = "SELECT session FROM delivered ORDER BY time DESC, session LIMIT -1 OFFSET ?"
    execute(db, f"DELETE FROM delivered WHERE session IN ({oldest})", (MAX_DELIVERED,))


def add_statement(db: sqlite3.Connection, number: int, id_: RecordId, created: int, before: int) -> None:
    ((last,),) = db.execute("SELECT coalesce(max(number), 0) FROM statement").fetchall()
    if last != before:
        raise JournalError(f"another export became statement {last} just now: run this one again")
    execute(db, "INSERT INTO statement VALUES (?, ?, ?)", (number, id_, created))


def prune(db: sqlite3.Connection, now: int) -> None:
    # In two halves, for each of which the index has the last at hand
    newest = max(db.execute(f"{NEWEST} WHERE finished = {half}").fetchone()[0] for half in (0, 1))
    # The most proposals first: many contracts of a little work must not push out a few of much
    for rank, (contract, expires) in enumerate(db.execute(RANKED).fetchall()):
        if rank >= MAX_UNSIGNED or expires + UNSIGNED_S < min(now, newest):
            execute(db, "DELETE FROM proposal WHERE contract = ?", (contract,))
            unpaid = "NOT EXISTS (SELECT * FROM receipt WHERE contract = id)"
            execute(db, f"DELETE FROM contract WHERE id = ? AND {unpaid}", (contract,))


def _check_same(db: sqlite3.Connection, table: str, receipt: SignedRecord[Receipt]) -> None:
    """Raise LocalProtocolError where another receipt stands under this one's number."""
    query = f"SELECT body FROM {table} WHERE contract = ? AND seq = ?"
    found = db.execute(query, (receipt.record.contract, receipt.record.seq)).fetchone()
    if found is not None and found[0] != receipt.body:
        raise LocalProtocolError(f"a second body for receipt {receipt.record.seq} of one contract")
