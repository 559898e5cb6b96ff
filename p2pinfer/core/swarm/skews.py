"""Our clock, by peers' Hellos: a network has one voice, and a few voices are nobody's word but their own.

Pure: `now` is the caller's monotonic clock in seconds.
"""

from collections import OrderedDict
from math import inf
from statistics import median
from typing import Final

from p2pinfer.core.records.records import MAX_SKEW_S

SEVERAL: Final = 3  # networks that must say so
LATELY_S: Final = 86_400.0  # a voice counts for so long, and the owner is told as seldom
MAX_VOICES: Final = 256


class Skews:
    """The clocks of those who linked to us lately, less ours."""

    def __init__(self) -> None:
        self._voices: OrderedDict[str, tuple[float, float]] = OrderedDict()  # when, and how far; the oldest first
        self._told_s = -inf

    def note(self, network: str, skew_s: float, now: float) -> float | None:
        """A peer of this network linked to us; how far most are from us, where it is time to tell the owner."""
        self._voices[network] = now, skew_s
        self._voices.move_to_end(network)
        while len(self._voices) > MAX_VOICES or next(iter(self._voices.values()))[0] + LATELY_S < now:
            self._voices.popitem(last=False)
        far = [skew_s for _, skew_s in self._voices.values() if abs(skew_s) > MAX_SKEW_S]
        if len(far) < SEVERAL or 2 * len(far) <= len(self._voices) or now < self._told_s + LATELY_S:
            return None
        self._told_s = now
        return median(far)
