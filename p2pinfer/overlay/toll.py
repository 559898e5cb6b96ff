"""The toll: processor time that reading for a peer may cost, by its network and in all (wire.md, 7.1).

Bytes are cheap to send and dear to take: tiny frames, records, messages, signatures. Whatever it is, the time that it
took is counted, and a link that took too much is read later: the connection then holds its sender back.
"""

from time import perf_counter, thread_time
from typing import Final

import trio

from p2pinfer.core.allowance import Allowance, Rate
from p2pinfer.core.source import Source
from p2pinfer.overlay.limits import (
    ALL_PARTNERS_BURST,
    ALL_PARTNERS_RATE,
    ALL_STRANGERS_BURST,
    ALL_STRANGERS_RATE,
    LINK_RATE,
    PARTNERS_BURST,
    PARTNERS_RATE,
    STRANGERS_BURST,
    STRANGERS_RATE,
)

READ_S: Final = 30e-6  # what waiting for bytes and reading them costs beside
PAY_S: Final = 0.010  # cost that a link is let off before it is looked at
WAIT_S: Final = 0.1  # before one that took too much is looked at again


class Toll:
    """Of all links. Times are of the processor; a share of 0.1 is a tenth of one core."""

    def __init__(self) -> None:
        self._strangers = _allowance(STRANGERS_BURST, STRANGERS_RATE, ALL_STRANGERS_BURST, ALL_STRANGERS_RATE)
        self._partners = _allowance(PARTNERS_BURST, PARTNERS_RATE, ALL_PARTNERS_BURST, ALL_PARTNERS_RATE)

    async def pay(self, source: Source, cost_s: float, *, is_partner: bool) -> None:
        """Wait until a link may be read again. is_partner: a session or a call of ours depends on it."""
        allowance = self._partners if is_partner else self._strangers
        while True:
            if allowance.take(source, trio.current_time(), cost_s):
                return
            await trio.sleep(WAIT_S)


def _allowance(burst: float, rate: float, all_burst: float, all_rate: float) -> Allowance:
    return Allowance(Rate(burst, rate), Rate(all_burst, all_rate))


class Meter:
    """Processor time that reading one link has cost and that was not paid for; it runs while what came is taken."""

    __slots__ = ("_began", "_since", "_used_s", "cost_s")

    def __init__(self) -> None:
        self.cost_s = 0.0
        self._began = 0.0
        self._since = trio.current_time()
        self._used_s = thread_time()

    def run(self) -> None:
        """Something came; again does nothing."""
        if not self._began:
            self._began = perf_counter()

    def rest(self) -> None:
        """It is taken, and we wait; again does nothing."""
        if self._began:
            self.cost_s += perf_counter() - self._began + READ_S
            self._began = 0.0

    def take(self) -> float:
        """The part to be paid for now, beyond the little that every link may cost; 0 in the common case.

        The clock goes on while others have our processor. What we used of it is dear to ask, and bounds the cost.
        """
        if self.cost_s < PAY_S:
            return 0.0
        now, used_s = trio.current_time(), thread_time()
        cost_s = min(self.cost_s, used_s - self._used_s)
        due_s = cost_s - (now - self._since) * LINK_RATE
        self.cost_s, self._since, self._used_s = 0.0, now, used_s
        return max(0.0, due_s)
