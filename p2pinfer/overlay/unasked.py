"""Bounds on offers that nobody asked for: each costs two checks of signatures (protocols/wire.md, 7.1)."""

from math import inf
from weakref import WeakKeyDictionary

from p2pinfer.core.swarm.allowance import Allowance, Rate
from p2pinfer.overlay.limits import (
    ALL_UNASKED_BURST,
    ALL_UNASKED_RATE,
    UNASKED_BURST,
    UNASKED_RATE,
    UNASKED_S,
)
from p2pinfer.overlay.link import Link


class Unasked:
    """Of all links. What strangers make up uses up what is for all, so each link has one now and then besides."""

    def __init__(self) -> None:
        self._allowance = Allowance(Rate(UNASKED_BURST, UNASKED_RATE), Rate(ALL_UNASKED_BURST, ALL_UNASKED_RATE))
        self._free_at: WeakKeyDictionary[Link, float] = WeakKeyDictionary()

    def takes(self, link: Link, now: float) -> bool:
        """Say if one more offer that came on the link is looked at; then it counts."""
        if now >= self._free_at.get(link, -inf):
            self._free_at[link] = now + UNASKED_S
            return True
        return self._allowance.take(link.source, now)
