"""Plain files alone: whatever stands under a file's name is looked at before it is read.

A pipe under the name of a key holds a start up until somebody writes to it, and no signal helps; a device, or a file
that grows, takes all memory. So nothing of a data folder or a store, no settings and no model is opened but through
here. Statements are the exception: they are read up to a bound, and may come out of a pipe.

Raises OSError throughout, with `strerror` in words, so that who knows what the file is for can say what to do.
"""

import errno
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from io import BufferedReader
from pathlib import Path
from typing import Final

from p2pinfer.system import SAFE

CHUNK: Final = 1 << 16  # bytes
KINDS: Final = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def read_small(path: Path, limit: int) -> bytes:
    """All bytes of a file of `limit` bytes at most."""
    with open_plain(path) as file:
        data = file.read(min(os.fstat(file.fileno()).st_size, limit) + 1)  # takes as much memory as it is asked for
        while len(data) <= limit and (more := file.read(CHUNK)):  # it is longer than it says, or grows meanwhile
            data += more
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"more than {_size_words(limit)}, which no such file needs", str(path))
    return data


def open_plain(path: Path) -> BufferedReader:
    """The file, for reading."""
    return os.fdopen(open_descriptor(path, os.O_RDONLY), "rb")


def open_descriptor(path: Path, flags: int, mode: int = 0o600) -> int:
    """A descriptor of the file; `mode` is that of one that the flags make."""
    check_plain([path])  # before it is opened: some devices act when they are
    descriptor = os.open(path, flags | SAFE, mode)  # what came there meanwhile does not hold us up
    try:
        _check(path, os.fstat(descriptor))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def check_plain(paths: Iterable[Path]) -> None:
    """Nothing but files stands under these names, if anything does."""
    for path in paths:
        with suppress(FileNotFoundError, NotADirectoryError):
            _check(path, path.stat())


def _check(path: Path, seen: os.stat_result) -> None:
    kind = stat.S_IFMT(seen.st_mode)
    if kind == stat.S_IFDIR:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if kind != stat.S_IFREG:
        raise OSError(errno.EINVAL, f"{KINDS.get(kind, 'something else')}, and no file: move it away", str(path))


def _size_words(size: int) -> str:
    return f"{size >> 20} MiB" if size >= 1 << 20 else f"{size} bytes"
