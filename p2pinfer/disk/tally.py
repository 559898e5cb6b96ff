"""A file beside a journal that says what the journal must have: its number of commits, and its state when closed well.

SQLite's write-ahead log ends where its first damaged frame begins, and a log that is gone is a log that was empty: both
look like a journal of some time ago. The number is written after each commit and not waited for, so that it may lag
behind the journal after a power cut, and is never ahead of it.

The process that closes the journal last notes the size of its file, and when that was changed. While these are so, and
the log is empty, nothing was written since: the first commit fills the log. A killed process leaves the log, a power
cut leaves it or no note, and a copy has a time of its own; then the journal has to be proven. A process that has it
open for writing holds a lock on this file. By that others know that it was proven, or closed well, before.
"""

import os
import re
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from p2pinfer.core.values.errors import JournalError
from p2pinfer.disk.plain import open_descriptor, read_small
from p2pinfer.system import NO_LINKS, lock

SUFFIX: Final = "-tally"
LOG: Final = "-wal"  # what SQLite appends to the journal's name for its log
MODE: Final = 0o600
MAX_FILE: Final = 4096  # bytes; what follows the number says nothing
DIGITS: Final = 20  # of a number, which stands there twice: a torn one is none
CLOSED: Final = re.compile(rb"closed ([0-9]{20}) ([0-9]{20})\n")  # size and time; the line after the number
LOOKS: Final = 3  # at a lock that somebody else may be looking at, too,
LOOK_S: Final = 0.002  # and how far apart


def tally_of(journal: Path) -> Path:
    return journal.with_name(journal.name + SUFFIX)


def read_tally(journal: Path) -> int:
    """The number of commits that the journal must have; 0 where nothing says so. Raises OSError."""
    try:
        first, _, second = read_small(tally_of(journal), MAX_FILE)[: 2 * DIGITS + 1].partition(b" ")
    except (FileNotFoundError, NotADirectoryError):
        return 0
    return int(first) if first == second and first.isdigit() else 0


def was_closed_well(journal: Path) -> bool:
    """Nothing was written to the journal since all of it was in its file."""
    try:
        noted = CLOSED.fullmatch(read_small(tally_of(journal), MAX_FILE)[len(_text(0)) :])
        return noted is not None and noted[0] == _state(journal)
    except (OSError, ValueError):
        return False


def is_in_use(journal: Path) -> bool:
    """Somebody has it open for writing, as far as can be told."""
    try:
        descriptor = open_descriptor(tally_of(journal), os.O_RDONLY | NO_LINKS)
    except OSError:
        return False
    try:
        return not any(_is_free(descriptor) for _ in range(LOOKS))
    except OSError:
        return False  # this file system has no locks: nobody can tell
    finally:
        os.close(descriptor)


def open_tally(journal: Path) -> "Tally":
    """Raises JournalError where it cannot be written."""
    try:
        descriptor = open_descriptor(tally_of(journal), os.O_RDWR | os.O_CREAT | NO_LINKS, MODE)
    except OSError as error:
        raise JournalError(f"cannot write {tally_of(journal)}: {error.strerror}") from None
    with suppress(OSError):  # without locks, others prove the journal again
        lock(descriptor, shared=True, wait=True)  # who looks at it holds it for a moment
    return Tally(journal, descriptor)


class Tally:
    """Writes the number for as long as a journal, which is sound, is open for writing; to be closed after it."""

    def __init__(self, journal: Path, descriptor: int) -> None:
        self._journal = journal
        self._descriptor = descriptor

    def write(self, commits: int) -> None:
        """Note a commit, which is done and stays: a number that cannot be noted is left out."""
        with suppress(OSError):
            _write(self._descriptor, _text(commits), 0)

    def close(self) -> None:
        """Note how the journal is, unless somebody else has it open: then it is on them."""
        with suppress(OSError, ValueError):
            _write(self._descriptor, _state(self._journal), len(_text(0)))
        os.close(self._descriptor)


def _write(descriptor: int, data: bytes, place: int) -> None:
    os.lseek(descriptor, place, os.SEEK_SET)
    os.write(descriptor, data)


def _is_free(descriptor: int) -> bool:
    """Raises OSError where there are no locks."""
    try:
        lock(descriptor)
    except BlockingIOError:
        time.sleep(LOOK_S)
        return False
    return True


def _state(journal: Path) -> bytes:
    """Size of the file, and when it was changed. Raises ValueError where not all is in it, and OSError."""
    real = Path(os.path.realpath(journal))
    with suppress(FileNotFoundError):
        if real.with_name(real.name + LOG).stat().st_size:
            raise ValueError("the log holds commits")
    seen = real.stat()
    return b"closed %0*d %0*d\n" % (DIGITS, seen.st_size, DIGITS, seen.st_mtime_ns)


def _text(commits: int) -> bytes:
    return b"%0*d %0*d\n" % (DIGITS, commits, DIGITS, commits)
