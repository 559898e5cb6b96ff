"""Ids as their client counts them, and the roots of both id boundaries that follow (protocols/receipts.md, "Trees").

Ids wait to be hashed until somebody asks for a root: few positions have a receipt, and many at once cost less.
"""

from collections.abc import Sequence

from p2pinfer.core.records.delivered import Delivered, delivered
from p2pinfer.core.records.tree import Salt, Tree


class CountedIds:
    """Of one generation. prompt: ids of the prompt; delivered: ids that the tail gave since"""

    def __init__(self, prompt: Sequence[int], secret: bytes) -> None:
        self.prompt = len(prompt)
        self.delivered = 0
        self._salt = Salt(secret)
        self._inputs, self._outputs = Tree(), Tree()  # ids into the head, ids out of the tail
        self._waiting = list(prompt)  # to be hashed

    @classmethod
    def resumed(cls, kept: Delivered) -> "CountedIds":
        """Return the ids that were kept of a generation that is over; none can be added."""
        ids = cls((), bytes(32))
        ids.prompt, ids.delivered = kept.prompt, kept.count
        ids._inputs, ids._outputs = kept.trees()
        return ids

    @property
    def counted(self) -> int:
        """Positions that the ids prove computed, if any was delivered."""
        return self.prompt + self.delivered - 1

    def add(self, ids: Sequence[int]) -> None:
        self._waiting += ids
        self.delivered += len(ids)

    def into_head(self, committed: int) -> bytes | None:
        """The root of the ids of positions [0, committed); None while they are not all there."""
        if committed > self.prompt + self.delivered:
            return None
        self._hash()
        return self._inputs.root(committed)

    def out_of_tail(self, committed: int) -> bytes | None:
        """The root of the ids whose sampling so many positions account for; None while they are not all there."""
        count = max(0, committed + 1 - self.prompt)
        if count > self.delivered:
            return None
        self._hash()
        return self._outputs.root(count)

    def kept(self, signed: int) -> Delivered:
        """The record that is needed to sign later what is beyond `signed` positions."""
        self._hash()
        return delivered(self._inputs, self._outputs, self.prompt, signed)

    def _hash(self) -> None:
        if self._waiting:
            first = self.prompt + self.delivered - len(self._waiting)
            leaves = self._salt.leaves(first, [id_.to_bytes(4, "big") for id_ in self._waiting])
            self._inputs.add(leaves)
            self._outputs.add(leaves[max(0, self.prompt - first) :])
            self._waiting.clear()
