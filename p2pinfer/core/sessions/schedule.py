"""The next batch, of the steps that wait: decode first, prefill in chunks of bounded time, sessions in turn.

If sessions were always computed together, they would travel round the ring together: in the end one stage would compute
all of them while the others wait. So a batch takes no more than half of those that decode, if the model's other layers
are elsewhere.

Somebody watches each id come. So a decode step waits for one batch with prefill at most: it goes into the next batches
first, and no batch holds prefill until all steps that waited so are served.

Pure: the waiting steps and the engine's speed are arguments; the caller runs what comes back.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Final

from p2pinfer.core.sessions.pages import PAGE

ALONE_S: Final = 0.25  # no batch is planned longer: the owner's gate and new sessions wait for it
SHARED_S: Final = 0.01  # of prefill in a batch while somebody decodes and would feel it between two ids
MAX_BATCH: Final = 128  # decode steps; more only adds latency on every machine measured
GROUPS: Final = 2  # in which sessions go around a ring; more of them, each of fewer, read the weights more often
FIRST_CHUNK: Final = 64  # positions of prefill while nothing is measured
FEW: Final = 8  # positions; a batch of no more may show the least time of one
LONGER: Final = 1.5  # times the least time; a batch that takes so long takes it for its positions
MORE: Final = 1.1  # times what should fit into the least time
LATEST: Final = 0.25  # the share in the mean of a latest measurement that is below it
RISE: Final = 0.05  # and of one that is above


@dataclass(frozen=True, slots=True)
class BatchCost:
    """The time that batches cost here, in seconds; 0 while unknown.

    batch_s:    the least, while the weights are read; few positions are computed meanwhile
    position_s: for each position, where they are so many that they take longer than that
    """

    batch_s: float = 0.0
    position_s: float = 0.0

    def duration(self, positions: int) -> float:
        """Seconds that a batch of so many is expected to take."""
        return max(self.batch_s, positions * self.position_s) if positions else 0.0

    def observe(self, positions: int, seconds: float) -> "BatchCost":
        """The speed with one more batch measured.

        It took the least time, or longer for its positions: then that is what it shows. One that was shorter than its
        positions were thought to take shows that they take less. While somebody decodes all batches are small, so there
        is no waiting for large ones.
        """
        few, own_s, longer_s = positions <= FEW, positions * self.position_s, LONGER * self.batch_s
        batch_s, position_s = self.batch_s, self.position_s
        if positions == 1 or (few and (not batch_s or seconds < batch_s)):
            batch_s = _mean(batch_s, seconds)
        if positions > 1 and (seconds < own_s or seconds >= longer_s or not (position_s or few)):
            position_s = _mean(position_s, seconds / positions)
        return BatchCost(batch_s, position_s)

    def chunk(self, limit_s: float) -> int:
        """Positions of prefill that fit the time; at least one, or nothing would ever move."""
        if not self.position_s:
            return FIRST_CHUNK
        return max(1, int(limit_s / self.position_s))

    def beside(self, positions: int) -> int:
        """Positions beside so many that make a batch no longer, and a little more, by which it shows if more would."""
        return ceil(MORE * self.batch_s / self.position_s) - positions if self.position_s else 0


@dataclass(frozen=True, slots=True)
class ReadySession:
    """A session with something to compute.

    slot:      the session's number
    positions: ready now
    decode:    somebody waits for each of its ids: it is past its prompt
    served:    a number that grew with each session served, when this one was last; 0 for never
    waited:    for a batch that held prefill, since it became ready
    """

    slot: int
    positions: int
    decode: bool
    served: int = 0
    waited: bool = False


def next_batch(
    waiting: Sequence[ReadySession], speed: BatchCost, decoding: int, groups: int = 1
) -> list[tuple[int, int]]:
    """Slots and how many positions of each; empty if nothing waits.

    decoding: sessions of this stage that are past their prompts, waiting here or not
    groups:   in which they are computed
    """
    if len(waiting) == 1 and waiting[0].decode:  # one stream waits for every microsecond
        return [(waiting[0].slot, waiting[0].positions)] if waiting[0].positions else []
    in_turn = sorted((one for one in waiting if one.positions), key=lambda one: (not one.waited, one.served, one.slot))
    decodes = [one for one in in_turn if one.decode]
    prefills = [one for one in in_turn if not one.decode]
    together = decodes[: min(MAX_BATCH, -(-max(decoding, len(decodes)) // groups))]
    batch = [(one.slot, one.positions) for one in together]
    if any(one.waited for one in decodes):
        return batch
    room = speed.chunk(SHARED_S if decoding or decodes else ALONE_S)
    return batch + _share(prefills, max(room, speed.beside(len(together))))


def _share(prefills: Sequence[ReadySession], room: int) -> list[tuple[int, int]]:
    """Room in equal parts of at least a page, or all of it; what one session does not need is left to those after it.

    A step that would get less than a page has its turn later: a turn of a few positions would be a turn lost.
    """
    shares: list[tuple[int, int]] = []
    for at, one in enumerate(prefills):
        sharing = min(len(prefills) - at, max(1, room // PAGE))
        count = min(one.positions, room // sharing)
        if not count or (shares and count < min(PAGE, one.positions)):
            break
        shares.append((one.slot, count))
        room -= count
    return shares


def _mean(mean: float, latest: float) -> float:
    """The running mean with one more value; the first value stands alone.

    A batch that had to wait for a core took several times what it costs, and chunks that shrink for that cost more yet.
    So the mean rises slowly, and stays near what is measured while nothing else runs; where all take longer it follows.
    """
    if not mean:
        return latest
    return mean + (LATEST * (latest - mean) if latest < mean else RISE * (min(latest, LONGER * mean) - mean))
