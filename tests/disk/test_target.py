"""What a command may write where its user says: never a file of ours, and nothing but its own kind."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from p2pinfer.core.values.errors import UsageError
from p2pinfer.disk.target import FileKind, check_target

NOTE = FileKind("a note", ((0, b"note"), (8, b"!!")))
LETTER = b"note 123!! and what else it says"
OURS = (
    *("owner.key", "node.key", "client.key", "client-12.key", "node.cert", "boots", "node.lock", "client-3.lock"),
    *(f"{name}.sqlite{end}" for name in ("journal", "client") for end in ("", "-wal", "-shm", "-journal", "-tally")),
)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder; all its files begin as a note does, so that nothing but their names keeps them."""
    folder = tmp_path / "data"
    folder.mkdir()
    for name in OURS:
        (folder / name).write_bytes(LETTER)
    return folder


def refused(file: Path, data: Path, why: str, replace: bool = True) -> None:
    with pytest.raises(UsageError, match=why):
        check_target(file, NOTE, data, replace=replace)


def allowed(file: Path, data: Path) -> None:
    check_target(file, NOTE, data, replace=True)


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("name", OURS)
def test_no_file_of_a_data_folder_is_written_over(data: Path, tmp_path: Path, name: str, replace: bool) -> None:
    why = "belongs to the data folder .*, and is never written over: choose another name"
    (tmp_path / "link").symlink_to(data / name)
    (tmp_path / "hard").hardlink_to(data / name)
    (tmp_path / "folder").symlink_to(data)
    for file in (data / name, tmp_path / "link", tmp_path / "hard", tmp_path / "folder" / name, data / name.upper()):
        refused(file, data, why, replace)


@pytest.mark.parametrize("name", OURS)
def test_nothing_is_put_where_a_data_folder_would_have_a_file(tmp_path: Path, name: str) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "node.lock").touch()
    for folder in (tmp_path, tmp_path / "other"):  # that which the command reads, and somebody else's
        refused(folder / name, tmp_path, "belongs to the data folder")


def test_a_data_folder_may_hold_what_is_not_ours(data: Path) -> None:
    allowed(data / "november.note", data)
    (data / "november.note").write_bytes(LETTER)
    allowed(data / "november.note", data)


def test_a_name_of_ours_elsewhere_is_nobodys(data: Path, tmp_path: Path) -> None:
    (tmp_path / "owner.key").touch()  # where an owner keeps it, and copies of the journal
    allowed(tmp_path / "journal.sqlite", data)
    allowed(tmp_path / "journal.sqlite", tmp_path / "no such folder")


@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal", "-tally"])
def test_a_journal_of_another_name_is_known_by_what_is_beside_it(data: Path, tmp_path: Path, suffix: str) -> None:
    (tmp_path / "mine").write_bytes(LETTER)
    refused(tmp_path / f"mine{suffix}", data, "belongs to the journal .*mine, and")
    (tmp_path / f"mine{suffix}").write_bytes(LETTER)
    refused(tmp_path / f"mine{suffix}", data, "belongs to the journal .*mine, and")
    refused(tmp_path / "mine", data, f"belongs to a journal in use, as mine{suffix} says")


def test_nothing_is_put_among_the_files_of_a_model(data: Path, tmp_path: Path) -> None:
    model = tmp_path / "store" / "models" / ("0a" * 32)
    model.mkdir(parents=True)
    (model / "tokenizer.json").write_bytes(LETTER)
    (tmp_path / "link").symlink_to(model / "tokenizer.json")
    for file in (model / "tokenizer.json", model / "new", tmp_path / "link", model.with_name("0b" * 32)):
        refused(file, data, "belongs to a model in a store")
    allowed(tmp_path / "store" / "note", data)


@pytest.mark.parametrize("content", [b"", b"note", b"note 123!", b"mine and not a note", b"NOTE 123!!"])
def test_another_kind_of_file_is_not_replaced(data: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    for replace in (False, True):
        refused(tmp_path / "file", data, "is not a note: choose another name, or remove it yourself", replace)


def test_its_own_kind_is_replaced_where_that_is_asked_for(data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(LETTER)
    refused(tmp_path / "file", data, "exists: choose another name, or replace it with --force", replace=False)
    allowed(tmp_path / "file", data)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda path: path.symlink_to("elsewhere"), "is a link: give the name of the file itself"),
        (lambda path: path.symlink_to(path), "is a link"),
        (lambda path: (path.with_name("note").write_bytes(LETTER), path.symlink_to("note")), "is a link"),
        (Path.mkdir, "is a folder: give the name of a file"),
        (os.mkfifo, "is not a file: give the name of one"),
    ],
    ids=["a dangling link", "a loop", "a link to a note", "a folder", "a pipe"],
)
def test_what_is_no_file_is_said(data: Path, tmp_path: Path, make: Callable[[Path], object], why: str) -> None:
    make(tmp_path / "file")
    refused(tmp_path / "file", data, why)


def test_a_folder_that_is_not_there_is_said(data: Path, tmp_path: Path) -> None:
    refused(tmp_path / "no" / "file", data, "there is no folder")
    refused(tmp_path / ("n" * 300), data, "File name too long; choose another name")
