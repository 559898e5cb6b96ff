"""Whatever stands under the name of a file of ours: a sentence, and nobody waits or runs out of memory."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from p2pinfer.core.values.errors import P2pinferError
from p2pinfer.core.values.keys import PrivateKey
from p2pinfer.disk.boots import Boots
from p2pinfer.disk.identity import load_identity, see_identity
from p2pinfer.disk.importing import import_model
from p2pinfer.disk.journal_file import connect_reader, connect_writer
from p2pinfer.disk.key_files import load_key, own_keys
from p2pinfer.disk.plain import open_plain, read_small
from p2pinfer.disk.store import Store
from p2pinfer.disk.tally import open_tally, tally_of
from p2pinfer.node.settings import read_settings
from tests.disk.tiny import tiny_folder

LIMIT = 100
NOW = 1_800_000_000


def make_huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)
    path.chmod(0o600)


ODD: dict[str, tuple[Callable[[Path], object], str]] = {
    "a pipe": (os.mkfifo, "a pipe, and no file: move it away"),
    "a link to a pipe": (lambda path: (os.mkfifo(f"{path}.x"), path.symlink_to(f"{path}.x")), "a pipe, and no file"),
    "a socket": (lambda path: os.mknod(path, stat.S_IFSOCK | 0o600), "a socket, and no file"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "a device, and no file"),
    "a folder": (Path.mkdir, "Is a directory"),
    "a loop": (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
    "a huge file": (make_huge, "more than .*, which no such file needs"),
}
odd = pytest.mark.parametrize(("make", "why"), ODD.values(), ids=ODD)


@odd
def test_what_is_no_small_file_is_said(tmp_path: Path, make: Callable[[Path], object], why: str) -> None:
    make(tmp_path / "x")
    with pytest.raises(OSError, match=why):
        read_small(tmp_path / "x", LIMIT)


@pytest.mark.parametrize("size", [0, 1, LIMIT])
def test_a_small_file_is_read_whole(tmp_path: Path, size: int) -> None:
    (tmp_path / "x").write_bytes(b"x" * size)
    (tmp_path / "link").symlink_to("x")
    assert read_small(tmp_path / "link", LIMIT) == b"x" * size


def test_a_file_longer_than_it_says_is_refused() -> None:
    assert Path("/proc/self/maps").stat().st_size == 0
    with pytest.raises(OSError, match="more than 100 bytes"):
        read_small(Path("/proc/self/maps"), LIMIT)


def test_nothing_stays_open(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for path in (tmp_path / "pipe", tmp_path / "gone", Path("/dev/zero")):
        with pytest.raises(OSError):
            open_plain(path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


# Each file of a data folder, and what else is read whole


@odd
@pytest.mark.parametrize("name", ["node.key", "owner.key"])
def test_an_odd_key_is_named(tmp_path: Path, name: str, make: Callable[[Path], object], why: str) -> None:
    load_identity(tmp_path, NOW)
    (tmp_path / name).unlink()
    make(tmp_path / name)
    with pytest.raises(P2pinferError, match=f"{name}: {why}"):
        load_key(tmp_path / name)
    if not (tmp_path / name).is_symlink() or (tmp_path / name).exists():  # a loop is as good as nothing
        for read in (own_keys, see_identity, lambda folder: load_identity(folder, NOW)):
            with pytest.raises(P2pinferError, match=f"{name}: {why}"):
                read(tmp_path)


@odd
def test_an_odd_certificate_is_named(tmp_path: Path, make: Callable[[Path], object], why: str) -> None:
    load_identity(tmp_path, NOW)
    (tmp_path / "node.cert").unlink()
    make(tmp_path / "node.cert")
    if (tmp_path / "node.cert").exists():
        with pytest.raises(P2pinferError, match=rf"node\.cert: {why}"):
            load_identity(tmp_path, NOW)


@odd
def test_odd_starts_are_named(tmp_path: Path, make: Callable[[Path], object], why: str) -> None:
    make(tmp_path / "boots")
    with pytest.raises(P2pinferError, match=f"boots: {why}"):
        Boots(tmp_path / "boots", bytes(16))


@odd
def test_an_odd_tally_is_named(tmp_path: Path, make: Callable[[Path], object], why: str) -> None:
    journal = tmp_path / "journal.sqlite"
    connect_writer(journal).close()
    make(tally_of(journal))
    for open_it in (connect_writer, connect_reader):
        with pytest.raises(P2pinferError, match=f"tally: {why}"):
            open_it(journal)


@pytest.mark.parametrize("kind", ["a pipe", "a socket", "a device", "a folder", "a loop"])
def test_a_tally_is_not_written_to_what_is_no_file(tmp_path: Path, kind: str) -> None:
    journal = tmp_path / "journal.sqlite"
    ODD[kind][0](tally_of(journal))
    with pytest.raises(P2pinferError, match=r"cannot write .*-tally"):
        open_tally(journal)


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal"])
@pytest.mark.parametrize("kind", ["a pipe", "a link to a pipe", "a socket", "a device", "a folder"])
def test_sqlite_opens_plain_files_alone(tmp_path: Path, suffix: str, kind: str) -> None:
    journal, (make, why) = tmp_path / "journal.sqlite", ODD[kind]
    connect_writer(journal).close()
    path = journal.with_name(journal.name + suffix)
    path.unlink(missing_ok=True)
    make(path)
    for open_it in (connect_writer, connect_reader):
        with pytest.raises(P2pinferError, match=f"{path.name}: {why}"):
            open_it(journal)


def test_what_lies_beside_a_journal_elsewhere_is_looked_at(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "journal.sqlite").symlink_to("disk/journal.sqlite")
    os.mkfifo(tmp_path / "disk" / "journal.sqlite-wal")
    with pytest.raises(P2pinferError, match=r"disk/journal\.sqlite-wal: a pipe"):
        connect_writer(tmp_path / "journal.sqlite")


@odd
def test_odd_settings_are_named(tmp_path: Path, make: Callable[[Path], object], why: str) -> None:
    make(tmp_path / "node.toml")
    with pytest.raises(P2pinferError, match=rf"node\.toml: {why}"):
        read_settings(tmp_path / "node.toml")


@odd
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "README.md"])
def test_an_odd_file_of_a_model_is_named(tmp_path: Path, name: str, make: Callable[[Path], object], why: str) -> None:
    folder = tiny_folder(tmp_path / "Tiny")
    (folder / name).unlink()
    make(folder / name)
    if (folder / name).exists() or name == "config.json":  # a loop is as good as nothing where a file may lack
        with pytest.raises(P2pinferError, match=f"{name}: {why}"):
            import_model(str(folder), Store(tmp_path / "store"))


@pytest.mark.parametrize("kind", ["a pipe", "a link to a pipe", "a socket", "a device", "a folder"])
def test_odd_weights_are_named(tmp_path: Path, kind: str) -> None:
    make, why = ODD[kind]
    folder = tiny_folder(tmp_path / "Tiny")
    (folder / "model.safetensors").unlink()
    make(folder / "model.safetensors")
    with pytest.raises(P2pinferError, match=rf"model\.safetensors: {why}"):
        import_model(str(folder), Store(tmp_path / "store"))


@pytest.mark.parametrize("name", ["manifest", "config.json", "tokenizer.json", "layer-000.safetensors"])
@pytest.mark.parametrize("kind", ["a pipe", "a socket", "a device", "a folder"])
def test_an_odd_file_of_the_store_is_named(tmp_path: Path, name: str, kind: str) -> None:
    make, why = ODD[kind]
    model = import_model(str(tiny_folder(tmp_path / "Tiny")), Store(tmp_path / "store"))
    path, store = model.folder / name, Store(tmp_path / "store")
    path.unlink()
    make(path)
    with pytest.raises(P2pinferError, match=f"cannot read the store: {why}.*{name}"):
        store.read(model.id, name) if name != "manifest" else store.models()


def test_a_key_is_read_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("ab" * 32 + "\n")
    (tmp_path / "elsewhere").chmod(0o600)
    (tmp_path / "node.key").symlink_to("elsewhere")
    assert load_key(tmp_path / "node.key").public == PrivateKey(bytes.fromhex("ab" * 32)).public
