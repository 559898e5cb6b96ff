"""The machine of a peer, as far as no program can compute it: the time of day, and lots.

`open_node` and `open_client` take the real one and hand it down; whoever has the `Network` has it. Simulations open a
peer on a `JumpingClock` and on seeded lots. How much time passed is another question, for trio's clock alone.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random, SystemRandom

import trio


@dataclass(frozen=True, slots=True)
class Machine:
    """clock: the time of day in Unix seconds; it may be wrong, and jump. lots: real ones can be foretold by nobody"""

    clock: Callable[[], float] = time.time
    lots: Random = field(default_factory=SystemRandom)

    def unix(self) -> int:
        """The time of day in whole Unix seconds, as records have it."""
        return int(self.clock())


class JumpingClock:
    """A time of day that goes on with trio's clock, a mock one too, and jumps when it is told to."""

    def __init__(self, begins: float) -> None:
        """begins: the time of day when trio's clock stands at 0, in Unix seconds"""
        self._begins = begins

    def __call__(self) -> float:
        return self._begins + trio.current_time()

    def jump(self, seconds: float) -> None:
        """Go so far ahead at once, or back: somebody set the clock."""
        self._begins += seconds
