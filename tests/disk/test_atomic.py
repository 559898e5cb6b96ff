import os
from pathlib import Path

import pytest

from p2pinfer.disk.atomic import create_atomic, new_file, new_folder, place, sweep, write_atomic


def test_a_file_is_replaced(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a", b"old")
    write_atomic(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"


def test_a_file_has_the_mode_asked_for(tmp_path: Path) -> None:
    write_atomic(tmp_path / "key", b"secret", mode=0o600)
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


def test_a_created_file_replaces_nothing(tmp_path: Path) -> None:
    create_atomic(tmp_path / "a", b"first")
    with pytest.raises(FileExistsError):
        create_atomic(tmp_path / "a", b"second")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"first")]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a", b"old")
    with pytest.raises(RuntimeError), new_file(tmp_path) as draft:
        draft.write_bytes(b"half")
        raise RuntimeError
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"old")]


def test_a_folder_that_was_not_placed_is_gone(tmp_path: Path) -> None:
    with new_folder(tmp_path) as draft:
        (draft / "a").write_bytes(b"half")
    assert list(tmp_path.iterdir()) == []


def test_a_placed_folder_stays(tmp_path: Path) -> None:
    with new_folder(tmp_path) as draft:
        (draft / "a").write_bytes(b"whole")
        place(draft, tmp_path / "model")
    assert (tmp_path / "model" / "a").read_bytes() == b"whole"


def test_only_old_leftovers_are_swept(tmp_path: Path) -> None:
    for name, time in ((".new-old", 1000), (".new-young", 3000), ("data", 1000)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time, time))
    (tmp_path / ".new-folder").mkdir()
    os.utime(tmp_path / ".new-folder", (1000, 1000))
    sweep(tmp_path, older_than=2000)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".new-young", "data"]
