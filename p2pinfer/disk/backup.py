"""A copy of a journal that may be in use, made by SQLite itself, and read from end to end before it counts."""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from p2pinfer.core.money.ledger import fold_all
from p2pinfer.core.values.errors import JournalError
from p2pinfer.disk.atomic import new_file, place
from p2pinfer.disk.journal_check import Progress, no_progress
from p2pinfer.disk.journal_file import FAULTS, MODE, connect_copy, connect_reader, is_full
from p2pinfer.disk.journal_reader import JournalReader
from p2pinfer.disk.journal_tables import APPLICATION
from p2pinfer.disk.target import FileKind, cannot_write, check_target

COPY: Final = FileKind("a copy of a journal", ((0, b"SQLite format 3\0"), (68, APPLICATION.to_bytes(4, "big"))))


@dataclass(frozen=True, slots=True)
class Copied:
    """The content of a copy in numbers, for people to compare."""

    file: Path
    size: int  # bytes
    receipts: int
    proposals: int  # which nobody signed in full
    amount: int  # nano-credits of all receipts together
    newest: int | None  # time of the newest receipt, Unix seconds


def back_up(journal: Path, file: Path, progress: Progress = no_progress, *, replace: bool = False) -> Copied:
    """Copy a journal to FILE, whole or not at all; a node or a client may use it meanwhile.

    progress: told how far it is read

    Raises UsageError for a name that cannot be used and where there is no journal, JournalError where the journal is
    damaged, or the disk refuses.
    """
    check_target(file, COPY, journal.parent, replace=replace)
    with closing(connect_reader(journal, progress)) as source:
        try:
            with new_file(file.parent, MODE) as draft:
                with closing(sqlite3.connect(draft)) as target:
                    source.backup(target)  # of one moment; who writes meanwhile is not held up
                    target.execute("PRAGMA journal_mode = DELETE")  # one file, with nothing beside it
                copied = _read(draft, file, progress)
                place(draft, file)
                return copied
        except OSError as error:
            raise cannot_write(file, error.strerror) from None
        except FAULTS as error:
            if is_full(error):
                raise cannot_write(file, error) from None
            raise JournalError(f"cannot copy {journal} to {file}: {error}") from None


def _read(draft: Path, file: Path, progress: Progress) -> Copied:
    """Read all of the copy, and count."""
    with closing(connect_copy(draft, progress)) as connection:
        reader = JournalReader(connection, draft)
        whole, proposals = fold_all(reader.totals()), reader.pending()
        reader.certificates()
        newest = reader.newest()
    return Copied(
        file=file,
        size=draft.stat().st_size,
        receipts=whole.receipts,
        proposals=len(proposals),
        amount=whole.unbacked,  # whoever owes it
        newest=newest,
    )
