"""Counting work: a function of the contract and of the committed positions (protocols/receipts.md, "Counting").

Both sides compute it by themselves, and so does whoever checks a receipt; only what was cached is the node's word, and
it can only lower the bill.
"""

from dataclasses import dataclass

from p2pinfer.core.records.pricing import Usage


@dataclass(frozen=True, slots=True)
class Work:
    """One stage's part in one session.

    prompt: P, ids of the prompt
    tail:   the stage samples
    start:  positions before it were charged by an earlier contract
    seam:   positions before it were computed in an earlier session of the generation; 0 in its first one
    """

    layers: int
    prompt: int
    tail: bool
    start: int = 0
    seam: int = 0

    def __post_init__(self) -> None:
        if self.prompt < 1:
            raise ValueError("a prompt of no ids")
        if self.seam and self.seam < self.prompt:
            raise ValueError(f"a seam at {self.seam}, within the prompt of {self.prompt}")
        if self.start > max(self.seam, self.prompt - 1):
            raise ValueError(f"start {self.start}, beyond what an earlier session delivered")

    @property
    def first_out(self) -> int:
        """Position of the first row that this session sends on; at the tail, of the first id it samples."""
        return max(self.seam, self.prompt - 1) + 1 if self.tail else self.seam

    def usage(self, committed: int, cached: int = 0) -> Usage:
        """Usage once positions [0, committed) are computed, `cached` of those charged present without computing.

        Raises ValueError for positions that cannot be charged: a usage has no negative parts.
        """
        generated_from = max(self.prompt, self.seam)  # g: generated positions that are computed again are prefill
        fed = min(committed, generated_from) - self.start
        return Usage(
            prefill=self.layers * (fed - cached),
            decode=self.layers * max(0, committed - generated_from),
            cached=self.layers * cached,
            sampled=max(0, committed + 1 - self.first_out) if self.tail else 0,
        )

    def committed(self, usage: Usage) -> int:
        """The committed positions that a usage speaks of.

        Raises ValueError where the work never comes to such a usage.
        """
        positions = self.start + usage.positions(self.layers)
        if usage != self.usage(positions, usage.cached // self.layers):
            raise ValueError(f"{usage} is not what {positions} positions come to")
        return positions
