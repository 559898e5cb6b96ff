"""Room at a node: one session finds it, and another gives it up to those who ask (protocols/inference.md, 7.1).

A newcomer is a client whose contract takes from what newcomers share (`budget.py`): its key cost nothing, and holding a
session open costs it nothing either: where it is idle, it gives way.
"""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from p2pinfer.core.budget import RETRY_S
from p2pinfer.core.codes import Code
from p2pinfer.core.errors import Refused
from p2pinfer.core.units import PeerKey

FIRST_ROWS_S: Final = 2.0  # without a prompt or rows, before a newcomer's session may have to give way
RESTING_S: Final = 10.0  # with nothing to compute since, likewise
KEY_PART: Final = 2  # newcomers with one key have one session in so many


@dataclass(frozen=True, slots=True)
class HeldSession:
    """A session that holds room.

    started: rows or ids have come
    idle_s:  since anything moved; 0 while something could be computed
    pages:   of KV cache
    """

    slot: int
    client: PeerKey
    newcomer: bool
    started: bool
    idle_s: float
    pages: int

    @property
    def may_give_way(self) -> bool:
        return self.newcomer and self.idle_s >= (RESTING_S if self.started else FIRST_ROWS_S)


def give_way(held: Collection[HeldSession], asks: HeldSession, *, sessions: int, free_pages: int) -> list[int]:
    """Slots of the sessions that have to end, so that one more finds room.

    sessions:   that may be open at once
    free_pages: that nobody holds

    Raises Refused (BUSY) where there is no room even so.
    """
    most = max(1, sessions // KEY_PART)
    if asks.newcomer and sum(one.newcomer and one.client == asks.client for one in held) >= most:
        raise Refused(f"{most} sessions at once are the most for a client without credit", Code.BUSY, RETRY_S)
    going: list[int] = []
    count = Counter(one.client for one in held)
    waiting = sorted((one for one in held if one.may_give_way), key=lambda one: (count[one.client], one.idle_s))
    while len(held) - len(going) >= sessions or free_pages < asks.pages:
        if not waiting:
            text = f"{len(held)} sessions are open, and {free_pages} of {asks.pages} pages are free"
            raise Refused(text, Code.BUSY, RETRY_S)
        leaves = waiting.pop()
        going.append(leaves.slot)
        free_pages += leaves.pages
    return going
