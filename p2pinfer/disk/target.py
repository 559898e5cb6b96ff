"""The file that a user names for us to write: one place decides, for every command, whether it may be written.

Nothing goes there that belongs to a data folder or a store: a copy over a key, or beside a journal under the name of
its log, destroys what nobody can restore, and the command ends with 0. And no file of another kind is replaced: --force
puts this month's statement in the place of the last. A file that somebody names by mistake is theirs to remove.
"""

import os
import re
import stat
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

from p2pinfer.core.values.errors import JournalError, UsageError
from p2pinfer.disk.plain import open_plain
from p2pinfer.disk.store import ID

# Names in a data folder, in any case: to some file systems it makes no difference
OURS: Final = re.compile(
    r"(owner|node|client(-\d+)?)\.(key|cert|lock)|boots|(journal|client)\.sqlite(-\w+)?", re.IGNORECASE
)
# Of a data folder; owner.key may be kept elsewhere, beside copies of the journal
MARKS: Final = ("node.key", "node.cert", "node.lock", "client.key", "client.lock")
BESIDE: Final = ("-wal", "-shm", "-journal", "-tally")  # a journal of whatever name, while it is open or was left so


@dataclass(frozen=True, slots=True)
class FileKind:
    """A kind of file that we write. name: with its article; marks: bytes that each one has, by their place"""

    name: str
    marks: tuple[tuple[int, bytes], ...]

    def has_begun(self, file: Path) -> bool:
        """The file is one, as far as its beginning tells."""
        with open_plain(file) as opened:
            data = opened.read(max(at + len(mark) for at, mark in self.marks))
        return all(data[at:].startswith(mark) for at, mark in self.marks)


def check_target(file: Path, kind: FileKind, data: Path, *, replace: bool) -> None:
    """Raise UsageError where `file` must not be written, with what to do about it.

    data:    the data folder that the command reads
    replace: --force was given
    """
    try:
        if not file.parent.is_dir():
            raise UsageError(f"there is no folder {file.parent}: make it first")
        for path in (Path(os.path.realpath(file.parent)) / file.name, Path(os.path.realpath(file))):
            if whose := _owner(path, data):
                raise UsageError(f"{file} belongs to {whose}, and is never written over: choose another name")
        with suppress(FileNotFoundError):
            _check_old(file, kind, os.lstat(file).st_mode, replace)
    except OSError as error:
        raise UsageError(f"cannot look at {file}: {error.strerror}; choose another name") from None


def cannot_write(file: Path, why: object) -> JournalError:
    """The error of a disk that refused, with what to do about it."""
    return JournalError(f"cannot write {file}: {why}; make room in {file.parent}, or name a file elsewhere")


def _owner(path: Path, data: Path) -> str | None:
    """Return whose the file is, or would be by its name. path: with no link in it, but perhaps a hard one itself"""
    folder = path.parent
    if any(first == "models" and ID.fullmatch(second) for first, second in pairwise(path.parts)):
        return "a model in a store"
    if OURS.fullmatch(path.name) and (_is_same(folder, data) or any((folder / mark).exists() for mark in MARKS)):
        return f"the data folder {folder}"
    for place in (folder, data):
        if any(_is_same(path, own) for own in _own_files(place)):
            return f"the data folder {place}"
    for suffix in BESIDE:
        if (beside := path.with_name(path.name + suffix)).exists():
            return f"a journal in use, as {beside.name} says"
        if path.name.endswith(suffix) and (journal := path.with_name(path.name.removesuffix(suffix))).exists():
            return f"the journal {journal}"
    return None


def _own_files(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if OURS.fullmatch(path.name)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _is_same(first: Path, second: Path) -> bool:
    """Both names mean one file or folder; what is not there, or a link to itself, is none."""
    try:
        return first.samefile(second)
    except OSError:
        return False


def _check_old(file: Path, kind: FileKind, mode: int, replace: bool) -> None:
    """Raise unless what is there may go. mode: what it is"""
    if stat.S_ISLNK(mode):
        raise UsageError(f"{file} is a link: give the name of the file itself, or remove the link")
    if stat.S_ISDIR(mode):
        raise UsageError(f"{file} is a folder: give the name of a file")
    if not stat.S_ISREG(mode):
        raise UsageError(f"{file} is not a file: give the name of one")
    if not kind.has_begun(file):
        raise UsageError(f"{file} exists, and is not {kind.name}: choose another name, or remove it yourself")
    if not replace:
        raise UsageError(f"{file} exists: choose another name, or replace it with --force")
