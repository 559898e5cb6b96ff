"""Connections that others open: how many a second are answered with a handshake (protocols/wire.md, 7.1).

Noise costs us milliseconds of arithmetic and the other side nothing, if all that it sends is made up. Connections
beyond those of one network, or of one holder of IPv6 addresses, are closed; what is more than all may have waits, in
turn.
"""

from math import inf
from typing import Final

import trio

from p2pinfer.core.swarm.allowance import Allowance, Rate
from p2pinfer.core.swarm.source import NOWHERE, Source, site_of
from p2pinfer.core.swarm.turns import Turns
from p2pinfer.overlay.limits import (
    ALL_HANDSHAKES_BURST,
    ALL_HANDSHAKES_RATE,
    HANDSHAKES_BURST,
    HANDSHAKES_RATE,
    SITE_HANDSHAKES_BURST,
    SITE_HANDSHAKES_RATE,
)

WITHOUT_END: Final = Rate(inf, inf)


class Knocks:
    """Of one listener. `run` has to run."""

    def __init__(self) -> None:
        self._networks = Allowance(Rate(HANDSHAKES_BURST, HANDSHAKES_RATE), WITHOUT_END)
        self._sites = Allowance(Rate(SITE_HANDSHAKES_BURST, SITE_HANDSHAKES_RATE), WITHOUT_END)
        self._all = Allowance(WITHOUT_END, Rate(ALL_HANDSHAKES_BURST, ALL_HANDSHAKES_RATE))
        self._turns = Turns()
        self._waiting: dict[trio.Event, str] = {}  # in the order they came
        self._came = trio.Event()

    async def run(self) -> None:
        """Let those in who wait; until cancelled."""
        while True:
            await self._came.wait()
            while self._waiting:
                if self._all.take(NOWHERE, trio.current_time()):
                    self._let_in()
                else:
                    await trio.sleep(1 / ALL_HANDSHAKES_RATE)
            self._came = trio.Event()

    def may_wait(self, source: Source) -> bool:
        """True if that many may come from there."""
        now, site = trio.current_time(), site_of(source)
        return self._sites.left(site, now) >= 1 and self._networks.take(source, now) and self._sites.take(site, now)

    async def wait(self, source: Source) -> None:
        """Wait until it is the turn of somebody from there."""
        if not self._waiting and self._all.take(NOWHERE, trio.current_time()):
            return
        turn = trio.Event()
        self._waiting[turn] = site_of(source).key
        self._came.set()
        try:
            await turn.wait()
        finally:
            self._waiting.pop(turn, None)

    def _let_in(self) -> None:
        for turn in self._turns.take(((site, turn) for turn, site in self._waiting.items()), 1):
            del self._waiting[turn]
            turn.set()
