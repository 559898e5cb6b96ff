"""`p2pinfer backup`: a copy, and what is in it and what is not."""

import json
from pathlib import Path

import pytest

from p2pinfer.disk.journal_reader import read_journal
from p2pinfer.disk.places import node_journal
from tests.cli.books import Shell, amount, client_folder, node_folder, paid

ENTRIES = [paid(number) for number in range(3)]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return node_folder(tmp_path / "data", ENTRIES)


def test_people_are_told_what_is_in_a_copy_and_what_is_not(p2pinfer: Shell, data: Path, tmp_path: Path) -> None:
    ran = p2pinfer("backup", tmp_path / "copy", "--data", data)
    assert (ran.code, ran.err) == (0, "")
    words = " ".join(ran.out.split())
    assert f"{tmp_path / 'copy'}: a checked copy of {node_journal(data)}" in words
    assert "holds 3 receipts" in words
    assert "not the keys in" in words
    assert f"end what uses {data}, move journal.sqlite* away" in words
    assert "never let a restored copy sign beside the original" in words


def test_programs_get_one_object(p2pinfer: Shell, data: Path, tmp_path: Path) -> None:
    plain = json.loads(p2pinfer("backup", tmp_path / "copy", "--data", data, "--json").out)
    assert (plain["receipts"], plain["amount_ncr"], plain["unsigned"]) == (3, amount(ENTRIES), 0)
    assert plain["bytes"] == (tmp_path / "copy").stat().st_size


def test_a_restored_copy_is_a_journal(p2pinfer: Shell, data: Path, tmp_path: Path) -> None:
    """As the command says it: away with what is there, and the copy in its place."""
    p2pinfer("backup", tmp_path / "copy", "--data", data)
    before = p2pinfer("earnings", "--data", data).out
    for path in data.glob("journal.sqlite*"):
        path.unlink()
    (tmp_path / "copy").rename(node_journal(data))
    assert p2pinfer("earnings", "--data", data).out == before


def test_what_clients_pay_is_copied_where_that_is_asked_for(p2pinfer: Shell, tmp_path: Path) -> None:
    data = client_folder(tmp_path / "data", ENTRIES)
    assert "there is no journal at" in p2pinfer("backup", tmp_path / "copy", "--data", data).err
    assert p2pinfer("backup", tmp_path / "copy", "--journal", "client", "--data", data).code == 0
    with read_journal(tmp_path / "copy") as reader:
        assert len(reader.earned()) == 3


def test_a_file_is_replaced_only_with_force(p2pinfer: Shell, data: Path, tmp_path: Path) -> None:
    assert p2pinfer("backup", tmp_path / "copy", "--data", data).code == 0
    ran = p2pinfer("backup", tmp_path / "copy", "--data", data)
    assert (ran.code, "--force" in ran.err) == (2, True)
    assert p2pinfer("backup", tmp_path / "copy", "--data", data, "--force").code == 0
