"""Which of the waiting steps form the next batch: decode first, prefill in chunks of bounded time, sessions in turn.

Sessions that are computed together stay together, all around the ring: at last one stage computes all of them while the
others wait. So a batch takes no more than half of those that decode, if the model's other layers are elsewhere.

Pure: who waits and how fast the engine was are arguments; the caller runs what comes back.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from p2pinfer.core.pages import PAGE

ALONE_S: Final = 0.25  # no batch is planned longer: the owner's gate and new sessions wait for it
SHARED_S: Final = 0.05  # nor longer than this while somebody decodes and would feel it between two ids
MAX_BATCH: Final = 128  # decode steps; more only adds latency on every machine measured
GROUPS: Final = 2  # in which sessions go around a ring; more of them, each of fewer, read the weights more often
FIRST_CHUNK: Final = 64  # positions of prefill while nothing is measured
FEW: Final = 8  # positions; a batch of so few shows what a batch costs by itself
MANY: Final = 32  # positions; a batch of so many shows what a position costs
LATEST: Final = 0.25  # the share of the latest measurement in the mean


@dataclass(frozen=True, slots=True)
class Speed:
    """What batches cost here: a fixed time and a time per position, in seconds; 0 while unknown."""

    batch_s: float = 0.0
    position_s: float = 0.0

    def observe(self, positions: int, seconds: float) -> "Speed":
        """The speed with one more batch measured."""
        if positions <= FEW:
            own = max(0.0, seconds - positions * self.position_s)
            return Speed(_mean(self.batch_s, own), self.position_s)
        if positions >= MANY:
            # at least a tenth is counted for the positions: the fixed part may have been measured in a slow moment
            own = max(seconds - self.batch_s, seconds / 10) / positions
            return Speed(self.batch_s, _mean(self.position_s, own))
        return self

    def chunk(self, limit_s: float) -> int:
        """Positions of prefill that fit the time; at least a page, or nothing would ever move."""
        if not self.position_s:
            return FIRST_CHUNK
        return max(PAGE, int((limit_s - self.batch_s) / self.position_s))


@dataclass(frozen=True, slots=True)
class Waiting:
    """A session with something to compute.

    slot:      the session's number
    positions: ready now
    decode:    somebody waits for each of its ids: it is past its prompt
    served:    number of the batch that served it last; 0 for none
    """

    slot: int
    positions: int
    decode: bool
    served: int = 0


def next_batch(waiting: Sequence[Waiting], speed: Speed, decoding: int, groups: int = 1) -> list[tuple[int, int]]:
    """Slots and how many positions of each; empty if nothing waits.

    decoding: sessions of this stage that are past their prompts, waiting here or not
    groups:   in which they are computed
    """
    if len(waiting) == 1 and waiting[0].decode:  # one stream waits for every microsecond
        return [(waiting[0].slot, waiting[0].positions)] if waiting[0].positions else []
    in_turn = sorted((one for one in waiting if one.positions), key=lambda one: (one.served, one.slot))
    decodes = [one for one in in_turn if one.decode]
    decodes = decodes[: min(MAX_BATCH, -(-max(decoding, len(decodes)) // groups))]
    prefills = [one for one in in_turn if not one.decode]
    batch = [(one.slot, one.positions) for one in decodes]
    limit_s = SHARED_S if decoding or decodes else ALONE_S
    room = max(PAGE, speed.chunk(limit_s) - sum(count for _, count in batch))
    return batch + _share(prefills, room)


def _share(prefills: Sequence[Waiting], room: int) -> list[tuple[int, int]]:
    """Room in equal parts of at least a page; what one session does not need is left to those after it."""
    shares: list[tuple[int, int]] = []
    for at, one in enumerate(prefills):
        if room <= 0:
            break
        count = min(one.positions, max(PAGE, room // (len(prefills) - at)), room)
        shares.append((one.slot, count))
        room -= count
    return shares


def _mean(mean: float, latest: float) -> float:
    """The running mean with one more value; the first value stands alone."""
    return latest if not mean else mean + LATEST * (latest - mean)
