"""Nodes that had no room for one request, and when each is asked again.

They say when. But one that refuses whoever it has just called would be asked without a pause, and with it the honest
stages of its route: so no node is asked again before LEAST_RETRY_S are over, which doubles with each time that it was
asked, up to RETRY_S.
"""

from collections.abc import Collection, Iterable
from math import inf
from random import Random
from typing import Final

import trio

from p2pinfer.core.money.budget import RETRY_S
from p2pinfer.core.room.queue import MAX_RETRY_S

LEAST_RETRY_S: Final = 0.1
APART: Final = 1.5  # times as long, at most, as a node said that gave no place: those that it refused together part


class FullNodes:
    """Of one request. lots: part those that were refused together"""

    def __init__(self, lots: Random) -> None:
        self._lots = lots
        self._again_at: dict[bytes, float] = {}
        self._told: set[bytes] = set()  # those who said when to come: they gave a place, or were asked too much
        self._earliest: dict[bytes, float] = {}  # of all that were asked: not again before
        self._rest_s: dict[bytes, float] = {}  # the same, from the asking on
        self._news = trio.Event()  # renewed; one may be asked sooner than it said before

    def __bool__(self) -> bool:
        return bool(self._again_at)

    @property
    def nodes(self) -> Collection[bytes]:
        """Those that are not asked now."""
        return self._again_at.keys()

    @property
    def first(self) -> bytes:
        """Of them, the one that may have room first."""
        return min(self._again_at, key=lambda node: self._again_at[node])

    @property
    def next_at(self) -> float:
        """The time when one of them may have room."""
        return min(self._again_at.values(), default=inf)

    def after(self, now: float) -> set[bytes]:
        """Those that said a later time."""
        return {node for node, at in self._again_at.items() if at > now}

    async def wait_next(self, until: float) -> None:
        """Wait until one of them may have room, by what they say till then, or until that time."""
        while trio.current_time() < (at := min(until, self.next_at)):
            with trio.move_on_at(at):
                await self._news.wait()

    # What they say

    def note_asked(self, nodes: Iterable[bytes]) -> None:
        """A route over these is opened now."""
        now = trio.current_time()
        for node in nodes:
            rest_s = self._rest_s[node] = min(2 * self._rest_s.get(node, LEAST_RETRY_S / 2), RETRY_S)
            self._earliest[node] = now + rest_s

    def note_word(self, node: bytes, again_at: float, is_turn: bool) -> None:
        """A node where we have a place says when to ask it again. is_turn: now; one that we are asking knows that"""
        if is_turn and node not in self._again_at:
            return
        self._told.add(node)
        self._note(node, again_at)

    def note_refusal(self, node: bytes, retry_s: float, is_busy: bool) -> None:
        """A node has no room. is_busy: that is not for what we have there ourselves"""
        if node in self._again_at:  # where we have a place, it has said more since
            return
        self._note(node, trio.current_time() + min(retry_s, MAX_RETRY_S) * self._lots.uniform(1, APART))
        if is_busy:
            self._told.add(node)

    def _note(self, node: bytes, again_at: float) -> None:
        again_at = max(again_at, self._earliest.get(node, -inf))
        is_sooner = again_at < self._again_at.get(node, inf)
        self._again_at[node] = again_at
        if is_sooner:
            self._news.set()
            self._news = trio.Event()

    # Asking them again

    def admit(self, until: float) -> None:
        """Ask those that may have room by then: each comes back when it was told to, and none at once."""
        now = trio.current_time()
        resting = {node: at for node, at in self._earliest.items() if at > now}
        self._again_at = {
            node: resting[node] if at <= until else at
            for node, at in self._again_at.items()
            if at > until or node in resting
        }

    def admit_left(self, now: float) -> None:
        """One of ours has left, so others may have credit; those who gave a place say themselves when to come."""
        self._again_at = {node: at for node, at in self._again_at.items() if at > now and node in self._told}
