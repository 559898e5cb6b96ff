"""Files that are there whole or not at all, whatever stops the machine (see also store.py, key_files.py).

A file is written beside its place, made durable and renamed into it; a folder is built in a folder of its own and
renamed. An interrupted write leaves a name that starts with `.new-` and is nobody's data.
"""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from p2pinfer.system import open_folder, set_mode

PREFIX: Final = ".new-"
NO_SYNC: Final = frozenset({errno.EINVAL, errno.ENOTSUP, errno.ENOSYS})


def write_atomic(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Put `data` at `path`, replacing what was there; durable when this returns."""
    with new_file(path.parent, mode) as draft:
        draft.write_bytes(data)
        place(draft, path)


def create_atomic(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Put `data` at `path`, where nothing may be yet; durable when this returns.

    Raises:
        FileExistsError: somebody was faster; their file stands.
    """
    with new_file(path.parent, mode) as draft:
        draft.write_bytes(data)
        sync(draft)
        path.hardlink_to(draft)  # unlike a rename, a link never replaces
    sync(path.parent)


@contextmanager
def new_file(folder: Path, mode: int = 0o644) -> Iterator[Path]:
    """An empty file in `folder`, gone at the end of the block unless it was placed."""
    descriptor, name = tempfile.mkstemp(prefix=PREFIX, dir=folder)
    path = Path(name)
    try:
        try:
            set_mode(descriptor, mode)
        finally:
            os.close(descriptor)
        yield path
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def new_folder(parent: Path) -> Iterator[Path]:
    """An empty folder in `parent`, gone with all it holds at the end of the block unless it was placed."""
    path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    try:
        path.chmod(0o755)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)  # what cannot be removed now is swept later


def place(draft: Path, path: Path) -> None:
    """Make `draft`, a file or an empty or full folder, durable and rename it to `path`."""
    if draft.is_dir():
        for item in draft.iterdir():
            sync(item)
    sync(draft)
    draft.replace(path)  # Windows renames nothing to a name that is taken
    sync(path.parent)


def sync(path: Path) -> None:
    """Wait until the file or folder at `path` is on the disk."""
    # Windows makes nothing durable that is open for reading alone
    if (descriptor := open_folder(path) if path.is_dir() else os.open(path, os.O_RDWR)) is None:
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NO_SYNC or not path.is_dir():
            raise
        # some file systems know no such thing for folders, and there is nothing else to wait for
    finally:
        os.close(descriptor)


def sweep(folder: Path, older_than: float) -> None:
    """Remove what interrupted writes left in `folder` before `older_than` (Unix seconds)."""
    for path in folder.glob(f"{PREFIX}*"):
        try:
            if path.lstat().st_mtime >= older_than:
                continue
        except FileNotFoundError:
            continue  # its writer finished just now
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):  # another user's; what cannot be removed now is swept later
                path.unlink()
