"""Boundary trees against RFC 6962's definition and the Certificate Transparency project's known roots."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pinfer.core.records.tree import EMPTY_ROOT, MAX_WAITING, RowTree, Salt, Tree, leaf_of, split_rows

ENTRIES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
LEAVES = [leaf_of(bytes.fromhex(entry)) for entry in ENTRIES]
SALT = Salt(bytes(range(32)))


def defined(leaves: list[bytes]) -> bytes:
    """RFC 6962, 2.1, word for word."""
    if len(leaves) < 2:
        return leaves[0] if leaves else sha256(b"").digest()
    k = 1 << ((len(leaves) - 1).bit_length() - 1)
    return sha256(b"\1" + defined(leaves[:k]) + defined(leaves[k:])).digest()


@pytest.mark.parametrize("size", range(9))
def test_known_roots(size: int) -> None:
    assert Tree(LEAVES).root(size).hex() == ROOTS[size]


@given(st.lists(st.binary(min_size=32, max_size=32), max_size=70), st.data())
def test_a_root_of_any_earlier_size_is_as_defined(leaves: list[bytes], data: st.DataObject) -> None:
    tree = Tree(leaves)
    for size in (len(leaves), data.draw(st.integers(0, len(leaves)))):
        assert tree.root(size) == defined(leaves[:size])


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 20)), max_size=20))
def test_any_order_of_adding_and_cutting_gives_the_defined_root(changes: list[tuple[bool, int]]) -> None:
    tree, leaves = Tree(), list[bytes]()
    for number, (grow, count) in enumerate(changes):
        if grow:
            more = [leaf_of(b"%d %d" % (number, i)) for i in range(count)]
            tree.add(more)
            leaves += more
        else:
            tree.cut(min(count, len(leaves)))
            del leaves[count:]
        assert tree.root() == defined(leaves)


@pytest.mark.parametrize("size", [-1, 9])
def test_a_root_over_leaves_that_are_not_there_is_our_bug(size: int) -> None:
    with pytest.raises(ValueError, match="of 8 leaves"):
        Tree(LEAVES).root(size)


def test_no_leaves_have_the_hash_of_nothing() -> None:
    assert Tree().root() == EMPTY_ROOT


def test_a_leaf_binds_secret_position_and_row() -> None:
    leaves = {SALT.leaf(0, b"row"), SALT.leaf(1, b"row"), SALT.leaf(0, b"wor"), Salt(bytes(32)).leaf(0, b"row")}
    assert len(leaves) == 4
    assert SALT.leaf(5, b"row") == sha256(b"\0" + bytes(range(32)) + b"\0\0\0\5" + sha256(b"row").digest()).digest()


@given(st.integers(0, 1000), st.integers(1, 20), st.integers(1, 30))
def test_rows_together_have_the_leaves_of_rows_alone(position: int, count: int, size: int) -> None:
    rows = bytes(range(256)) * 3
    rows = rows[: count * size]
    alone = [SALT.leaf(position + i, rows[i * size : (i + 1) * size]) for i in range(count)]
    assert SALT.leaves(position, split_rows(rows, count)) == alone


def test_bytes_that_are_no_rows_are_our_bug() -> None:
    with pytest.raises(ValueError, match="are not 2 rows"):
        split_rows(b"123", 2)


def test_a_secret_of_another_length_is_our_bug() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Salt(b"short")


# Rows, which wait to be hashed


def row(at: int) -> bytes:
    """A row of which not many may wait."""
    return at.to_bytes(2, "big") * (MAX_WAITING // 10)


def leaves(positions: range) -> list[bytes]:
    return [SALT.leaf(at, row(at)) for at in positions]


@given(st.integers(0, 9), st.lists(st.tuples(st.sampled_from(["add", "cut", "root"]), st.integers(1, 8)), max_size=20))
def test_when_rows_are_hashed_changes_no_root(first: int, steps: list[tuple[str, int]]) -> None:
    late, now = RowTree(SALT, first), Tree()
    for step, count in steps:
        if step == "add":
            new = range(late.next, late.next + count)
            late.add(b"".join(map(row, new)), count)
            now.add(leaves(new))
        elif step == "cut":
            late.cut(max(first, late.next - count))
            now.cut(max(0, len(now) - count))
        else:
            assert late.root(max(first, late.next - count)) == now.root(max(0, len(now) - count))
    assert late.next == first + len(now)
    assert late.root(late.next) == now.root()


def test_rows_that_wait_are_forgotten_by_a_cut() -> None:
    rows = RowTree(SALT)
    for at in (0, 1, 7, 8):
        rows.add(row(at), 1)
    rows.cut(2)
    rows.add(row(2), 1)
    assert rows.root(3) == Tree(leaves(range(3))).root()


def test_few_rows_wait_however_many_come() -> None:
    rows = RowTree(SALT)
    for at in range(100):
        rows.add(row(at), 1)
        assert rows._waiting_bytes == sum(map(len, rows._waiting)) <= MAX_WAITING
    rows.add(row(0) * 100, 100)
    assert not rows._waiting


def test_rows_have_the_positions_of_their_session() -> None:
    rows = RowTree(SALT, 40)
    rows.add(row(40) + row(41), 2)
    assert (rows.first, rows.next) == (40, 42)
    assert rows.root(40) == EMPTY_ROOT
    assert rows.root(41) == SALT.leaf(40, row(40))
