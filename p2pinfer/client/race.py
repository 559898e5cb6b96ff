"""Routes of one request that are under way beside each other: opened, and no id yet. The first id counts.

The others are cancelled in the same step, so that at most one route of a request ever has an id. What they were paid
before it, and what the one may come to, stay within the price limit together: a route that could pass it joins none,
nor is one joined that may take something and bring nothing.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from math import inf
from typing import Final

import trio

from p2pinfer.client.full_nodes import FullNodes
from p2pinfer.client.route_finder import FoundRoute
from p2pinfer.client.route_links import RouteLinks
from p2pinfer.client.run import Run
from p2pinfer.core.values.codes import Code

MAX_UNDER_WAY: Final = 10  # routes opened at the same time
FIRST_ID_S: Final = 5.0  # a route is given this, and
FIRST_ID_FACTOR: Final = 4  # so many times the predicted time, to deliver its first id, where there is another route
SOON_S: Final = 0.75  # a route over nodes that never answered us is given this, and
SOON_FACTOR: Final = 2  # so many times the predicted time, before another is tried beside it; less beside many


class Race:
    """links:      hears who was late
    full:          nodes that had no room: one that has some again may join
    leaves_other:  if this route failed, too, there would be another
    """

    def __init__(self, links: RouteLinks, full: FullNodes, leaves_other: Callable[[FoundRoute], bool]) -> None:
        self._links = links
        self._full = full
        self._leaves_other = leaves_other
        self._routes: dict[Run, FoundRoute] = {}  # the first of them first
        self._give_up_at: dict[Run, float] = {}
        self._joins_at = inf  # by the last of them
        self._lost = 0  # nano-credits that those cost which are over
        self.is_closed = False  # no other joins any more

    def __bool__(self) -> bool:
        return bool(self._routes)

    @property
    def routes(self) -> Sequence[FoundRoute]:
        return tuple(self._routes.values())

    @property
    def has_id(self) -> bool:
        """One of them has delivered an id."""
        return any(running.generation.ids for running in self._routes)

    # What they cost, in nano-credits

    @property
    def spent(self) -> int:
        """So much have all cost, but for one that has won."""
        return self._lost + sum(running.cost for running in self._routes)

    @property
    def committed(self) -> int:
        """So much may all come to, where none of those under way has the first id."""
        return self._lost + sum(route.ahead for route in self._routes.values())

    def may_join(self, route: FoundRoute) -> bool:
        """Beside those under way it cannot pass the price limit, whichever of them comes to have the first id."""
        least = max((one.reserve - self._routes[one].ahead for one in self._routes), default=0)
        return not self._routes or (not route.lent and least + route.ahead <= route.most)

    # Coming and going

    def enter(self, route: FoundRoute, running: Run) -> None:
        """It is opened."""
        self._routes[running] = route
        now = trio.current_time()
        self._give_up_at[running] = now + FIRST_ID_S + FIRST_ID_FACTOR * route.first_id_s
        self._joins_at = now + soon_s(route, len(self._routes))

    @property
    def joins_at(self) -> float:
        """From when another one may be opened beside them."""
        is_full = len(self._routes) >= MAX_UNDER_WAY or any(route.lent for route in self._routes.values())
        return inf if is_full or self.is_closed else self._joins_at

    def take(self) -> tuple[FoundRoute, Run]:
        """One that has begun: it has an id, or else it was the first to fail."""
        begun = [one for one in self._routes if one.begun]
        running = next((one for one in begun if one.generation.ids), begun[0])
        route = self._remove(running)
        if not running.generation.ids:
            self._lost += running.cost
        return route, running

    def cancel_others(self, winner: Run | None) -> None:
        """End what is under way, but for the one that answered; whoever was tried before it was late.

        Runs in the step in which the first id comes: what another delivers after it is dropped, and nothing of it paid.
        """
        for running in [one for one in self._routes if one is not winner]:
            route = self._remove(running)
            if winner is not None and not running.begun and running.started_s < winner.started_s:
                self._links.note_late(route.stages, trio.current_time() - running.started_s)
            running.fail("another route answered, or the client cancelled", Code.CANCELLED)
            self._lost += running.cost

    def _remove(self, running: Run) -> FoundRoute:
        del self._give_up_at[running]
        return self._routes.pop(running)

    # Waiting

    async def wait_begun(self, until: float) -> bool:
        """Wait for an id of one of them, or a failure.

        False at that time, and as soon as another may join that was full.
        """
        while not any(running.begun for running in self._routes):
            at = min(until, max(self.joins_at, self._full.next_at))
            if trio.current_time() >= at:
                return False
            await self._wait_one(at)
        return True

    async def wait_id(self) -> bool:
        """Wait for an id of one of them; False where all have failed."""
        while not self.has_id:
            if all(running.begun for running in self._routes):
                return False
            await self._wait_one(inf)
        return True

    async def _wait_one(self, until: float) -> None:
        """Wait until one more of them has begun, or another may take its place, or that time."""
        now = trio.current_time()
        silent = [running for running in self._routes if not running.begun]
        for running in silent:
            if self._give_up_at[running] <= now and self._leaves_other(self._routes[running]):
                running.give_up(now - running.started_s)
        waits: list[Callable[[], Awaitable[None]]] = [running.wait_begun for running in silent]
        if self._full.next_at > now:
            waits.append(partial(self._full.wait_next, inf))
        look_at = min((at for at in self._give_up_at.values() if at > now), default=inf)
        with trio.move_on_at(min(until, look_at, now + FIRST_ID_S)):
            await _wait_any(waits)


def soon_s(route: FoundRoute, under_way: int = 1) -> float:
    """Seconds that a route is given before another one is tried beside it and as many as are under way.

    By its own word: who is known to be late is not waited for all the longer.
    """
    return SOON_S / under_way + SOON_FACTOR * (route.first_id_s - route.late_s)


async def _wait_any(waits: Sequence[Callable[[], Awaitable[None]]]) -> None:
    """Wait until one of them is over."""

    async def one(wait: Callable[[], Awaitable[None]]) -> None:
        await wait()
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for wait in waits:
            nursery.start_soon(one, wait)
