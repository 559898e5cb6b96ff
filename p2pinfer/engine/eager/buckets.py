"""The few shapes that batches of decode steps are brought to: integers, no tensors.

A recorded step has one shape for good. Rows are filled up to a power of two, which costs little, since all of them read
the weights once. Sessions are filled up to the pages of the longest, and those to one of four steps between powers of
two: what is added is read for nothing.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from p2pinfer.core.sessions.pages import pages_for
from p2pinfer.engine.backend import Part

MOST_ROWS: Final = 128
LEAST_PAGES: Final = 8
MOST_PAGES: Final = 8192  # of all rows; gathering them takes half a gigabyte for 8 key heads of 128 in bf16


class Bucket(NamedTuple):
    """Rows of a batch, and pages that each row looks at."""

    rows: int
    pages: int


def bucket_of(parts: Sequence[Part]) -> Bucket | None:
    """The smallest that takes all parts; None where one has several rows, or they are too many or look too far."""
    if any(len(part.positions) != 1 for part in parts):
        return None
    rows = _power_of_two(len(parts))
    pages = max(LEAST_PAGES, _quarter_step(max(pages_for(part.positions.stop) for part in parts)))
    return Bucket(rows, pages) if rows <= MOST_ROWS and rows * pages <= MOST_PAGES else None


def _power_of_two(number: int) -> int:
    """The smallest that is not less."""
    return 1 << (number - 1).bit_length()


def _quarter_step(number: int) -> int:
    """The smallest of 4, 5, 6 and 7 times a power of two that is not less."""
    unit = max(1, _power_of_two(number) // 8)
    return -(-number // unit) * unit
