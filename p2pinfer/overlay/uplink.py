"""The line of this machine, which all its links share, and the parts of files on it (protocols/wire.md, 5).

Each link keeps little under way, but what several keep queues in front of a token. So while sessions are open one part
of a file is on the line at a time, of all links that leave this machine. It has left when it is acknowledged, or when
it had the time to: how fast the latest part left its link is measured, and what the line carries is tried
(`core/wire/line_rate.py`). Networks that wait have turns.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import trio

from p2pinfer.core.swarm.source import Scope, Source, site_of
from p2pinfer.core.wire.line_rate import LineRate
from p2pinfer.core.wire.pace import ACK_BYTES, MIN_FRAME, Pace
from p2pinfer.overlay.limits import LEAST_UPLINK

SHORTEST_S: Final = 1e-4  # that a part needs at least
PARTS_KEPT: Final = 16  # of a link: the one that took least counts, the path without its queues


class Uplink:
    """is_shared: sessions are open, for which files make room. speed: of the line beside these"""

    def __init__(self, is_shared: Callable[[], bool]) -> None:
        self.is_shared = is_shared
        self.speed = LineRate(LEAST_UPLINK)
        self._holder: Lane | None = None  # whose part is on the line
        self._free_s = 0.0  # when that has left, if nothing shows it sooner
        self._waiting: dict[str, deque[Lane]] = {}  # by network, the next one first
        self._turn: Lane | None = None  # whose turn it is now
        self._changed = trio.Event()

    def take(self, lane: "Lane", hold_s: float) -> bool:
        """True, and the line is the lane's for so long, where it is free and nobody waits; else the lane waits."""
        if not self._is_free or (self._waiting and self._turn is not lane):
            lanes = self._waiting.setdefault(lane.network, deque())
            if lane not in lanes:
                lanes.append(lane)
                self._changed.set()
            return False
        self._holder, self._free_s = lane, trio.current_time() + hold_s
        return True

    @property
    def _is_free(self) -> bool:
        return self._holder is None or trio.current_time() >= self._free_s

    def give_back(self, lane: "Lane") -> None:
        """The lane's part has left the line; does nothing where another's is on it."""
        if self._holder is lane:
            self._holder = None
            self._changed.set()

    def leave(self, lane: "Lane") -> None:
        """Its link is dead."""
        self.give_back(lane)
        lanes = self._waiting.get(lane.network)
        if lanes is not None and lane in lanes:
            lanes.remove(lane)
            if not lanes:
                del self._waiting[lane.network]

    async def run(self) -> None:
        """Hand the line on to those who wait, until cancelled."""
        while True:
            with trio.CancelScope() as scope:
                if self._waiting and self._holder is not None:
                    scope.deadline = self._free_s
                await self._changed.wait()
            self._changed = trio.Event()
            self._hand_on()

    def _hand_on(self) -> None:
        while self._waiting and self._is_free:
            self._turn = self._next()
            self._turn.flush()
        self._turn = None

    def _next(self) -> "Lane":
        network = next(iter(self._waiting))
        lanes = self._waiting.pop(network)
        lane = lanes.popleft()
        if lanes:
            self._waiting[network] = lanes  # behind the others
        return lane


@dataclass(frozen=True, slots=True)
class _Part:
    """middle: bytes sent on the link up to it; an ack may fall short of the end by a few, and the next comes late

    waited: for the line
    """

    middle: int
    size: int
    sent_s: float
    waited: bool


class Lane:
    """One link's parts on the line.

    flush: writes what waits on the link
    begun: bytes of a part that is written now
    parts: those under way
    """

    def __init__(self, uplink: Uplink, source: Source, pace: Pace, flush: Callable[[], None]) -> None:
        self.network = site_of(source).key
        self.flush = flush
        self.begun = 0
        self.parts: deque[_Part] = deque()
        self._uplink = uplink
        self._is_here = source.scope is Scope.LOOPBACK
        self._pace = pace
        self._rate = 0.0  # bytes a second at which the latest part left; 0 while unknown
        self._took_s: deque[float] = deque(maxlen=PARTS_KEPT)  # beyond the least round trip
        self._was_late = False  # the latest pong
        self._waits = False  # a part, for the line

    def take(self, size: int) -> bool:
        """True if a part of so many bytes may be written now, and it is; else the link is flushed when it may."""
        if self._is_here or not self._uplink.is_shared():
            return True
        if self.parts and self._rate < LEAST_UPLINK:
            return False  # until the ack
        if not self._uplink.take(self, size / max(self._rate, self._uplink.speed.rate)):
            self._waits = True
            return False
        self.begun = size
        return True

    def note_sent(self, sent: int) -> None:
        """The part that was begun is written, and ends after so many bytes of the link."""
        self.parts.append(_Part(sent - self.begun // 2, self.begun, trio.current_time(), self._waits))
        self.begun, self._waits = 0, False

    def note_ack(self) -> None:
        """More is acknowledged."""
        part = None
        while self.parts and self.parts[0].middle <= self._pace.acknowledged:
            part = self.parts.popleft()
        if part is None:
            return
        if part.size >= ACK_BYTES and self._pace.rtt_s is not None:  # a shorter one is acknowledged late
            self._note_took(part, trio.current_time() - part.sent_s - self._pace.rtt_s)
        if not self.parts:
            self._uplink.give_back(self)

    def _note_took(self, part: _Part, took_s: float) -> None:
        speed, now = self._uplink.speed, trio.current_time()
        if self._took_s and speed.is_late(took_s - min(self._took_s), part.size):
            speed.note_late(self.network, now)
        elif self._rate < speed.rate:
            speed.note_in_time(part.size, now, waited=part.waited)
        self._took_s.append(took_s)
        self._rate = part.size / took_s if took_s > SHORTEST_S else 0.0  # its pongs are later than its acks

    def note_pong(self, late_s: float) -> None:
        """On a link of a session a pong came so much later than others did. One alone is chance."""
        is_late = not self._is_here and self._uplink.speed.is_late(late_s, MIN_FRAME)
        if is_late and self._was_late:
            self._uplink.speed.shrink(trio.current_time())
        self._was_late = is_late

    def leave(self) -> None:
        """The link is dead."""
        self.parts.clear()
        self._uplink.leave(self)
