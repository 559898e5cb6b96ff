"""Boundary trees: RFC 6962 over salted rows, one leaf for each position (protocols/receipts.md, "Trees").

A tree answers for its root at any earlier size, since receipts speak of a number of positions that may lie behind.
Without the salt, anyone who guesses a prompt could check the guess against a root.
"""

from collections.abc import Iterable
from hashlib import sha256
from typing import Final

EMPTY_ROOT: Final = sha256(b"").digest()
ROOT_BYTES: Final = 32


class Salt:
    """Hashes rows to leaves; `secret` is the generation's."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) != 32:
            raise ValueError(f"a secret has 32 bytes, not {len(secret)}")
        self._prefix = b"\0" + secret

    def leaf(self, position: int, row: bytes | memoryview) -> bytes:
        """SHA-256(00 ‖ secret ‖ u32be position ‖ row)."""
        return sha256(b"".join((self._prefix, position.to_bytes(4, "big"), row))).digest()

    def leaves(self, position: int, rows: bytes | memoryview, count: int) -> list[bytes]:
        """The leaves of `count` rows of one size that lie end to end, the first one's position being `position`."""
        size, rest = divmod(len(rows), count)
        if rest:
            raise ValueError(f"{len(rows)} bytes are not {count} rows")
        view, prefix = memoryview(rows), self._prefix
        return [
            sha256(b"".join((prefix, (position + i).to_bytes(4, "big"), view[i * size : i * size + size]))).digest()
            for i in range(count)
        ]


class Tree:
    """Leaf hashes in order, and the roots over any first n of them.

    Inner nodes are computed when a root is asked for, then kept: a root costs O(log n) beside the new leaves.
    """

    def __init__(self, leaves: Iterable[bytes] = ()) -> None:
        self._levels: list[list[bytes]] = [list(leaves)]  # [k][i]: the full subtree over leaves [i·2^k, (i+1)·2^k)

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
            for i in range(2 * len(nodes), len(below) - 1, 2):
                nodes.append(sha256(b"\1" + below[i] + below[i + 1]).digest())


def leaf_of(data: bytes) -> bytes:
    """RFC 6962's unsalted leaf, as statements use it."""
    return sha256(b"\0" + data).digest()
