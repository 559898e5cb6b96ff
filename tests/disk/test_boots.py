"""The file of a node's starts: it knows each, forgets the oldest, and says what is wrong with it."""

from pathlib import Path

import pytest

from p2pinfer.core.values.errors import JournalError
from p2pinfer.disk.boots import AHEAD, KEPT, Boots


def boot_of(number: int) -> bytes:
    return number.to_bytes(16, "big")


def test_a_start_knows_the_offers_of_those_before_it(tmp_path: Path) -> None:
    path = tmp_path / "boots"
    first = Boots(path, boot_of(1))
    assert first.past == {}
    for seq in range(1, 2 * AHEAD + 1):
        assert first.is_due == (seq in (1, AHEAD + 1))
        if first.is_due:
            first.note()
        assert Boots(path, boot_of(2)).past[boot_of(1)] >= seq  # noted before it is made
        assert first.next_seq() == seq
    second = Boots(path, boot_of(2))
    second.note()
    assert Boots(path, boot_of(3)).past == {boot_of(1): 2 * AHEAD, boot_of(2): AHEAD}
    assert second.past == {boot_of(1): 2 * AHEAD}


def test_an_offer_that_could_not_be_noted_is_still_to_be(tmp_path: Path) -> None:
    boots = Boots(tmp_path / "gone" / "boots", boot_of(1))
    with pytest.raises(JournalError):
        boots.note()
    boots.next_seq()
    assert boots.is_due


def test_a_node_that_offers_nothing_leaves_no_file(tmp_path: Path) -> None:
    Boots(tmp_path / "boots", boot_of(1))
    assert not list(tmp_path.iterdir())


def test_the_oldest_starts_are_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "boots"
    path.write_text("".join(f"{boot_of(number).hex()} 7\n" for number in range(KEPT)))
    Boots(path, boot_of(KEPT)).note()
    past = Boots(path, boot_of(KEPT + 1)).past
    assert list(past) == [boot_of(number) for number in range(1, KEPT + 1)]


@pytest.mark.parametrize(
    "data",
    [b"ab", b"ab cd\n", b"00 1 2\n", b"\xff\n", b"ab 1\n", b"0" * 32 + b" -1\n", b"0" * 32 + b" " + b"9" * 17 + b"\n"],
)
def test_a_damaged_file_is_named(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "boots"
    path.write_bytes(data)
    with pytest.raises(JournalError, match="boots is damaged: remove it; the node makes a new one"):
        Boots(path, boot_of(1))


def test_a_place_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match=r"cannot read .*: Is a directory"):
        Boots(tmp_path, boot_of(1))
    boots = Boots(tmp_path / "gone" / "boots", boot_of(1))
    with pytest.raises(JournalError, match=r"cannot write .*: No such file"):
        boots.note()
