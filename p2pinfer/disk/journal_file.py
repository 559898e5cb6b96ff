"""The journal's file, and what is checked before it is trusted (see journal.py, journal_reader.py).

Opening takes the same time however large the file is: its tables are looked at, and its commits are counted against the
tally beside it (tally.py). Where it was not closed well, and nobody has it open who proved it, all of it is read
(journal_check.py). Each read of rows also checks that they are what was written, and that none is missing.
"""

import logging
import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Final
from urllib.parse import quote

from p2pinfer.core.values.errors import JournalError, UsageError
from p2pinfer.core.values.shown import shown_line
from p2pinfer.disk.journal_check import Progress, damaged, no_progress, prove
from p2pinfer.disk.journal_tables import APPLICATION, TABLES, VERSION, create_tables, digest_in_sql
from p2pinfer.disk.places import is_there, node_journal
from p2pinfer.disk.plain import check_plain, open_descriptor
from p2pinfer.disk.tally import is_in_use, open_tally, read_tally, tally_of, was_closed_well

BUSY_S: Final = 10.0  # several clients of one machine may write to one journal
MODE: Final = 0o600  # receipts tell who used whom
FAULTS: Final = (sqlite3.Error, UnicodeDecodeError)  # Python fails so where SQLite's words quote damaged bytes

logger = logging.getLogger(__name__)


def connect_writer(path: Path, progress: Progress = no_progress) -> sqlite3.Connection:
    """The journal for writing, made when there is none; every commit is on the disk when it returns.

    progress: told how far a proof has come, where one is needed

    Raises JournalError for a file that is no journal, damaged, altered or of a newer version.
    """
    try:
        path.parent.mkdir(0o700, parents=True, exist_ok=True)
        tally = read_tally(path)
        if tally and not (path.exists() and path.stat().st_size):
            raise damaged(path, f"it is empty or gone, and had {tally} commits")
        check_plain((path, *files_of(path)))
        is_sound = _is_sound(path)
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
        connection.create_function("row_digest", -1, digest_in_sql, deterministic=True)
        connection.execute("BEGIN IMMEDIATE")
        if is_new := _is_new(connection):
            create_tables(connection)
        _check(connection, path, tally)
        connection.execute("COMMIT")
        if not is_sound and not is_new:
            _prove(connection, path, progress)
    except (*FAULTS, JournalError) as error:
        connection.close()
        raise _as_journal_error(error, path) from None
    return connection


def connect_reader(path: Path, progress: Progress = no_progress, *, checked: bool = False) -> sqlite3.Connection:
    """The journal for reading, also while a node writes to it.

    progress: told how far a proof has come, where one is needed
    checked:  it was checked just now, when it was opened for writing

    Raises UsageError where there is none, JournalError as `connect_writer` does.
    """
    there = is_there(path)
    try:
        tally = read_tally(path)  # before the journal is: a node may commit meanwhile
        if not there and tally:
            raise damaged(path, f"it is gone, and had {tally} commits")
        if not there:
            raise UsageError(f"there is no journal at {path}: {_begin(path)}; or name another folder with --data")
        check_plain((path, *files_of(path)))
        is_sound = checked or _is_sound(path)
        connection = _connect(path, "ro")
    except OSError as error:
        raise JournalError(f"cannot read {error.filename or path}: {error.strerror}") from None
    except FAULTS as error:
        raise _as_journal_error(error, path) from None
    try:
        if not checked:
            _check(connection, path, tally)
        if not is_sound:
            _prove(connection, path, progress)
            _close_well(path)
    except (*FAULTS, JournalError) as error:
        connection.close()
        raise _as_journal_error(error, path) from None
    return connection


def _begin(path: Path) -> str:
    """Say what makes such a journal, where there is none."""
    if path == node_journal(path.parent):
        return "no node has run with that data folder yet; start one: p2pinfer node --model NAME"
    return "no client has used that data folder yet; ask something first: p2pinfer ask"


def prove_journal(path: Path) -> None:
    """Read all of a journal, however it was closed. Raises as `connect_reader` does."""
    connection = connect_reader(path)
    try:
        prove(connection, path)
    except FAULTS as error:
        raise _as_journal_error(error, path) from None
    finally:
        connection.close()


def connect_copy(path: Path, progress: Progress = no_progress) -> sqlite3.Connection:
    """A copy that nobody uses, for reading; all of it is checked. Raises JournalError."""
    connection = _connect(path, "ro")
    try:
        _check(connection, path, tally=0)
        prove(connection, path, progress)
    except (*FAULTS, JournalError) as error:
        connection.close()
        raise _as_journal_error(error, path) from None
    return connection


def files_of(path: Path) -> tuple[Path, ...]:
    """The journal's file and those that SQLite keeps beside it while it is open, or was left so; links are followed."""
    real = Path(os.path.realpath(path))
    return tuple(real.with_name(real.name + suffix) for suffix in ("", "-wal", "-shm", "-journal"))


def _close_well(path: Path) -> None:
    """Take a proven journal's log into its file, so that the next one who reads need not prove it; as far as we may."""
    with suppress(JournalError, OSError, *FAULTS), closing(open_tally(path)), closing(_connect(path, "rw")) as writer:
        writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")


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


def not_stored(error: sqlite3.Error, path: Path) -> JournalError:
    """The error of a change that a journal did not take."""
    if isinstance(error, sqlite3.IntegrityError):
        return JournalError(f"not stored: {error}")
    return JournalError(f"not stored: {_as_journal_error(error, path)}")


def is_full(error: Exception) -> bool:
    """The disk has no room, as SQLite says it."""
    return isinstance(error, sqlite3.Error) and error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_FULL


def _is_sound(path: Path) -> bool:
    """It was closed well, or somebody has it open who knew that it was, or proved it."""
    return was_closed_well(path) or is_in_use(path)


def _prove(connection: sqlite3.Connection, path: Path, progress: Progress) -> None:
    text = "the journal %s was not closed well, or is a copy: all of it is read, to see if it is whole"
    logger.warning(text, shown_line(str(path)))
    prove(connection, path, progress)


def _check(connection: sqlite3.Connection, path: Path, tally: int) -> None:
    connection.execute("PRAGMA cell_size_check = ON")
    if _pragma(connection, "application_id") != APPLICATION:
        if tally:
            raise damaged(path, f"nothing is left of its {tally} commits")
        raise JournalError(f"{path} is not a journal of p2pinfer")
    if (version := _pragma(connection, "user_version")) != VERSION:
        raise JournalError(
            f"{path} has version {version}, this release knows {VERSION}: use the release that wrote it, or move "
            f"{path.name}* away"
        )
    if _schema(connection) != {" ".join(statement.split()) for statement in TABLES}:
        raise damaged(path, "its tables were altered")
    _check_seal(connection, path, tally)


def _check_seal(connection: sqlite3.Connection, path: Path, tally: int) -> None:
    rows = connection.execute("SELECT commits FROM seal").fetchall()
    if len(rows) != 1:
        raise damaged(path, f"its seal has {len(rows)} rows")
    [(commits,)] = rows
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
