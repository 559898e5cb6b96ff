"""What a bench measures: figures with their bounds, and the conditions they were measured under. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from statistics import median
from typing import Final

PASS: Final = "pass"
FAIL: Final = "FAIL"


class Bound(Enum):
    AT_LEAST = ">="
    BELOW = "<"


@dataclass(frozen=True, slots=True)
class Figure:
    """One number that the product promises.

    value and bound have the same unit; detail says how the value came about, in a line
    """

    name: str
    value: float
    side: Bound
    bound: float
    unit: str = ""
    detail: str = ""

    @property
    def passes(self) -> bool:
        return self.value >= self.bound if self.side is Bound.AT_LEAST else self.value < self.bound

    @property
    def share(self) -> float:
        """The value as a multiple of its bound: above 1 is good for AT_LEAST, below 1 for BELOW."""
        return self.value / self.bound

    @property
    def verdict(self) -> str:
        return PASS if self.passes else FAIL


@dataclass(frozen=True, slots=True)
class Comparison:
    """Rates of two ways to do the same, measured in turn: ours, theirs, ours, theirs..."""

    ours: Sequence[float]
    theirs: Sequence[float]

    def __post_init__(self) -> None:
        if not self.ours or len(self.ours) != len(self.theirs):
            raise ValueError(f"{len(self.ours)} and {len(self.theirs)} runs: they must come in pairs")

    @property
    def ratio(self) -> float:
        """Median rate to median rate."""
        return median(self.ours) / median(self.theirs)

    @property
    def pairs(self) -> list[float]:
        """The ratio of each pair: how far they lie apart is how far the machine was busy with something else."""
        return [ours / theirs for ours, theirs in zip(self.ours, self.theirs, strict=True)]

    def __str__(self) -> str:
        pairs = self.pairs
        return (
            f"{median(self.ours):.1f} of {median(self.theirs):.1f} tok/s; {len(pairs)} pairs "
            f"{min(pairs):.2f} to {max(pairs):.2f}"
        )


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which at least this share of the values lies, itself included: one of the values."""
    if not values or not 0 < share <= 1:
        raise ValueError(f"the {share} quantile of {len(values)} values")
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


def rate_between(times: Sequence[float], first: int, last: int) -> float:
    """Items per second from item `first` to item `last`, counted from 1; `times` holds when each came."""
    if not 1 <= first < last <= len(times):
        raise ValueError(f"items {first} to {last} of {len(times)}")
    return (last - first) / (times[last - 1] - times[first - 1])


def rate_together(streams: Sequence[Sequence[float]], first: int) -> float:
    """Items per second of all streams, while all of them run: each is past item `first`, and none is over."""
    begin = max(times[first - 1] for times in streams)
    end = min(times[-1] for times in streams)
    if begin >= end:
        raise ValueError(f"no time in which {len(streams)} streams ran together")
    return sum(begin < at <= end for times in streams for at in times) / (end - begin)
