"""The proof of a journal: it is whole, every row is what was written, and its sums are those of its rows.

That takes longer the longer the journal is. So it is done where a journal was not closed well (tally.py), for `p2pinfer
doctor`, and for a copy: not each time. Rows that are read at other times are checked as they are read
(journal_reader.py).
"""

import sqlite3
from collections.abc import Callable, Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Final

from p2pinfer.core.records.certificate import NodeCert
from p2pinfer.core.records.records import record_id
from p2pinfer.core.values.errors import JournalError
from p2pinfer.disk.journal_tables import CONTRACT, DAY_S, LOW_BITS, PROPOSAL, RECEIPT, SEALED, TOTAL, row_digest

Progress = Callable[[int, int], None]  # rows that were read, and of how many
STEP: Final = 1_000  # rows between two reports
DIGESTED: Final = {"contract": CONTRACT, "receipt": RECEIPT, "proposal": PROPOSAL, "total": TOTAL}
TOTALS: Final = (
    """SELECT day, client, node, owner, model, receipts, positions, sampled, high, low FROM total
        ORDER BY 1, 2, 3, 4, 5""",
    f"""SELECT time / {DAY_S}, receipt.client, receipt.node, owner, model, count(*), sum(positions), sum(sampled),
        sum(amount >> {LOW_BITS}), sum(amount & {(1 << LOW_BITS) - 1})
        FROM receipt JOIN contract ON id = contract GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5""",
)
SIGNED: Final = (
    "SELECT client, node, work FROM signed ORDER BY 1, 2",
    "SELECT client, node, sum(work) FROM receipt WHERE final GROUP BY 1, 2 ORDER BY 1, 2",
)
FINISHED: Final = ("SELECT count(*) FROM contract WHERE finished", "SELECT count(*) FROM receipt WHERE final")


def no_progress(done: int, total: int) -> None:
    """Nobody looks on."""


def damaged(path: Path, why: str) -> JournalError:
    """The error that says how a journal is damaged, and the way back."""
    return JournalError(f"the journal {path} is damaged: {why}; {restoring(path)}")


def restoring(path: Path) -> str:
    return f"move {path.name}* away, and put a copy made with `p2pinfer backup` in its place"


def prove(connection: sqlite3.Connection, path: Path, progress: Progress = no_progress) -> None:
    """Read all of a journal, of one moment. Raises JournalError for what is wrong with it.

    progress: is told at the end, too, whatever that is
    """
    connection.execute("BEGIN")
    try:
        _prove(connection, path, progress)
    finally:
        progress(1, 1)
        if connection.in_transaction:
            connection.execute("ROLLBACK")  # nothing was written


def _prove(connection: sqlite3.Connection, path: Path, progress: Progress) -> None:
    counts = dict(zip(SEALED, connection.execute(f"SELECT {', '.join(SEALED)} FROM seal").fetchone(), strict=True))
    rows = counts["contract"] + counts["receipt"] + 1
    progress(0, rows)
    if (fault := str(connection.execute("PRAGMA integrity_check(1)").fetchone()[0])) != "ok":
        raise damaged(path, fault)
    for table, count in counts.items():
        (found,) = connection.execute(f"SELECT count(*) FROM {table} NOT INDEXED").fetchone()
        if found != count:
            raise damaged(path, f"it has {found} of {count} rows of {table}s")
    _prove_rows(connection, path, rows, progress)
    for what, (kept, meant) in {"totals": TOTALS, "credit": SIGNED, "ended contracts": FINISHED}.items():
        if _differ(connection, kept, meant):
            raise damaged(path, f"its {what} are not those of its rows")


def _prove_rows(connection: sqlite3.Connection, path: Path, total: int, progress: Progress) -> None:
    for done, fault in enumerate(_faults(connection)):
        if fault:
            raise damaged(path, fault)
        if not done % STEP:
            progress(min(done, total - 1), total)


def _faults(connection: sqlite3.Connection) -> Iterator[str]:
    """For each row what is wrong with it; empty where nothing is."""
    for id_, body in connection.execute("SELECT id, body FROM certificate"):
        yield "" if id_ == record_id(NodeCert, body) else "a certificate is not what was written"
    for table, columns in DIGESTED.items():
        for *values, digest in connection.execute(f"SELECT {columns} FROM {table} NOT INDEXED"):
            yield "" if digest == row_digest(values) else f"a row of {table}s is not what was written"


def _differ(connection: sqlite3.Connection, kept: str, meant: str) -> bool:
    """Two queries, of one order, do not find the same rows."""
    return any(ours != theirs for ours, theirs in zip_longest(connection.execute(kept), connection.execute(meant)))
