"""Room at a node: one session finds it, and others give it up to those who ask (protocols/inference.md, 7.1).

Room is nobody's right. Keys cost nothing, credit is had for a few seconds of work that is paid with promises, and to
hold a session open costs nothing either. So whatever is idle gives way once somebody asks, and what becomes free goes
to those who hold least. Who is alone may have everything.
"""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from p2pinfer.core.budget import RETRY_S
from p2pinfer.core.codes import Code
from p2pinfer.core.errors import Refused
from p2pinfer.core.units import PeerKey

FIRST_ROWS_S: Final = 2.0  # without a prompt or rows, before a session may have to give way
RESTING_S: Final = 10.0  # with nothing to compute since, likewise
POSITION_S: Final = 1.0  # a position keeps its session in use for so long: one every ten seconds is no use
ROOM_PART: Final = 8  # whose key or network holds more than one part in so many gives way first
WAITING_S: Final = 5.0  # after a refusal, who would hold more finds no room: the one refused asks again by then


@dataclass(frozen=True, slots=True)
class HeldSession:
    """A session that holds room, or asks for it.

    network: where its client comes from; None on our own machine, where keys share one address whoever they are
    own:     its client is the node's owner
    rests:   nothing happens in it, so that it may have to give way
    alone:   its client's link broke: of those that rest it goes first
    idle_s:  since it was in use
    pages:   of KV cache
    """

    slot: int
    client: PeerKey
    network: str | None
    newcomer: bool
    own: bool
    rests: bool
    idle_s: float
    pages: int
    alone: bool = False


def is_at_rest(idle_s: float, *, started: bool) -> bool:
    """True if a session was not in use for so long that it may have to give way. started: rows or ids have come"""
    return idle_s >= (RESTING_S if started else FIRST_ROWS_S)


class Room:
    """Of one node: so many sessions and pages in all. Times are seconds of a monotonic clock."""

    def __init__(self, sessions: int, pages: int) -> None:
        self._sessions = sessions
        self._pages = pages
        self._waiting: tuple[HeldSession, float] | None = None  # who was refused and holds least, and when

    def find(self, held: Collection[HeldSession], asks: HeldSession, free_pages: int, now: float) -> list[int]:
        """Return the slots of the sessions that have to end, so that one more finds room.

        Raises Refused (BUSY) where there is no room even so, or it is kept for somebody who holds less.
        """
        if self._is_kept(held, asks, now):
            raise Refused("what is free is kept for a client that holds less", Code.BUSY, RETRY_S)
        going: list[int] = []
        pages, waiting = free_pages, self._in_order(held, asks)
        while len(held) - len(going) >= self._sessions or pages < asks.pages:
            if not waiting:
                self._wait(held, asks, now)
                raise Refused(self._words(held, asks, free_pages), Code.BUSY, RETRY_S)
            leaves = waiting.pop()
            going.append(leaves.slot)
            pages += leaves.pages
        if self._waiting is not None and self._waiting[0].client == asks.client:
            self._waiting = None
        return going

    def _in_order(self, held: Collection[HeldSession], asks: HeldSession) -> list[HeldSession]:
        """Those who give way to one who asks; who gives way first stands last."""
        holdings = self._holdings(held)
        resting = (one for one in held if one.rests and not one.own)
        giving = (one for one in resting if asks.own or not holdings.exceed(asks, one))

        def order(one: HeldSession) -> tuple[bool, bool, bool, float, float]:
            part = holdings.part(one)
            return one.alone, part * ROOM_PART > 1, one.newcomer, part, one.idle_s

        return sorted(giving, key=order)

    def _is_kept(self, held: Collection[HeldSession], asks: HeldSession, now: float) -> bool:
        """True if somebody waits who, with what it asked for, would hold less."""
        if self._waiting is None or now >= self._waiting[1] + WAITING_S or asks.own:
            return False
        waits = self._waiting[0]
        return self._holdings([*held, waits, asks]).exceed(asks, waits)

    def _wait(self, held: Collection[HeldSession], asks: HeldSession, now: float) -> None:
        """Keep what becomes free for one who was refused, unless somebody who would hold less waits already."""
        if not self._is_kept(held, asks, now):
            self._waiting = asks, now

    def _holdings(self, held: Iterable[HeldSession]) -> "_Holdings":
        return _Holdings(held, self._sessions, self._pages)

    def _words(self, held: Collection[HeldSession], asks: HeldSession, free_pages: int) -> str:
        sessions = f"{len(held)} of {self._sessions} sessions are open"
        return f"{sessions}, {asks.pages} pages of KV cache are asked for and {free_pages} free"


class _Holdings:
    """What keys and networks hold: the greater of their parts of all sessions and of all pages."""

    def __init__(self, held: Iterable[HeldSession], sessions: int, pages: int) -> None:
        self._sessions = sessions
        self._pages = pages
        self._counts: Counter[PeerKey | str] = Counter()
        self._held_pages: Counter[PeerKey | str] = Counter()
        for one in held:
            holders: list[PeerKey | str] = [one.client] if one.network is None else [one.client, one.network]
            for holder in holders:
                self._counts[holder] += 1
                self._held_pages[holder] += one.pages

    def part(self, one: HeldSession) -> float:
        """The part of a session's key, or of its network where that is more."""
        return max(self._part(one.client), 0.0 if one.network is None else self._part(one.network))

    def exceed(self, one: HeldSession, other: HeldSession) -> bool:
        """True if one's client holds more than another's. Of one network only their keys differ."""
        if one.network is not None and one.network == other.network:
            return self._part(one.client) > self._part(other.client)
        return self.part(one) > self.part(other)

    def _part(self, holder: PeerKey | str) -> float:
        return max(self._counts[holder] / self._sessions, self._held_pages[holder] / self._pages)
