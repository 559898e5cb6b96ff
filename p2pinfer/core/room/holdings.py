"""The parts of a node's room that clients hold: sessions and pages of KV cache, counted by key and by network.

Keys cost nothing, so who comes from one network counts as one as well (protocols/inference.md, 7.1).
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from p2pinfer.core.values.units import PeerKey

Holder = PeerKey | str  # a key, or a network


@dataclass(frozen=True, slots=True)
class HeldSession:
    """A session that holds room, or asks for it.

    network: where its client comes from; None on our own machine, where keys share one address whoever they are
    own:     its client is the node's owner
    rests:   nothing happens in it, so that it may have to give way
    alone:   its client's link broke: of those that rest it goes first
    idle_s:  since it was in use
    pages:   of KV cache
    held_s:  since it has had its room
    begun:   a prompt or rows have come
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
    held_s: float = 0.0
    begun: bool = True

    @property
    def holders(self) -> tuple[Holder, ...]:
        """Those for whom it counts: its key, and its network last where it counts."""
        return (self.client,) if self.network is None else (self.client, self.network)


class Holdings:
    """The holdings of keys and networks: the greater of their parts of all sessions and of all pages."""

    def __init__(self, held: Iterable[HeldSession], sessions: int, pages: int) -> None:
        self._sessions = sessions
        self._pages = pages
        self._counts: Counter[Holder] = Counter()
        self._held_pages: Counter[Holder] = Counter()
        for one in held:
            self.add(one)

    def add(self, one: HeldSession) -> None:
        for holder in one.holders:
            self._counts[holder] += 1
            self._held_pages[holder] += one.pages

    def remove(self, one: HeldSession) -> None:
        for holder in one.holders:
            self._counts[holder] -= 1
            self._held_pages[holder] -= one.pages

    def weigh(self, one: HeldSession) -> float:
        """Return how many sessions' room one has."""
        return max(1.0, one.pages * self._sessions / self._pages)

    @property
    def session_part(self) -> float:
        """The part that one session has, unless it asks for much."""
        return 1 / self._sessions

    def part(self, holder: Holder) -> float:
        return max(self._counts[holder] / self._sessions, self._held_pages[holder] / self._pages)

    def part_of(self, one: HeldSession) -> float:
        """The part of a session's key, or of its network where that is more."""
        return max(map(self.part, one.holders))

    def exceed(self, one: HeldSession, other: HeldSession) -> bool:
        """True if one's client holds more than another's. Of one network only their keys differ."""
        if one.network is not None and one.network == other.network:
            return self.part(one.client) > self.part(other.client)
        return self.part_of(one) > self.part_of(other)
