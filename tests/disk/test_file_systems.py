"""Data folders on file systems that lack something, or hold something else: a sentence, and nothing is damaged."""

import errno
import fcntl
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from p2pinfer.core.values.errors import JournalError, UsageError
from p2pinfer.disk import atomic, journal_file
from p2pinfer.disk.atomic import write_atomic
from p2pinfer.disk.data_folder import hold_folder, try_folder
from p2pinfer.disk.identity import load_identity
from p2pinfer.disk.journal_file import connect_reader, connect_writer
from p2pinfer.disk.key_files import hold_client_key, load_or_make_key, own_keys
from p2pinfer.disk.locks import LockHeld, hold_lock

NOW = 1_790_000_000
# What file systems answer that do not do what is asked
REFUSALS = [errno.ENOLCK, errno.ENOTSUP, errno.EPERM, errno.EINVAL, errno.ENOSYS, errno.EIO, errno.EACCES]


def refusing(number: int) -> object:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return refuse


# Locks


@pytest.mark.parametrize("number", REFUSALS, ids=errno.errorcode.get)
def test_a_file_system_without_locks_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int) -> None:
    monkeypatch.setattr(fcntl, "flock", refusing(number))
    told = rf"cannot lock {tmp_path}/.*: {os.strerror(number)}; .* --data"
    with pytest.raises(UsageError, match=told), hold_folder(tmp_path):
        pass
    with pytest.raises(UsageError, match=told), hold_client_key(tmp_path):
        pass
    with pytest.raises(UsageError, match=told):
        try_folder(tmp_path)


def test_a_lock_that_is_a_link_is_refused_and_what_it_leads_to_stays(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("data")
    (tmp_path / "node.lock").symlink_to(tmp_path / "precious")
    with pytest.raises(UsageError, match="is a link, and no lock"), hold_folder(tmp_path):
        pass
    assert (tmp_path / "precious").read_text() == "data"


def test_a_lock_that_is_a_hard_link_is_refused_and_what_it_leads_to_stays(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("pid 1\n")
    (tmp_path / "node.lock").hardlink_to(tmp_path / "precious")
    with pytest.raises(UsageError, match="is not a lock of p2pinfer"), hold_folder(tmp_path):
        pass
    assert (tmp_path / "precious").read_text() == "pid 1\n"


def test_a_lock_with_somebodys_data_is_refused_and_stays(tmp_path: Path) -> None:
    (tmp_path / "client.lock").write_text("a lock of another program")
    with pytest.raises(UsageError, match="is not a lock of p2pinfer"), hold_client_key(tmp_path):
        pass
    assert (tmp_path / "client.lock").read_text() == "a lock of another program"


def test_a_lock_that_is_a_folder_or_a_pipe_is_refused(tmp_path: Path) -> None:
    (tmp_path / "node.lock").mkdir()
    os.mkfifo(tmp_path / "client.lock")
    with pytest.raises(UsageError, match="Is a directory"), hold_folder(tmp_path):
        pass
    with pytest.raises(UsageError, match="is not a lock"), hold_client_key(tmp_path):
        pass


def test_a_lock_says_who_holds_it_and_is_used_again(tmp_path: Path) -> None:
    lock = tmp_path / "a.lock"
    with hold_lock(lock), pytest.raises(LockHeld, match=f"pid {os.getpid()}"), hold_lock(lock):
        pass
    with hold_lock(tmp_path / "a.lock"):
        assert (tmp_path / "a.lock").read_text() == f"pid {os.getpid()}\n"


# What else a file system may lack


@pytest.mark.parametrize(
    ("module", "name"), [(os, "fsync"), (os, "fchmod"), (Path, "hardlink_to"), (os, "mkdir"), (os, "ftruncate")]
)
@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOSPC, errno.EROFS, errno.EIO], ids=errno.errorcode.get)
def test_what_cannot_be_written_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, module: object, name: str, number: int
) -> None:
    monkeypatch.setattr(module, name, refusing(number))
    folder = tmp_path / "data"
    with pytest.raises(UsageError, match=rf"{folder}.*: {os.strerror(number)}.* --data"), hold_folder(folder):
        load_identity(folder, NOW)
    assert not (folder / "node.cert").exists()


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS], ids=errno.errorcode.get)
def test_a_file_system_that_cannot_sync_folders_works(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int
) -> None:
    sync = os.fsync

    def files_only(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").is_dir():
            raise OSError(number, os.strerror(number))
        sync(descriptor)

    monkeypatch.setattr(atomic.os, "fsync", files_only)
    write_atomic(tmp_path / "a", b"data")
    assert (tmp_path / "a").read_bytes() == b"data"


def test_a_file_system_that_keeps_no_modes_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "fchmod", lambda descriptor, mode: os.chmod(descriptor, 0o777))  # noqa: PTH101
    with pytest.raises(UsageError, match="keeps no permissions: name a folder on another with --data"):
        load_or_make_key(tmp_path / "node.key")
    with pytest.raises(UsageError, match=rf"{tmp_path}/node.key is open to others"):
        try_folder(tmp_path)


def test_a_file_system_without_a_write_ahead_log_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """SQLite says so by staying in the mode it was in; a database in memory has none either."""
    memory = sqlite3.connect(":memory:", isolation_level=None)
    monkeypatch.setattr(journal_file, "_connect", lambda path, mode: memory)
    with pytest.raises(JournalError, match="cannot keep a write-ahead log: name a folder on another with --data"):
        connect_writer(tmp_path / "journal.sqlite")


def test_a_try_leaves_nothing_behind(tmp_path: Path) -> None:
    try_folder(tmp_path)
    try_folder(tmp_path / "not" / "yet" / "there")
    assert list(tmp_path.iterdir()) == []


# Modes, links and names


def test_a_journal_that_was_open_to_others_is_closed_to_them(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    connect_writer(path).close()
    files = journal_file.files_of(path)
    for file in files:
        file.touch()
        file.chmod(0o644)
    with closing(connect_writer(path)):
        assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


def test_a_journal_may_lie_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "journal.sqlite").symlink_to(tmp_path / "disk" / "journal.sqlite")
    with closing(connect_writer(tmp_path / "journal.sqlite")):
        assert (tmp_path / "disk" / "journal.sqlite").stat().st_size > 0


@pytest.mark.parametrize("name", [b"a\nb", b"\xff\xfe", b"a?mode=ro", b"50%23 #1", "é 🚗".encode(), b" "], ids=ascii)
def test_any_name_of_a_folder_will_do(tmp_path: Path, name: bytes) -> None:
    folder = tmp_path / os.fsdecode(name)
    with hold_folder(folder), hold_client_key(folder) as client:
        identity = load_identity(folder, NOW)
        connect_writer(folder / "journal.sqlite").close()
        connect_reader(folder / "journal.sqlite").close()
        try_folder(folder)
        assert own_keys(folder) == {identity.owner, identity.key.public, client.public}
    assert (folder / "journal.sqlite").stat().st_size > 0


def test_a_name_that_looks_like_an_address_is_a_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    connect_writer(Path("file:x") / "journal.sqlite").close()
    assert (tmp_path / "file:x" / "journal.sqlite").exists()
