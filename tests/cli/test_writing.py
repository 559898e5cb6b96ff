"""The commands that write where their user says destroy nothing of ours."""

import errno
import os
import sqlite3
from pathlib import Path

import pytest

from p2pinfer.disk import backup as backup_module
from p2pinfer.disk import journal as journal_module
from p2pinfer.disk.journal_check import Progress
from p2pinfer.disk.journal_file import connect_writer
from tests.cli.books import Shell, node_folder, paid
from tests.disk.test_target import OURS

# Each statement takes more room than there is
FILL = "CREATE TEMP TRIGGER fill AFTER INSERT ON main.statement BEGIN INSERT INTO room VALUES (zeroblob(1 << 20)); END"


@pytest.mark.parametrize("name", [*(name for name in OURS if not name.startswith("client")), "client.sqlite"])
@pytest.mark.parametrize("words", [["backup"], ["earnings", "export"]], ids=" ".join)
def test_no_command_destroys_a_data_folder(p2pinfer: Shell, tmp_path: Path, words: list[str], name: str) -> None:
    data = node_folder(tmp_path / "data", [paid(1)])
    if not (data / name).exists() and "sqlite-" not in name:
        (data / name).touch()
    (tmp_path / "link").symlink_to(data / name)
    before = {path: path.read_bytes() for path in data.iterdir()}
    for file in (data / name, tmp_path / "link"):
        ran = p2pinfer(*words, file, "--force", "--data", data)
        assert (ran.code, "choose another name" in ran.err) == (2, True)
    assert {path: path.read_bytes() for path in data.iterdir()} == before


@pytest.mark.parametrize("words", [["backup"], ["earnings", "export"]], ids=" ".join)
def test_commands_replace_what_they_wrote_and_not_each_others(
    p2pinfer: Shell, tmp_path: Path, words: list[str]
) -> None:
    data = node_folder(tmp_path / "data", [paid(1)])
    for _ in range(2):
        assert p2pinfer(*words, tmp_path / "file", "--force", "--data", data).code == 0
    other = ["backup"] if words != ["backup"] else ["earnings", "export"]
    ran = p2pinfer(*other, tmp_path / "file", "--force", "--data", data)
    assert (ran.code, "choose another name, or remove it yourself" in ran.err) == (2, True)


# Full disks


def test_an_export_to_a_full_disk_says_where_to_make_room(
    p2pinfer: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    data = node_folder(tmp_path / "data", [paid(1)])
    monkeypatch.setattr(Path, "write_bytes", refuse)
    ran = p2pinfer("earnings", "export", tmp_path / "file", "--data", data)
    why = f"cannot write {tmp_path}/file: No space left on device; make room in {tmp_path}, or name a file elsewhere"
    assert (ran.code, ran.err) == (1, f"Error: {why}\n")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_an_export_from_a_full_disk_says_where_to_make_room(
    p2pinfer: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(path: Path, progress: Progress) -> sqlite3.Connection:
        connection = connect_writer(path, progress)
        connection.execute("CREATE TEMP TABLE room (data BLOB)")
        connection.execute("PRAGMA temp.max_page_count = 4")
        connection.execute(FILL)
        return connection

    data = node_folder(tmp_path / "data", [paid(1)])
    monkeypatch.setattr(journal_module, "connect_writer", connect)
    ran = p2pinfer("earnings", "export", tmp_path / "file", "--data", data)
    assert (ran.code, ran.err) == (1, f"Error: not stored: the disk of {data} is full: make room there\n")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_backup_to_a_full_disk_says_where_to_make_room(
    p2pinfer: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(path: Path) -> sqlite3.Connection:
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA max_page_count = 1")
        return connection

    data = node_folder(tmp_path / "data", [paid(1)])
    monkeypatch.setattr(backup_module, "sqlite3", type("full", (), {"connect": staticmethod(connect)}))
    ran = p2pinfer("backup", tmp_path / "file", "--data", data)
    assert ran.code == 1
    assert f"cannot write {tmp_path}/file: database or disk is full; make room in {tmp_path}, or name" in ran.err
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
