"""How work is counted: a function of prompt, committed positions and start (protocols/receipts.md, "Counting").

Both sides compute it by themselves; only what was cached is the node's word, and it can only lower the bill.
"""

from dataclasses import dataclass

from p2pinfer.core.pricing import Usage


@dataclass(frozen=True, slots=True)
class Work:
    """What one stage is asked for in one generation.

    prompt: P, ids of the prompt
    start:  first position whose output the stage sends on; over 0 only for a replacement after a failover
    tail:   the stage samples
    """

    layers: int
    prompt: int
    start: int
    tail: bool

    def __post_init__(self) -> None:
        if self.layers < 1 or self.prompt < 1 or self.start < 0:
            raise ValueError(f"no work: {self.layers} layers, {self.prompt} prompt ids, start {self.start}")

    def usage(self, committed: int, cached: int = 0) -> Usage:
        """Usage once positions [0, committed) are computed, `cached` of them present without computing."""
        generated_from = max(self.prompt, self.start)  # g: a replay of generated positions is prefill
        fed = min(committed, generated_from)
        if not 0 <= cached <= fed:
            raise ValueError(f"{cached} positions cached of {fed}")
        return Usage(
            prefill=self.layers * (fed - cached),
            decode=self.layers * (committed - fed),
            cached=self.layers * cached,
            sampled=self.sampled(committed),
        )

    def sampled(self, committed: int) -> int:
        """Ids this stage has sampled: position q gives the id of q + 1, from the last prompt position on."""
        return max(0, committed - max(self.start, self.prompt - 1)) if self.tail else 0

    def ids(self, committed: int) -> int:
        """Ids sampled by this and earlier tails: leaves of the tail's output tree."""
        return max(0, committed - self.prompt + 1)


def committed_of(usage: Usage, layers: int) -> int:
    """The committed positions a usage speaks of.

    Raises ValueError where it is no whole number of positions.
    """
    positions, rest = divmod(usage.prefill + usage.cached + usage.decode, layers)
    if rest or usage.cached % layers:
        raise ValueError(f"usage {usage} is no whole number of positions of {layers} layers")
    return positions
