"""The journal's file: its tables, and what is checked before it is trusted (see journal.py, journal_reader.py)."""

import os
import sqlite3
from pathlib import Path
from typing import Final
from urllib.parse import quote

from p2pinfer.core.errors import JournalError, UsageError
from p2pinfer.disk.places import is_there

APPLICATION: Final = 0x70327069  # "p2pi", in the file's header
VERSION: Final = 1
BUSY_S: Final = 10.0  # several clients of one machine may write to one journal
MODE: Final = 0o600  # receipts tell who used whom

TABLES: Final = (
    """CREATE TABLE certificate (
        id BLOB PRIMARY KEY, body BLOB NOT NULL, owner_signature BLOB NOT NULL
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE contract (
        id BLOB PRIMARY KEY, body BLOB NOT NULL, client_signature BLOB NOT NULL, node_signature BLOB NOT NULL,
        client BLOB NOT NULL, node BLOB NOT NULL, session BLOB NOT NULL,
        expires INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX contract_client ON contract (client)",
    # Proposals above the highest complete receipt; `generated` if they claim work beyond the prompt
    """CREATE TABLE proposal (
        contract BLOB NOT NULL REFERENCES contract, seq INTEGER NOT NULL, body BLOB NOT NULL,
        node_signature BLOB NOT NULL, generated INTEGER NOT NULL,
        PRIMARY KEY (contract, seq)
    ) STRICT, WITHOUT ROWID""",
    # The highest complete receipt of a contract; `stored` once the node said that it has it, for the client
    """CREATE TABLE receipt (
        contract BLOB PRIMARY KEY REFERENCES contract, seq INTEGER NOT NULL, body BLOB NOT NULL,
        node_signature BLOB NOT NULL, client_signature BLOB NOT NULL, final INTEGER NOT NULL, time INTEGER NOT NULL,
        stored INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX receipt_time ON receipt (time)",
    # Work, in layer-tokens, under the contracts of client and node whose final receipt is complete
    """CREATE TABLE signed (
        client BLOB NOT NULL, node BLOB NOT NULL, work INTEGER NOT NULL,
        PRIMARY KEY (client, node)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE statement (
        number INTEGER PRIMARY KEY, id BLOB NOT NULL, created INTEGER NOT NULL
    ) STRICT""",
)


def connect_writer(path: Path) -> sqlite3.Connection:
    """The journal for writing, made when there is none; every commit is on the disk when it returns.

    Raises JournalError for a file that is no journal, damaged, altered or of a newer version.
    """
    try:
        path.parent.mkdir(0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, MODE))  # SQLite gives its other files the same mode
        for file in files_of(path):
            _close_to_others(file)
        connection = _connect(path, "rwc")
    except OSError as error:
        raise JournalError(
            f"cannot open the journal {path}: {error.strerror}; name another data folder with --data"
        ) from None
    except sqlite3.Error as error:
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
        _check(connection, path)
        connection.execute("COMMIT")
    except (sqlite3.Error, JournalError) as error:
        connection.close()
        raise _as_journal_error(error, path) from None
    return connection


def connect_reader(path: Path) -> sqlite3.Connection:
    """The journal for reading, also while a node writes to it.

    Raises UsageError where there is none, JournalError as `connect_writer` does.
    """
    if not is_there(path):
        raise UsageError(
            f"there is no journal at {path}: nobody keeps receipts there yet; name another data folder with --data"
        )
    try:
        connection = _connect(path, "ro")
    except sqlite3.Error as error:
        raise _as_journal_error(error, path) from None
    try:
        _check(connection, path)
    except (sqlite3.Error, JournalError) as error:
        connection.close()
        raise _as_journal_error(error, path) from None
    return connection


def files_of(path: Path) -> tuple[Path, ...]:
    """The journal's file and those that SQLite keeps beside it while it is open, or was left so."""
    return tuple(path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm"))


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
    connection.execute(f"PRAGMA application_id = {APPLICATION}")
    connection.execute(f"PRAGMA user_version = {VERSION}")


def _check(connection: sqlite3.Connection, path: Path) -> None:
    if _pragma(connection, "application_id") != APPLICATION:
        raise JournalError(f"{path} is no journal of p2pinfer")
    if (version := _pragma(connection, "user_version")) != VERSION:
        raise JournalError(f"{path} has version {version}, this release knows {VERSION}: use the release that wrote it")
    if _schema(connection) != {" ".join(statement.split()) for statement in TABLES}:
        raise JournalError(f"the tables of {path} were altered: restore it from a copy")
    if (fault := connection.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
        raise JournalError(f"{path} is damaged ({fault}): restore it from a copy")


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def _schema(connection: sqlite3.Connection) -> set[str]:
    rows = connection.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL")
    return {" ".join(sql.split()) for (sql,) in rows}


def _as_journal_error(error: sqlite3.Error | JournalError, path: Path) -> JournalError:
    if isinstance(error, JournalError):
        return error
    kind = error.sqlite_errorcode & 0xFF
    if kind in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):  # in WAL mode, reading writes beside the file
        return JournalError(f"the journal {path} and its folder cannot be written: use them as the user they belong to")
    return JournalError(
        f"the journal {path} cannot be used: {error}; see whether its disk is full and its file system has locks, or "
        "name another folder with --data"
    )
