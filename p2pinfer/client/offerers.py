"""The peers that offer a model, asked in turns for a file until one has brought it.

Offers cost nothing, so most may be of peers that keep silent. One is asked first; while nobody brings enough, more are
asked with every moment. Networks have turns, and who brought nothing before comes last. Who is busy, silent or slow may
still bring the file, but keeps nobody from being asked; only so many are asked at once, and the slowest make way.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import trio

from p2pinfer.core.swarm.offers import KnownOffer
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import PeerError, Refused, RemoteProtocolError, TurnedAway
from p2pinfer.core.values.units import PeerKey
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.lots import drawn
from p2pinfer.overlay.network import Network
from p2pinfer.overlay.reach import reach

MOMENT_S: Final = 0.5  # before more peers are asked beside those that bring nothing,
MOMENT_TRIPS: Final = 2  # or so many round trips, where the nearest peer is further away
FAR_S: Final = 2.0  # a round trip of at most this is reckoned with
MOST_MORE: Final = 16  # of them in one moment; twice as many as in the last one before that
AT_ONCE: Final = 64  # asked for one file: each has some seconds before it has to make way
SENDING: Final = 4  # of these that have sent a part: all copies come over one line
ALL_AT_ONCE: Final = 256  # asked for all files; beyond it one for each
BRISK: Final = 50_000  # bytes a second: while a file comes so fast,
BRISK_MOMENTS: Final = 4  # one more peer is asked in so many moments: it may be another file that comes
MAX_FAILED: Final = 4_096  # peers that brought nothing, remembered


@dataclass(slots=True, eq=False)
class Ask:
    """A peer that is asked for a file. received: bytes of it so far; earlier: before this moment."""

    known: KnownOffer
    began_s: float
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    received: int = 0
    earlier: int = 0

    @property
    def lately(self) -> int:
        return self.received - self.earlier


Fetch = Callable[[Link, Ask], Awaitable[bytes]]  # counts what it received


class Offerers:
    """Those whom one client asks, and what it remembers of them."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.asked = 0  # now, for all files
        self._failed: dict[PeerKey, None] = {}  # who failed first, first

    async def first(self, peers: Sequence[KnownOffer], fetch: Fetch) -> bytes:
        """Ask one after the other, and return what `fetch` brings from the first for which it raises no error.

        Raises Refused (NOT_FOUND) with the reason of the last peer where all have failed.
        """
        return await _Round(self, *self._order(peers), fetch).run()

    @property
    def moment_s(self) -> float:
        """Nobody's silence means anything before the nearest peer could have answered."""
        nearest_s = min((link.rtt_s or 0.0 for link in self.network.links()), default=0.0)
        return max(MOMENT_S, MOMENT_TRIPS * min(nearest_s, FAR_S))

    def note(self, peer: PeerKey, *, failed: bool) -> None:
        """A peer brought nothing, or something."""
        self._failed.pop(peer, None)
        if failed:
            self._failed[peer] = None
            if len(self._failed) > MAX_FAILED:
                del self._failed[next(iter(self._failed))]

    def _order(self, peers: Sequence[KnownOffer]) -> tuple[list[KnownOffer], list[KnownOffer]]:
        """Those that we are linked to, then the others; and who failed before, those first who did so long ago."""
        new = [known for known in peers if known.node not in self._failed]
        there = {link.peer for link in self.network.links()}  # to ask for each would count as its use
        linked = [known for known in new if known.node in there]
        others = [known for known in new if known.node not in there]
        by_node = {known.node: known for known in peers}
        failed = [by_node[node] for node in self._failed if node in by_node]
        lots = self.network.machine.lots  # whoever offers first is not asked first
        return [*drawn(linked, len(linked), lots), *drawn(others, len(others), lots)], failed


class _Round:
    """One file, asked for among peers in this order. last: those to be asked when nobody else is left"""

    def __init__(
        self, offerers: Offerers, first: Iterable[KnownOffer], last: Iterable[KnownOffer], fetch: Fetch
    ) -> None:
        self._offerers = offerers
        self._first, self._last = deque(first), deque(last)
        self._fetch = fetch
        self._asks: list[Ask] = []  # who was asked first, first
        self._found: list[bytes] = []
        self._why = "nobody offers it"

    async def run(self) -> bytes:
        async with trio.open_nursery() as self._nursery:
            await self._ask_on()
        if self._found:
            return self._found[0]
        raise Refused(self._why, Code.NOT_FOUND)

    @property
    def _goes_on(self) -> bool:
        return bool(self._asks or self._first or self._last)

    async def _ask_on(self) -> None:
        more, brisk = 1, 0
        while self._goes_on:
            for _ in range(more):
                self._ask_next()
            moment_s = self._offerers.moment_s
            await trio.sleep(moment_s)
            if any(ask.lately >= BRISK * moment_s for ask in self._asks):
                brisk += 1
                more = int(brisk % BRISK_MOMENTS == 0)
            else:
                more = min(2 * more, MOST_MORE) or 1
            self._look(trio.current_time() - moment_s)

    def _look(self, began_s: float) -> None:
        """At the end of a moment: note who was silent in all of it, and leave the slowest where many send."""
        sending = sorted((ask for ask in self._asks if ask.earlier), key=lambda ask: -ask.lately)
        for ask in sending[SENDING:]:
            self._leave(ask)
        for ask in self._asks:
            if ask.began_s <= began_s:
                self._offerers.note(ask.known.node, failed=not ask.lately)
            ask.earlier = ask.received

    def _ask_next(self) -> None:
        queue = self._first or self._last
        if not queue or (self._asks and self._offerers.asked >= ALL_AT_ONCE):
            return
        if len(self._asks) >= AT_ONCE:
            self._leave(min(self._asks, key=lambda ask: ask.received))  # of those that sent nothing the first
        ask = Ask(queue.popleft(), trio.current_time())
        self._asks.append(ask)
        self._offerers.asked += 1
        self._nursery.start_soon(self._run, ask)

    def _leave(self, ask: Ask) -> None:
        """It makes way for another, and is asked again after all others, while time is left."""
        ask.scope.cancel()
        self._forget(ask)
        self._last.append(ask.known)

    def _forget(self, ask: Ask) -> None:
        """Its place is free: it is over, or will be at once."""
        if ask in self._asks:
            self._asks.remove(ask)
            self._offerers.asked -= 1

    async def _run(self, ask: Ask) -> None:
        try:
            with ask.scope:
                await self._take(ask)
        finally:
            self._forget(ask)
        if self._found or not self._goes_on:
            self._nursery.cancel_scope.cancel()

    async def _take(self, ask: Ask) -> None:
        known = ask.known
        try:
            # Who makes up holders takes no dial that a session waits for
            link = await reach(self._offerers.network, known.node, known.addresses, told_by="")
        except Refused as refusal:
            if refusal.code is Code.BUSY or isinstance(refusal, TurnedAway):  # we may not dial, or it has no room
                self._first.append(known)
            else:
                self._fail(ask, refusal)
            return
        try:
            self._found.append(await self._fetch(link, ask))
        except (PeerError, RemoteProtocolError) as error:
            self._fail(ask, error)
        else:
            self._offerers.note(known.node, failed=False)

    def _fail(self, ask: Ask, why: Exception) -> None:
        """At once the next is asked."""
        self._why = str(why)
        self._forget(ask)
        self._offerers.note(ask.known.node, failed=True)
        self._ask_next()
