"""The roll of the nodes that a user runs on this machine, whatever their data folders: an entry for each.

It lies where nobody but the user gets in, and at best where nothing outlives the machine's next start: in the user's
folder for what runs (XDG_RUNTIME_DIR), else in the temporary directory. Where neither can be trusted there is none. An
entry names a data folder and no more: the lock there says whether its node runs (`whereabouts.py`). A node that was
killed leaves nothing but a name, which the next one removes.
"""

import hashlib
import os
import stat
import tempfile
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Final

from p2pinfer.disk.atomic import write_atomic
from p2pinfer.disk.locks import is_held
from p2pinfer.disk.places import node_lock, runtime_folders
from p2pinfer.disk.plain import read_small
from p2pinfer.system import user_id

MAX_ENTRIES: Final = 64  # nodes of one user; more are found through those
MAX_PATH: Final = 4_096  # bytes of a data folder's
FOLDER_MODE: Final = 0o700
MODE: Final = 0o600
OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
SUFFIX: Final = ".node"


def enter(data: Path) -> str:
    """Put the node that holds the lock of this data folder on the roll; again does nothing.

    Returns a complaint, or nothing. Entries of nodes that ended are removed when one is added.
    """
    if (folder := _place()) is None:
        return "neither XDG_RUNTIME_DIR nor the temporary directory can be trusted to keep others out"
    entry, name = _entry(folder, data), os.fsencode(data.resolve())
    try:
        with suppress(FileExistsError):
            folder.mkdir(FOLDER_MODE)
        if not _is_private(folder):
            return f"{folder} is a link, or others may use it"
        if _data_of(entry) == data.resolve():
            return ""
        if len(name) > MAX_PATH or _is_full(folder):
            return "too many nodes of this user run here, or the folder's name is too long"
        write_atomic(entry, name, MODE)
        _remove_ended(folder)  # last, for a folder among them may be on a mount that hangs
    except OSError as error:
        return f"cannot write in {folder}: {error.strerror}"
    return ""


def leave(data: Path) -> None:
    """The node ends. An entry that stays is of a folder whose lock nobody holds, and leads to nobody."""
    if (folder := _place()) is not None:
        with suppress(OSError):
            _entry(folder, data).unlink()


def entered() -> list[Path]:
    """The data folders on the roll, the last one entered first; MAX_ENTRIES at most. Some nodes may have ended."""
    folder = _place()
    if folder is None or not _is_private(folder):
        return []
    found = [(_entered_s(entry), data) for entry in _entries(folder) if (data := _data_of(entry)) is not None]
    return [data for _, data in sorted(found, reverse=True)]


def _place() -> Path | None:
    """Return the place of the roll if there is one; None where others could put something else in its place."""
    if (user := user_id()) is None:
        return None
    for runtime in filter(_is_private, runtime_folders()):
        return runtime / "p2pinfer"
    try:
        shared = Path(tempfile.gettempdir())
    except OSError:  # none takes a file
        return None
    return shared / f"p2pinfer-{user}" if _keeps_owners(shared) else None


def _is_private(folder: Path) -> bool:
    """It is a folder, no link to one, and its owner's alone, who is us."""
    try:
        seen = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(seen.st_mode) and seen.st_uid == user_id() and not seen.st_mode & OTHERS


def _keeps_owners(shared: Path) -> bool:
    """Nobody but us and the system can rename or remove there what is ours."""
    try:
        seen = shared.stat()
    except OSError:
        return False
    is_safe = bool(seen.st_mode & stat.S_ISVTX) or not seen.st_mode & OTHERS_WRITE
    return is_safe and seen.st_uid in (0, user_id())


def _entry(folder: Path, data: Path) -> Path:
    return folder / (hashlib.sha256(os.fsencode(data.resolve())).hexdigest()[:32] + SUFFIX)


def _entries(folder: Path) -> list[Path]:
    try:
        return list(islice(folder.glob(f"*{SUFFIX}"), MAX_ENTRIES))
    except OSError:  # the system removes the folder when the user's last session ends
        return []


def _entered_s(entry: Path) -> float:
    """Unix seconds."""
    try:
        return entry.lstat().st_mtime
    except OSError:  # its node ended just now
        return 0.0


def _data_of(entry: Path) -> Path | None:
    """The data folder that an entry names; None where it names none."""
    try:
        name = os.fsdecode(read_small(entry, MAX_PATH))
    except OSError:
        return None
    return Path(name) if name.startswith("/") and "\0" not in name else None


def _is_full(folder: Path) -> bool:
    if len(_entries(folder)) < MAX_ENTRIES:
        return False
    _remove_ended(folder)
    return len(_entries(folder)) >= MAX_ENTRIES


def _remove_ended(folder: Path) -> None:
    for entry in _entries(folder):
        data = _data_of(entry)
        if data is None or not is_held(node_lock(data)):
            with suppress(OSError):
                entry.unlink()
