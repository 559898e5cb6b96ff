"""The journal's file: its tables, and what is checked before it is trusted (see journal.py, journal_reader.py).

Opening takes the same time however large the file is, but for counting rows: SQLite's own check is given a moment, the
rows of the tables that matter are counted against `seal`, and the commits against the tally beside the file (tally.py).
That a row is what was written is checked when it is read: it has a digest.
"""

import os
import sqlite3
import time
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Final
from urllib.parse import quote

import msgpack

from p2pinfer.core.errors import JournalError, UsageError
from p2pinfer.disk.places import is_there
from p2pinfer.disk.plain import check_plain, open_descriptor
from p2pinfer.disk.tally import read_tally, tally_of

APPLICATION: Final = 0x70327069  # "p2pi", in the file's header
VERSION: Final = 1
BUSY_S: Final = 10.0  # several clients of one machine may write to one journal
CHECK_S: Final = 0.25  # of SQLite's own check, at each opening
CHECK_STEPS: Final = 10_000  # of SQLite's machine between two looks at the clock
DIGEST_BYTES: Final = 8
MODE: Final = 0o600  # receipts tell who used whom
FAULTS: Final = (sqlite3.Error, UnicodeDecodeError)  # Python fails so where SQLite's words quote damaged bytes
SEALED: Final = ("certificate", "contract", "receipt", "statement")  # tables whose rows are counted

TABLES: Final = (
    """CREATE TABLE certificate (
        id BLOB PRIMARY KEY, body BLOB NOT NULL, owner_signature BLOB NOT NULL
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE contract (
        id BLOB PRIMARY KEY, body BLOB NOT NULL, client_signature BLOB NOT NULL, node_signature BLOB NOT NULL,
        client BLOB NOT NULL, node BLOB NOT NULL, session BLOB NOT NULL,
        expires INTEGER NOT NULL, digest BLOB NOT NULL
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX contract_client ON contract (client)",
    "CREATE INDEX contract_session ON contract (session)",
    # Proposals above the highest complete receipt; `generated` if they claim work beyond the prompt
    """CREATE TABLE proposal (
        contract BLOB NOT NULL REFERENCES contract, seq INTEGER NOT NULL, body BLOB NOT NULL,
        node_signature BLOB NOT NULL, generated INTEGER NOT NULL, digest BLOB NOT NULL,
        PRIMARY KEY (contract, seq)
    ) STRICT, WITHOUT ROWID""",
    # The highest complete receipt of a contract; `stored` once the node said that it has it, for the client
    """CREATE TABLE receipt (
        contract BLOB PRIMARY KEY REFERENCES contract, seq INTEGER NOT NULL, body BLOB NOT NULL,
        node_signature BLOB NOT NULL, client_signature BLOB NOT NULL, final INTEGER NOT NULL, time INTEGER NOT NULL,
        stored INTEGER NOT NULL, digest BLOB NOT NULL
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX receipt_unstored ON receipt (contract) WHERE NOT stored",
    # Work, in layer-tokens, under the contracts of client and node whose final receipt is complete
    """CREATE TABLE signed (
        client BLOB NOT NULL, node BLOB NOT NULL, work INTEGER NOT NULL,
        PRIMARY KEY (client, node)
    ) STRICT, WITHOUT ROWID""",
    # What a client was given and has not paid for in full (core/delivered.py)
    """CREATE TABLE delivered (
        session BLOB PRIMARY KEY, client BLOB NOT NULL, body BLOB NOT NULL, time INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE statement (
        number INTEGER PRIMARY KEY, id BLOB NOT NULL, created INTEGER NOT NULL
    ) STRICT""",
    # One row: how many commits there were, and how many rows the tables have
    f"CREATE TABLE seal ({', '.join(f'{name} INTEGER NOT NULL' for name in ('commits', *SEALED))}) STRICT",
    *(
        f"""CREATE TRIGGER {table}_{name} AFTER {event} ON {table}
            BEGIN UPDATE seal SET {table} = {table} {sign} 1; END"""
        for table in SEALED
        for name, event, sign in (("added", "INSERT", "+"), ("removed", "DELETE", "-"))
    ),
)


def row_digest(values: Iterable[object]) -> bytes:
    """The digest of a row, of all its columns but those that may change by themselves."""
    data: bytes = msgpack.packb(list(values))
    return sha256(data).digest()[:DIGEST_BYTES]


def connect_writer(path: Path) -> sqlite3.Connection:
    """The journal for writing, made when there is none; every commit is on the disk when it returns.

    Raises JournalError for a file that is no journal, damaged, altered or of a newer version.
    """
    try:
        path.parent.mkdir(0o700, parents=True, exist_ok=True)
        tally = read_tally(path)
        if tally and not (path.exists() and path.stat().st_size):
            raise damaged(path, f"it is empty or gone, and had {tally} commits")
        check_plain((path, *files_of(path)))
        os.close(open_descriptor(path, os.O_RDWR | os.O_CREAT, MODE))  # SQLite gives its other files the same mode
        for file in files_of(path):
            _close_to_others(file)
        connection = _connect(path, "rwc")
    except OSError as error:
        raise JournalError(
            f"cannot open the journal: {error.filename or path}: {error.strerror}; name another data folder with --data"
        ) from None
    except FAULTS as error:
        raise _as_journal_error(error, path) from None
    try:
        if connection.execute("PRAGMA journal_mode = WAL").fetchone() != ("wal",):
            raise JournalError(
                f"the file system of {path} cannot keep a write-ahead log: name a folder on another with --data"
            )
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("BEGIN IMMEDIATE")
        if _is_new(connection):
            _create(connection)
        _check(connection, path, tally)
        connection.execute("COMMIT")
    except (*FAULTS, JournalError) as error:
        connection.close()
        raise _as_journal_error(error, path) from None
    return connection


def connect_reader(path: Path, *, checked: bool = False) -> sqlite3.Connection:
    """The journal for reading, also while a node writes to it.

    checked: it was checked just now, when it was opened for writing

    Raises UsageError where there is none, JournalError as `connect_writer` does.
    """
    there = is_there(path)
    try:
        tally = read_tally(path)  # before the journal is: a node may commit meanwhile
        if not there and tally:
            raise damaged(path, f"it is gone, and had {tally} commits")
        if not there:
            raise UsageError(
                f"there is no journal at {path}: nobody keeps receipts there yet; name another data folder with --data"
            )
        check_plain((path, *files_of(path)))
        connection = _connect(path, "ro")
    except OSError as error:
        raise JournalError(f"cannot read {error.filename or path}: {error.strerror}") from None
    except FAULTS as error:
        raise _as_journal_error(error, path) from None
    try:
        if not checked:
            _check(connection, path, tally)
    except (*FAULTS, JournalError) as error:
        connection.close()
        raise _as_journal_error(error, path) from None
    return connection


def connect_copy(path: Path) -> sqlite3.Connection:
    """A copy that nobody uses, for reading; all of it is checked. Raises JournalError."""
    connection = _connect(path, "ro")
    try:
        _check(connection, path, tally=0)
        if (fault := connection.execute("PRAGMA integrity_check(1)").fetchone()[0]) != "ok":
            raise damaged(path, str(fault))
    except (*FAULTS, JournalError) as error:
        connection.close()
        raise _as_journal_error(error, path) from None
    return connection


def files_of(path: Path) -> tuple[Path, ...]:
    """The journal's file and those that SQLite keeps beside it while it is open, or was left so; links are followed."""
    real = Path(os.path.realpath(path))
    return tuple(real.with_name(real.name + suffix) for suffix in ("", "-wal", "-shm", "-journal"))


def _close_to_others(file: Path) -> None:
    """Take away what others may do with a file of ours that an older release, a copy or a umask left open."""
    try:
        mode = file.stat().st_mode & 0o777
        if mode & ~MODE:
            file.chmod(mode & MODE)
    except FileNotFoundError:
        pass  # the journal is closed, and needs no such file


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    uri = f"file:{quote(os.fsencode(path.absolute()))}?mode={mode}"  # any name, and no name is taken for an address
    # One thread at a time uses a connection, not always the same one
    return sqlite3.connect(uri, timeout=BUSY_S, isolation_level=None, check_same_thread=False, uri=True)


def _is_new(connection: sqlite3.Connection) -> bool:
    return _pragma(connection, "application_id") == 0 and not _schema(connection)


def _create(connection: sqlite3.Connection) -> None:
    for statement in TABLES:
        connection.execute(statement)
    connection.execute(f"INSERT INTO seal VALUES (0{', 0' * len(SEALED)})")
    connection.execute(f"PRAGMA application_id = {APPLICATION}")
    connection.execute(f"PRAGMA user_version = {VERSION}")


def damaged(path: Path, why: str) -> JournalError:
    """The error that says how a journal is damaged, and the way back."""
    return JournalError(f"the journal {path} is damaged: {why}; {restoring(path)}")


def not_stored(error: sqlite3.Error, path: Path) -> JournalError:
    """The error of a change that a journal did not take."""
    if isinstance(error, sqlite3.IntegrityError):
        return JournalError(f"not stored: {error}")
    return JournalError(f"not stored: {_as_journal_error(error, path)}")


def is_full(error: Exception) -> bool:
    """The disk has no room, as SQLite says it."""
    return isinstance(error, sqlite3.Error) and error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_FULL


def restoring(path: Path) -> str:
    return f"move {path.name}* away, and put a copy made with `p2pinfer backup` in its place"


def _check(connection: sqlite3.Connection, path: Path, tally: int) -> None:
    connection.execute("PRAGMA cell_size_check = ON")
    if _pragma(connection, "application_id") != APPLICATION:
        if tally:
            raise damaged(path, f"nothing is left of its {tally} commits")
        raise JournalError(f"{path} is not a journal of p2pinfer")
    if (version := _pragma(connection, "user_version")) != VERSION:
        raise JournalError(f"{path} has version {version}, this release knows {VERSION}: use the release that wrote it")
    if _schema(connection) != {" ".join(statement.split()) for statement in TABLES}:
        raise damaged(path, "its tables were altered")
    if fault := _quick_check(connection):
        raise damaged(path, fault)
    _check_seal(connection, path, tally)


def _quick_check(connection: sqlite3.Connection) -> str:
    """The first fault that SQLite's own check finds in a moment; empty without one."""
    end = time.monotonic() + CHECK_S
    connection.set_progress_handler(lambda: time.monotonic() > end, CHECK_STEPS)
    try:
        fault = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
        return "" if fault == "ok" else fault
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
        return ""  # so far it is sound
    finally:
        connection.set_progress_handler(None, 0)


def _check_seal(connection: sqlite3.Connection, path: Path, tally: int) -> None:
    rows = connection.execute("SELECT * FROM seal").fetchall()
    if len(rows) != 1:
        raise damaged(path, f"its seal has {len(rows)} rows")
    commits, *wanted = rows[0]
    for table, count in zip(SEALED, wanted, strict=True):
        (found,) = connection.execute(f"SELECT count(*) FROM {table} NOT INDEXED").fetchone()
        if found != count:
            raise damaged(path, f"it has {found} of {count} rows of {table}s")
    if commits < tally:
        raise damaged(
            path,
            f"the last {tally - commits} of {tally} commits are missing, so its write-ahead log was lost or cut, or it "
            f"is an older copy (to go on without them, remove {tally_of(path).name})",
        )


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def _schema(connection: sqlite3.Connection) -> set[str]:
    rows = connection.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL")
    return {" ".join(str(sql).split()) for (sql,) in rows}


def _as_journal_error(error: sqlite3.Error | UnicodeDecodeError | JournalError, path: Path) -> JournalError:
    if isinstance(error, JournalError):
        return error
    if isinstance(error, UnicodeDecodeError):
        return damaged(path, "its tables have names that nobody wrote")
    kind = error.sqlite_errorcode & 0xFF
    if kind in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):  # in WAL mode, reading writes beside the file
        return JournalError(f"the journal {path} and its folder cannot be written: use them as the user they belong to")
    if is_full(error):
        return JournalError(f"the disk of {path.parent} is full: make room there")
    if kind in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return damaged(path, str(error))
    return JournalError(
        f"the journal {path} cannot be used: {error}; see whether its disk is full and its file system has locks, or "
        "name another folder with --data"
    )
