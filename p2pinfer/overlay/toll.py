"""The toll: processor time that reading for a peer may cost, by its network and in all (wire.md, 7.1).

Bytes are cheap to send and dear to take: tiny frames, records, messages, signatures. Whatever it is, the time that it
took is counted, and a link that took too much is read later: the connection then holds its sender back. The network
owes it, and not the link: who comes again with another key has not paid.
"""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from math import inf
from time import perf_counter, thread_time
from typing import Final

import trio

from p2pinfer.core.swarm.allowance import Allowance, Rate
from p2pinfer.core.swarm.source import Source
from p2pinfer.core.swarm.turns import Turns
from p2pinfer.core.values.units import PeerKey
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
LOOK_S: Final = 200e-6  # what a look at our disk costs, in a thread, found or not
PAY_S: Final = 0.010  # cost that a link is let off before it is looked at
WAIT_S: Final = 0.1  # between looks at those that took too much


@dataclass(slots=True, eq=False)
class _Waiting:
    """A link that is not read."""

    peer: PeerKey
    source: Source
    over: trio.Event = field(default_factory=trio.Event)


class Toll:
    """Of all links. Times are of the processor; a share of 0.1 is a tenth of one core.

    needed:   peers on whose links a session or a call of ours depends: partners; all others are strangers
    is_owed:  by some stranger: what comes on strangers' links is taken only as `lets` and `wait` say, be it the first
    partners: as of a moment ago
    """

    def __init__(self, needed: Callable[[], Collection[PeerKey]]) -> None:
        self.is_owed = False
        self.partners: Collection[PeerKey] = ()
        self._needed = needed
        self._asked_s = -inf
        self._of_strangers = _Share(STRANGERS_BURST, STRANGERS_RATE, ALL_STRANGERS_BURST, ALL_STRANGERS_RATE)
        self._of_partners = _Share(PARTNERS_BURST, PARTNERS_RATE, ALL_PARTNERS_BURST, ALL_PARTNERS_RATE)
        self._debtors: set[Source] = set()  # networks of strangers
        self._waiting: dict[_Waiting, None] = {}  # in the order they came
        self._has_work = trio.Event()

    async def run(self) -> None:
        """Let links that wait be read, each in its turn; until cancelled."""
        while True:
            await self._has_work.wait()
            while self._waiting or self.is_owed:
                await trio.sleep(WAIT_S)
                self._look()
            self._has_work = trio.Event()

    def owe(self, peer: PeerKey, source: Source, cost_s: float) -> None:
        """Count what reading a link has cost, whatever becomes of the link."""
        now = trio.current_time()
        share = self._share_of(peer, now)
        share.allowance.owe(source, now, cost_s)
        if share is self._of_strangers and not share.lets(source, now):
            self._debtors.add(source)
            self.is_owed = True
            self._has_work.set()

    def lets(self, peer: PeerKey, source: Source) -> bool:
        """True if the link may be read at once."""
        now = trio.current_time()
        return self._share_of(peer, now).lets(source, now)

    async def wait(self, peer: PeerKey, source: Source) -> None:
        """Wait until it is the link's turn to be read."""
        waiting = _Waiting(peer, source)
        self._waiting[waiting] = None
        self._has_work.set()
        try:
            await waiting.over.wait()
        finally:
            self._waiting.pop(waiting, None)

    def _share_of(self, peer: PeerKey, now: float) -> "_Share":
        if now >= self._asked_s + WAIT_S:
            self._ask_for_partners(now)
        return self._of_partners if peer in self.partners else self._of_strangers

    def _ask_for_partners(self, now: float) -> None:
        self.partners, self._asked_s = self._needed(), now

    def _look(self) -> None:
        """Count as partners those that have become one since they began to wait."""
        now = trio.current_time()
        self._ask_for_partners(now)
        strangers = [one for one in self._waiting if one.peer not in self.partners]
        partners = [one for one in self._waiting if one.peer in self.partners]
        for one in (*self._of_partners.ready(partners, now), *self._of_strangers.ready(strangers, now)):
            del self._waiting[one]
            one.over.set()
        share = self._of_strangers
        self._debtors = {source for source in self._debtors if share.allowance.left(source, now) < 0}
        self.is_owed = bool(self._debtors) or share.is_short or share.allowance.left_in_all(now) < 0


class _Share:
    """Of our processor, for links of one kind. is_short: some wait only for want of it, and nobody goes before them"""

    def __init__(self, burst: float, rate: float, all_burst: float, all_rate: float) -> None:
        self.is_short = False
        self.allowance = Allowance(Rate(burst, rate), Rate(all_burst, all_rate))
        self._turns = Turns()

    def lets(self, source: Source, now: float) -> bool:
        """True if a link of that network may be read at once."""
        return not self.is_short and self.allowance.left_in_all(now) >= 0 <= self.allowance.left(source, now)

    def ready(self, waiting: Sequence[_Waiting], now: float) -> list[_Waiting]:
        """Of links that wait those that may be read, in turn: as many as if each cost PAY_S until the next look."""
        spare_s = self.allowance.left_in_all(now)
        if spare_s < 0:
            self.is_short = bool(waiting)
            return []
        counts = Counter[str]()
        clear: list[tuple[str, _Waiting]] = []
        for one in waiting:
            key = one.source.key
            if self.allowance.left(one.source, now) >= PAY_S * counts[key]:
                clear.append((key, one))
            counts[key] += 1
        most = 1 + int(spare_s / PAY_S)
        self.is_short = len(clear) > most
        return self._turns.take(clear, most)


class Meter:
    """Processor time that reading one link has cost and that was not paid for; it runs while what came is taken."""

    __slots__ = ("_began", "_looks_s", "_since", "_used_s", "cost_s")

    def __init__(self) -> None:
        self.cost_s = 0.0
        self._looks_s = 0.0
        self._began = 0.0
        self._since = trio.current_time()
        self._used_s = thread_time()

    def run(self) -> None:
        """Something came; again does nothing."""
        if not self._began:
            self._began = perf_counter()

    @property
    def lasts_s(self) -> float:
        """Since it began to run; it has to run."""
        return perf_counter() - self._began

    def rest(self) -> None:
        """It is taken, and we wait; again does nothing."""
        if self._began:
            self.cost_s += perf_counter() - self._began + READ_S
            self._began = 0.0

    def add_look(self) -> None:
        """Count a look at our disk, in a thread, that the peer's message cost."""
        self._looks_s += LOOK_S

    def take(self, least_s: float = PAY_S) -> float:
        """The part to be paid for now, beyond the little that every link may cost; 0 in the common case.

        The clock goes on while others have our processor. What we used of it is dear to ask, and bounds the cost.
        """
        if self.cost_s + self._looks_s < least_s:
            return 0.0
        now, used_s = trio.current_time(), thread_time()
        cost_s = min(self.cost_s, used_s - self._used_s) + self._looks_s  # those took other threads
        due_s = cost_s - (now - self._since) * LINK_RATE
        self.cost_s, self._looks_s, self._since, self._used_s = 0.0, 0.0, now, used_s
        return max(0.0, due_s)
