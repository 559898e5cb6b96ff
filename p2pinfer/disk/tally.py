"""The number of commits that a journal must have, in a file beside it: what SQLite lost without a word is missed.

SQLite's write-ahead log ends where its first damaged frame begins, and a log that is gone is a log that was empty: both
look like a journal of some time ago. The number is written after each commit and not waited for, so that it may lag
behind the journal after a power cut, and is never ahead of it.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from p2pinfer.core.errors import JournalError
from p2pinfer.disk.plain import open_descriptor, read_small

SUFFIX: Final = "-tally"
MODE: Final = 0o600
MAX_FILE: Final = 4096  # bytes; what follows the number says nothing
DIGITS: Final = 20  # of a number, which stands there twice: a torn one is none


def tally_of(journal: Path) -> Path:
    return journal.with_name(journal.name + SUFFIX)


def read_tally(journal: Path) -> int:
    """The number of commits that the journal must have; 0 where nothing says so. Raises OSError."""
    try:
        first, _, second = read_small(tally_of(journal), MAX_FILE)[: 2 * DIGITS + 1].partition(b" ")
    except (FileNotFoundError, NotADirectoryError):
        return 0
    return int(first) if first == second and first.isdigit() else 0


def open_tally(journal: Path) -> "Tally":
    """Raises JournalError where it cannot be written."""
    try:
        return Tally(open_descriptor(tally_of(journal), os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, MODE))
    except OSError as error:
        raise JournalError(f"cannot write {tally_of(journal)}: {error.strerror}") from None


class Tally:
    """Writes the number for as long as a journal is open for writing."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, commits: int) -> None:
        """Note a commit, which is done and stays: a number that cannot be noted is left out."""
        with suppress(OSError):
            os.pwrite(self._descriptor, _text(commits), 0)

    def close(self) -> None:
        os.close(self._descriptor)


def _text(commits: int) -> bytes:
    return b"%0*d %0*d\n" % (DIGITS, commits, DIGITS, commits)
