"""A node's data folder: held by one node alone, tried before it is used, and as it was where a first start fails.

node.lock names the process that has it.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from p2pinfer.core.values.errors import P2pinferError, UsageError
from p2pinfer.disk.atomic import new_folder
from p2pinfer.disk.key_files import cannot_use, load_or_make_key, make_folder
from p2pinfer.disk.locks import LockHeld, hold_lock
from p2pinfer.disk.places import is_there, node_boots, node_journal, node_lock, node_network, node_ports
from p2pinfer.system import others_in

LOOKED_S: Final = 0.05  # after which nobody who only looked at the lock holds it, unless others look, too
LOOKS: Final = 3  # such waits
OTHERS_WRITE: Final = 0o022


@contextmanager
def hold_folder(folder: Path) -> Iterator[None]:
    """Use the folder as a node, alone, until the block ends or the process dies.

    Raises UsageError naming the process that has it.
    """
    make_folder(folder)
    with ExitStack() as stack:
        try:
            stack.enter_context(_held_again(node_lock(folder)))
        except LockHeld as holder:
            raise UsageError(
                f"the data folder {folder} is in use by node {holder}: give each node a folder with --data"
            ) from None
        yield


@contextmanager
def _held_again(path: Path) -> Iterator[None]:
    """The lock, asked for several times: who looked if a node runs may just have held a share of it."""
    with ExitStack() as stack:
        for _ in range(LOOKS):
            try:
                stack.enter_context(hold_lock(path))
                break
            except LockHeld:
                time.sleep(LOOKED_S)
        else:
            stack.enter_context(hold_lock(path))
        yield


@contextmanager
def undone_unless_kept(folder: Path) -> Iterator[Callable[[], None]]:
    """Remove what a first start made in the folder, unless the function that is given is called in the block.

    Nothing is removed from a folder that had an identity or a journal before.
    """
    journal = node_journal(folder)
    paths = [folder / name for name in ("node.key", "node.cert", "owner.key")]
    paths += [place(folder) for place in (node_boots, node_ports, node_network)]
    paths += [journal.with_name(f"{journal.name}{end}") for end in ("", "-wal", "-shm", "-tally")]
    kept = [path for path in paths if is_there(path)]
    try:
        yield lambda: kept.append(folder)
    finally:
        if not kept:
            for path in paths:
                with suppress(OSError):  # what cannot be removed is in nobody's way
                    path.unlink(missing_ok=True)


def is_open_to_others(folder: Path) -> bool:
    """Other users of the machine can replace what is in the folder."""
    return bool(others_in(folder.stat().st_mode) & OTHERS_WRITE)


def try_folder(folder: Path) -> None:
    """Try what a node needs of a data folder: locks, links, modes, a journal. What is made for that is gone afterwards.

    A folder that is not there yet is tried where it would be made. Raises UsageError or JournalError in the words of
    a start.
    """
    from p2pinfer.disk.journal_file import connect_writer  # who only reads keys, as a verifier does, needs no SQLite

    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if is_there(path))
    try:
        with new_folder(there) as trial:
            try:
                with hold_lock(trial / "node.lock"):
                    load_or_make_key(trial / "node.key")
                    connect_writer(trial / "journal.sqlite").close()
            except P2pinferError as error:
                raise type(error)(str(error).replace(str(trial), str(folder))) from None
    except OSError as error:
        raise cannot_use(folder, error) from None
