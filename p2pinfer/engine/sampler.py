"""From logits to an id (protocols/inference.md, "Sampler"), so that a replacement or an auditor repeats it."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from p2pinfer.core.records.draw import MILLIONTHS, Sampling, uniform
from p2pinfer.engine.backend import Logits

SIGN: Final = np.uint32(1 << 31)


def draw_id(logits: Logits, sampling: Sampling, position: int) -> int:
    """The id at `position` of the session.

    Candidates are ordered by logit, the highest first, equal ones by id, the lowest first. Their weights are
    exp((logit - highest) / temperature) in float64, added up in that order. Of the candidates that top-k left, top-p
    keeps the shortest beginning that holds its share of their weight. The first candidate whose sum exceeds the draw's
    share of the weight kept is the one.
    """
    if sampling.greedy:
        return int(np.argmax(logits))  # the first of equal ones
    ids = _ordered(logits, sampling.top_k)
    kept = logits[ids].astype(np.float64)
    sums = np.cumsum(np.exp((kept - kept[0]) / (sampling.temperature / MILLIONTHS)))
    if sampling.top_p < MILLIONTHS:
        enough = int(np.searchsorted(sums, sums[-1] * (sampling.top_p / MILLIONTHS), "left"))
        sums = sums[: enough + 1]
    share = uniform(sampling.seed, position) * sums[-1]
    # rounding may carry the share up to the sum itself, which no candidate exceeds
    return int(ids[min(int(np.searchsorted(sums, share, "right")), len(sums) - 1)])


def _ordered(logits: Logits, top_k: int) -> NDArray[np.int64]:
    """Ids of the candidates, `top_k` of them or all, the likeliest first."""
    bits = (logits + np.float32(0)).view(np.uint32)  # adding zero makes the two zeros one
    ascending = np.where(bits & SIGN, ~bits, bits | SIGN)  # as integers in the order of the floats
    keys = (~ascending).astype(np.uint64) << np.uint64(32) | np.arange(len(logits), dtype=np.uint64)
    if 0 < top_k < len(keys):
        keys = np.partition(keys, top_k - 1)[:top_k]
    keys.sort()
    return (keys & np.uint64(0xFFFFFFFF)).astype(np.int64)
