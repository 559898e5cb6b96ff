"""Boundary trees: RFC 6962 over salted rows, one leaf for each position (protocols/receipts.md, "Trees").

A tree answers for its root at any earlier size, since receipts speak of a number of positions that may lie behind.
Without the salt, anyone who guesses a prompt could check the guess against a root.
"""

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Final

EMPTY_ROOT: Final = sha256(b"").digest()
ROOT_BYTES: Final = 32
MAX_WAITING: Final = 16_384  # bytes of rows that wait to be hashed


class Salt:
    """Hashes rows to leaves; `secret` is the generation's."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) != 32:
            raise ValueError(f"a secret has 32 bytes, not {len(secret)}")
        self._prefix = b"\0" + secret

    def leaf(self, position: int, row: bytes | memoryview) -> bytes:
        """SHA-256(00 ‖ secret ‖ u32be position ‖ SHA-256(row)): a hash serves where the row is gone."""
        return sha256(self._prefix + position.to_bytes(4, "big") + sha256(row).digest()).digest()

    def leaves(self, position: int, rows: Iterable[bytes]) -> list[bytes]:
        """The leaves of consecutive rows, the first one's position being `position`."""
        prefix = self._prefix
        return [
            sha256(prefix + at.to_bytes(4, "big") + sha256(row).digest()).digest()
            for at, row in enumerate(rows, position)
        ]


class RowTree:
    """The tree over the rows that cross one boundary, in order of their positions.

    Rows wait to be hashed many at a time, which costs less than one by one, but few of them: a long prompt's would hold
    much memory.

    first: position of the first row
    next:  of the row that comes next
    """

    def __init__(self, salt: Salt, first: int = 0) -> None:
        self.first: Final = first
        self.next = first
        self._salt = salt
        self._tree = Tree()
        self._waiting: list[bytes] = []  # rows that are not hashed yet
        self._waiting_bytes = 0

    def add(self, rows: bytes, count: int) -> None:
        """Rows of one size that lie end to end."""
        if count == 1:
            self._waiting.append(rows)
        else:
            self._waiting += split_rows(rows, count)
        self.next += count
        self._waiting_bytes += len(rows)
        if self._waiting_bytes > MAX_WAITING:
            self._hash()

    def cut(self, position: int) -> None:
        """Forget all rows from `position` on, as after a rollback."""
        self._hash()
        self._tree.cut(position - self.first)
        self.next = position

    def root(self, upto: int) -> bytes:
        """The root over the rows of positions [first, upto); of none where `upto` lies before."""
        self._hash()
        return self._tree.root(max(0, upto - self.first))

    def _hash(self) -> None:
        self._tree.add(self._salt.leaves(self.next - len(self._waiting), self._waiting))
        self._waiting.clear()
        self._waiting_bytes = 0


class Tree:
    """Leaf hashes in order, and the roots over any first n of them.

    Inner nodes are computed when a root is asked for, then kept: a root costs O(log n) beside the new leaves.
    """

    def __init__(self, leaves: Iterable[bytes] = ()) -> None:
        self._levels: list[list[bytes]] = [list(leaves)]  # [k][i]: the full subtree over leaves [i·2^k, (i+1)·2^k)

    @classmethod
    def resumed(cls, size: int, frontier: Sequence[bytes]) -> "Tree":
        """A tree over `size` leaves that are not at hand any more, of which `frontier` had been kept.

        It grows, and has the roots over `size` leaves or more. Raises ValueError where the frontier is of another size.
        """
        levels = [level for level in range(size.bit_length()) if size >> level & 1]
        if len(levels) != len(frontier):
            raise ValueError(f"{len(frontier)} nodes for {size} leaves, {len(levels)} are needed")
        tree = cls()
        tree._levels = [[b""] * (size >> level) for level in range(max(1, size.bit_length()))]
        for level, node in zip(levels, frontier, strict=True):
            tree._levels[level][-1] = node
        return tree

    def frontier(self, size: int) -> tuple[bytes, ...]:
        """The full subtrees that the first `size` leaves fall into, the smallest first: all that later roots need."""
        self._grow()
        return tuple(
            self._levels[level][(size >> level) - 1] for level in range(size.bit_length()) if size >> level & 1
        )

    def leaves(self, first: int) -> list[bytes]:
        """The leaves from `first` on."""
        return self._levels[0][first:]

    def __len__(self) -> int:
        return len(self._levels[0])

    def add(self, leaves: Iterable[bytes]) -> None:
        self._levels[0].extend(leaves)

    def cut(self, size: int) -> None:
        """Forget all leaves from `size` on, as after a rollback."""
        for level, nodes in enumerate(self._levels):
            del nodes[size >> level :]

    def root(self, size: int | None = None) -> bytes:
        """The root over the first `size` leaves, or over all."""
        size = len(self) if size is None else size
        if not 0 <= size <= len(self):
            raise ValueError(f"root over {size} of {len(self)} leaves")
        if size == 0:
            return EMPTY_ROOT
        self._grow()
        root = b""
        for level in range(size.bit_length()):  # the full subtrees, from the smallest on the right
            if size >> level & 1:
                left = self._levels[level][(size >> level) - 1]
                root = sha256(b"\1" + left + root).digest() if root else left
        return root

    def _grow(self) -> None:
        for level, below in enumerate(self._levels):
            if len(below) < 2:
                break
            if level + 1 == len(self._levels):
                self._levels.append([])
            nodes = self._levels[level + 1]
            first = 2 * len(nodes)
            pairs = zip(below[first::2], below[first + 1 :: 2], strict=False)  # the last may have no sibling yet
            nodes += [sha256(b"\1" + left + right).digest() for left, right in pairs]


def leaf_of(data: bytes) -> bytes:
    """RFC 6962's unsalted leaf, as statements use it."""
    return sha256(b"\0" + data).digest()


def split_rows(rows: bytes, count: int) -> list[bytes]:
    """`count` rows of one size that lie end to end, one by one."""
    size, rest = divmod(len(rows), count)
    if rest:
        raise ValueError(f"{len(rows)} bytes are not {count} rows")
    return [rows[at : at + size] for at in range(0, len(rows), size)]
