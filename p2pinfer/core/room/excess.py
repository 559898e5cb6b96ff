"""The room that keys and networks had beyond their shares while others waited (protocols/inference.md, 7.1 and 7.2).

Turns count alike, however long they last: alone they would give nearly all of a node's time to whoever has the longest
sessions. So what one holds beyond an equal share is added up, in seconds of one session's room, and taken off again
while it holds less. The more of it one has, the later it comes; in the end it gives way, though its sessions are in
use.
"""

from collections import Counter
from collections.abc import Collection
from math import inf
from typing import Final

from p2pinfer.core.room.holdings import HeldSession, Holder, Holdings

EXCESS_STEP_S: Final = 10.0  # of excess put one behind those with less; smaller differences are chance
MOST_EXCESS_S: Final = 180.0  # from then on sessions in use may have to give way
SLICE_S: Final = 30.0  # but none that began so lately, and to none that waits for less


class Excess:
    """At a node of so many sessions. Times are seconds of a monotonic clock."""

    def __init__(self, sessions: int) -> None:
        self._sessions = sessions
        self._had_s: dict[Holder, float] = {}
        self._shares: dict[Holder, float] = {}  # of those who hold room or wait for it, in sessions' room
        self._gains: dict[Holder, float] = {}  # a second, since the latest look
        self._share = 0.0  # of a network, likewise
        self._looked_s = inf

    def look(
        self, held: Collection[HeldSession], waiting: Collection[HeldSession], holdings: Holdings, now: float
    ) -> None:
        """Count what was since the look before. From now on, this is how things are.

        While nobody waits nobody has too much. What the owner holds is not there to be shared.
        """
        self._count(max(0.0, now - self._looked_s))
        self._looked_s = now
        clients = {(one.client, one.holders[-1]) for one in (*held, *waiting) if not one.own}
        keys = Counter(network for _, network in clients)
        owners_part = sum(map(holdings.part, {one.client for one in held if one.own}))
        self._share = self._sessions * max(0.0, 1 - owners_part) / max(1, len(keys))
        self._shares = {client: self._share / keys[network] for client, network in clients}
        self._shares |= dict.fromkeys(keys, self._share)
        rooms = self._shares.items() if waiting else ()
        self._gains = {holder: self._sessions * holdings.part(holder) - share for holder, share in rooms}

    def steps(self, holder: Holder) -> int:
        """By how much one comes later than others."""
        return int(self._had_s.get(holder, 0.0) / EXCESS_STEP_S)

    def is_much(self, one: HeldSession, weight: float) -> bool:
        """True if a session of so many sessions' room may have to give way for what its client, or network, had."""
        return one.held_s >= SLICE_S and any(self._has_much(holder, weight) for holder in one.holders)

    def may_end(self, one: HeldSession, asks: HeldSession, holdings: Holdings) -> bool:
        """True if such a session may have to give way to this one, of another client.

        Of one network only their keys differ.
        """
        if one.client == asks.client:
            return False
        holder = one.client if one.network == asks.network else one.holders[-1]
        has_more = self._sessions * holdings.part(holder) > self._shares.get(holder, inf)
        return has_more and self._has_much(holder, holdings.weigh(one))

    def _has_much(self, holder: Holder, weight: float) -> bool:
        """It takes a session as long to come to it, however much memory it has."""
        return self._had_s.get(holder, 0.0) >= MOST_EXCESS_S * weight

    def _count(self, passed_s: float) -> None:
        had = {
            holder: self._had_s.get(holder, 0.0) + self._gains.get(holder, -self._share) * passed_s
            for holder in {*self._had_s, *self._gains}
        }
        self._had_s = {holder: had_s for holder, had_s in had.items() if had_s > 0}
