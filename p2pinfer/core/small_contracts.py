"""Contracts that are not worth the room that their records take (protocols/receipts.md, 5.4).

Nothing that both sides signed is ever thrown away, and promises cost a stranger nothing. So who promises little is not
served without end: contracts signed for less than SMALL positions are counted, by day and network. Of others a node's
own speed bounds the number.
"""

from collections import Counter
from typing import Final

from p2pinfer.core.budget import NETWORK_PART
from p2pinfer.core.codes import Code
from p2pinfer.core.errors import Refused

SMALL: Final = 128  # positions; a contract signed for less is small, and hardly a document and its answer
SMALL_A_DAY: Final = 65_536  # small contracts, of all networks; their records take 1.5 kB each
DAY_S: Final = 86_400


def is_small(proposed: int, paid: int) -> bool:
    """A contract left records, and not much is signed under it; both in positions."""
    return proposed > 0 and paid < SMALL


class SmallContracts:
    """Small contracts of this day. `network` is None on our own machine; `now` is the wall clock, Unix seconds."""

    def __init__(self) -> None:
        self._day = self._all = 0
        self._counts: Counter[str | None] = Counter()

    def add(self, network: str | None, now: int) -> None:
        """One more of a network is over."""
        self._turn(now)
        self._counts[network] += 1
        self._all += 1

    def check(self, network: str | None, now: int) -> None:
        """Raises Refused (BUSY) where a network has had its part of what the others leave."""
        self._turn(now)
        mine = self._counts[network]
        left = SMALL_A_DAY - (self._all - mine)  # by the others
        if mine >= (left if network is None else left // NETWORK_PART):
            text = f"{mine} contracts of the client's network came to less than {SMALL} positions: no more today (UTC)"
            raise Refused(text, Code.BUSY)

    def _turn(self, now: int) -> None:
        if (day := now // DAY_S) != self._day:
            self._day, self._all = day, 0
            self._counts.clear()
