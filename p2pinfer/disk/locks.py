"""Locks that the kernel gives back when a process dies, on files that say who holds them.

Not every file system has them: some network file systems answer with an error, and that is said in words.
"""

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from p2pinfer.core.values.errors import UsageError
from p2pinfer.system import NO_LINKS, SAFE, lock, open_folder

MODE: Final = 0o600
HOLDER: Final = re.compile(rb"(pid \d+\n)?")  # what we write into a lock; anything else is somebody's data


class LockHeld(Exception):
    """Another process holds the lock. The message says which."""


@contextmanager
def hold_lock(path: Path) -> Iterator[None]:
    """Hold the lock until the block ends or the process dies.

    Raises:
        LockHeld: another process holds it.
        UsageError: there can be no lock at that place; the message says why, and what to do.
    """
    try:
        # A link might lead to a file that is somebody's data, and a pipe would wait for its other end
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | NO_LINKS | SAFE, MODE)
    except OSError as error:
        if path.is_symlink():
            raise UsageError(f"{path} is a link, and no lock of p2pinfer: remove it") from None
        raise _cannot_use(path.parent, error) from None
    try:
        _take(descriptor, path)
        yield
    finally:
        os.close(descriptor)


def is_held(path: Path) -> bool:
    """Some process holds the lock, as far as can be told. To find out, we hold a share of it for a moment."""
    try:
        descriptor = os.open(path, os.O_RDONLY | NO_LINKS | SAFE)
    except OSError:
        return False
    try:
        lock(descriptor, shared=True)
    except OSError:
        return True  # or this file system has no locks, and cannot tell
    finally:
        os.close(descriptor)
    return False


@contextmanager
def hold_share(folder: Path) -> Iterator[None]:
    """Keep others from holding a folder alone; where it cannot be locked, nobody is kept from it."""
    with _folder_lock(folder, shared=True):
        yield


@contextmanager
def hold_alone(folder: Path) -> Iterator[None]:
    """Hold a folder of which nobody holds a share, as far as can be told. Raises LockHeld."""
    with _folder_lock(folder, shared=False):
        yield


@contextmanager
def _folder_lock(folder: Path, *, shared: bool) -> Iterator[None]:
    if (descriptor := open_folder(folder)) is None:
        yield
        return
    try:
        try:
            lock(descriptor, shared=shared)
        except BlockingIOError:
            raise LockHeld("another process") from None
        except OSError:
            pass  # this file system has no locks
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int, path: Path) -> None:
    try:
        lock(descriptor)
    except BlockingIOError:
        raise LockHeld(_written(descriptor).decode(errors="replace").strip() or "another process") from None
    except OSError as error:
        raise UsageError(
            f"cannot lock {path}: {error.strerror}; the file system of that folder has no locks: "
            "name a folder on another with --data"
        ) from None
    seen = os.fstat(descriptor)
    if not stat.S_ISREG(seen.st_mode) or seen.st_nlink > 1 or not HOLDER.fullmatch(_written(descriptor)):
        raise UsageError(f"{path} is not a lock of p2pinfer, and is left as it is: move it away")
    try:
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, b"pid %d\n" % os.getpid())
    except OSError as error:
        raise _cannot_use(path.parent, error) from None


def _written(descriptor: int) -> bytes:
    os.lseek(descriptor, 0, os.SEEK_SET)
    return os.read(descriptor, 64)


def _cannot_use(folder: Path, error: OSError) -> UsageError:
    return UsageError(f"cannot use the data folder {folder}: {error.strerror}; name another with --data")
