"""Nodes, and their owners, that failed a client lately: routing counts it as a risk (`routing.Candidate`).

Node keys cost nothing, so a failure counts for the owner who certified the node, too. Bounded, and forgotten after a
while: whoever failed may be well again. Of several in a route that failed nobody knows whose fault that was: all are
suspects until they answer, and are asked after others. Not forgotten is who was paid and brought nothing; of several
it is their company that is remembered.
Pure: `now` is the caller's monotonic clock in seconds.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from p2pinfer.core.values.notes import Notes
from p2pinfer.core.values.units import OwnerKey, PeerKey

FORGET_S: Final = 600.0
FAILURE_WORTH: Final = 60_000.0  # nano-credits of risk a failure: what a minute of waiting costs
MAX_FAILURES: Final = 1_024  # the oldest are forgotten
MAX_COUNTED: Final = 8  # of one key
TAKEN_WORTH: Final = 3 * MAX_COUNTED * FAILURE_WORTH  # more than any number of failures: such a node is asked last


class Failures:
    """Failures by key, of nodes and of owners.

    counts: how many times each failed, never FORGET_S after the one before; 0 where it was forgiven
    """

    def __init__(self) -> None:
        self.counts = Notes[bytes, int](MAX_FAILURES)
        self._suspects = Notes[bytes, None](MAX_FAILURES)
        self._taken: dict[frozenset[bytes], None] = {}  # the nodes of each such route, the first of them first

    def note(self, node: PeerKey, owner: OwnerKey, now: float) -> None:
        """A node of this owner failed."""
        for key in _keys(node, owner):
            self.counts.put(key, min(MAX_COUNTED, self._recent(key, now) + 1), now)

    def suspect(self, nodes: Iterable[bytes], now: float) -> None:
        """A route over these failed, and nobody can say by whom."""
        for node in nodes:
            self._suspects.put(node, None, now)

    def suspects(self, now: float) -> set[bytes]:
        """Those of whom this was said lately, and who have not answered since."""
        return {node for node, note in self._suspects if now < note.at_s + FORGET_S}

    def note_taken(self, routes: Iterable[frozenset[bytes]]) -> None:
        """The nodes of each of these were paid and brought nothing."""
        for nodes in routes:
            self._taken.pop(nodes, None)
            self._taken[nodes] = None
        while len(self._taken) > MAX_FAILURES:
            del self._taken[next(iter(self._taken))]

    @property
    def taken_together(self) -> list[frozenset[bytes]]:
        """Those of them that are several nodes: together they come last, and each with others as ever."""
        return [nodes for nodes in self._taken if len(nodes) > 1]

    def forgive_together(self, nodes: frozenset[bytes]) -> None:
        """A route over these nodes did what it had promised."""
        for taken in [taken for taken in self._taken if taken <= nodes]:
            del self._taken[taken]

    def forgive(self, node: PeerKey, owner: OwnerKey, now: float) -> None:
        """A node of this owner did what it had promised."""
        self.forgive_together(frozenset({node}))
        self._suspects.drop(node)
        for key in _keys(node, owner):
            if self.counts.get(key) is not None:
                self.counts.put(key, 0, now)

    def risk(self, node: PeerKey, owner: OwnerKey, now: float) -> float:
        """Nano-credits that the node's unreliability is counted as."""
        if not self.counts and not self._taken:
            return 0.0
        recent = sum(self._recent(key, now) for key in _keys(node, owner))
        return FAILURE_WORTH * recent + (TAKEN_WORTH if frozenset({node}) in self._taken else 0.0)

    def _recent(self, key: bytes, now: float) -> int:
        note = self.counts.get(key)
        return note.value if note is not None and now < note.at_s + FORGET_S else 0


def _keys(node: PeerKey, owner: OwnerKey) -> Iterator[bytes]:
    yield b"node" + node
    yield b"owner" + owner
