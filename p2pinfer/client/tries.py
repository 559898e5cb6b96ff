"""Trying routes until one answers: a stage that refuses, vanishes, lies or keeps silent costs a try, not the answer.

Only until the first id comes: what was delivered is not asked for again. Whoever failed is left out for the rest of the
request, and remembered for a while; of a route of which nobody knows who did, all are left out until they are needed
(`left_out.py`). A route over nodes that never answered us is not waited for alone: soon the next one is tried beside
it (`race.py`). Where all nodes are full we wait for room (`waiting_room.py`); one that has some again is asked beside
those that are under way, for these may keep silent.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Final

import trio

from p2pinfer.client.full_nodes import FullNodes
from p2pinfer.client.left_out import LeftOut
from p2pinfer.client.places import Places
from p2pinfer.client.race import Race, soon_s
from p2pinfer.client.route_finder import FoundRoute, RouteFinder
from p2pinfer.client.route_links import RouteLinks
from p2pinfer.client.routes import Sought
from p2pinfer.client.run import Run
from p2pinfer.client.waiting_room import OwnRoom, WaitingRoom
from p2pinfer.core.values.errors import GenerationFailed, NoRoute, P2pinferError, TooDear, Unreached
from p2pinfer.core.values.keys import short_names
from p2pinfer.overlay.machine import Machine

TRY_S: Final = 90.0  # after so long no further route is tried: one may take STALL_S, and is not the last
MAX_AT_ONCE: Final = 8  # routes dialled at the same time, after others could not be reached

Start = Callable[[FoundRoute, Places, Callable[[Run], None]], Run]


@dataclass(frozen=True, slots=True)
class Wait:
    """The room that a request waits for.

    own_room:    of our other generations
    patience_s:  none of which has room: we wait so long for nodes to have some
    say:         hears what we wait for
    reach_until: where no route could be reached by then, Unreached is raised: others may be left
    """

    own_room: OwnRoom
    patience_s: float
    say: Callable[[str], None]
    reach_until: float = inf


class Tries:
    """The tries of one request.

    start:     opens a route; the last is called in the step in which its first id comes. Raises NoRoute where its
               stages' limits do not fit each other
    has_tried: a route was opened
    """

    def __init__(
        self, finder: RouteFinder, links: RouteLinks, sought: Sought, start: Start, wait: Wait, machine: Machine
    ) -> None:
        self._finder = finder
        self._links = links
        self._failures = finder.failures
        self._sought = sought
        self._start = start
        self._reach_until = wait.reach_until
        self._full = FullNodes(machine.lots)
        self._left_out = LeftOut(finder, sought, self._full)
        self._race = Race(links, self._full, self._leaves_other)
        self._waiting_room = WaitingRoom(self._full, wait.own_room, machine, wait.patience_s, wait.say)
        self._failure: P2pinferError | None = None
        self._over_at = trio.current_time() + TRY_S
        self.has_tried = False

    @property
    def places(self) -> Places:
        """Of the request, among those who wait at nodes."""
        return self._waiting_room.places

    @property
    def lost(self) -> int:
        """Nano-credits that went to routes which brought nothing."""
        return self._race.spent

    async def first_answering(self) -> Run:
        """The generation of the first route that has delivered an id.

        Raises NoRoute, or GenerationFailed with the reason of the last try; both say what the tries have cost.
        """
        try:
            return await self._first_answering()
        except (NoRoute, GenerationFailed) as error:
            raise self._with_losses(error) from None

    async def _first_answering(self) -> Run:
        at_once, running = 1, None
        try:
            while self._failure is None or self._race or trio.current_time() < self._over_at:
                if (running := await self._next(at_once)) is not None:
                    return running
                at_once = min(2 * at_once, MAX_AT_ONCE)
            raise self._failure
        finally:
            self._race.cancel_others(running)

    async def _next(self, at_once: int) -> Run | None:
        """Find a route, reach it, try it; None where that came to nothing yet. Raises where nothing is left to try."""
        if self._race and self._failure is not None and trio.current_time() >= self._over_at:
            self._race.is_closed = True
            return await self._wait_first(inf)
        route, until = await self._unless_answered(at_once)
        if route is not None and not self._race.has_id:
            return await self._try(route)
        return await self._wait_first(until)

    async def _unless_answered(self, at_once: int) -> tuple[FoundRoute | None, float]:
        """As `_look`; but the first id of those under way ends it."""
        if not self._race:
            return await self._look(at_once)
        looked: tuple[FoundRoute | None, float] = None, -inf
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._end_with_id, nursery.cancel_scope)
            looked = await self._look(at_once)
            nursery.cancel_scope.cancel()
        return looked

    async def _end_with_id(self, scope: trio.CancelScope) -> None:
        """Cancel it as soon as one of those under way has delivered an id. One that failed can wait."""
        if await self._race.wait_id():
            scope.cancel()

    async def _look(self, at_once: int) -> tuple[FoundRoute | None, float]:
        """A route to try now; or None, and until when to wait for those under way before the next look."""
        if routes := await self._find(at_once):
            route = await self._reach(routes)
            if route is None and self._failure and not self.has_tried and trio.current_time() >= self._reach_until:
                raise self._failure
            if route is None or self._race.may_join(route):
                return route, -inf
        return None, inf if self._race else -inf

    async def _find(self, count: int) -> list[FoundRoute]:
        """Routes to try; none where others are under way, or some may have room by now. Raises NoRoute."""
        joins_at = self._race.joins_at if self._race else -inf
        if max(joins_at, self._full.next_at) <= trio.current_time():  # before any of whom we know nothing
            await self._admit_full()
        left_out, under_way = self._left_out, self._race.routes
        spent, among = self._race.committed, self._finder.survey(self._sought)
        await left_out.admit(under_way, spent, among)
        nodes, tried = left_out.nodes(under_way), left_out.tried
        try:
            return await self._finder.find(self._sought, nodes, spent, count, tried, among)
        except NoRoute as error:
            if not self._race and not self._full:
                used_up = isinstance(error, TooDear) and self.lost > 0
                raise (error if used_up or self._failure is None else self._failure) from None
            if not self._race:
                await self._wait_for_room()
            return []

    async def _wait_for_room(self) -> None:
        """The time does not count for how long routes are tried. Raises where patience is used up."""
        began = trio.current_time()
        await self._waiting_room.wait(self._failure)
        await self._waiting_room.gather(self._leaves_whole)
        self._over_at += trio.current_time() - began

    async def _admit_full(self) -> None:
        """Ask whoever was full and may have room by now."""
        self._full.admit(trio.current_time())
        await self._waiting_room.gather(self._leaves_whole)

    def _leaves_whole(self) -> bool:
        return self._left_out.leaves_whole(self._race.routes, self._race.committed)

    def _leaves_other(self, route: FoundRoute) -> bool:
        """If this one failed, another could be tried."""
        return trio.current_time() < self._over_at and self._left_out.leaves_other(route, self._race.committed)

    async def _reach(self, routes: Sequence[FoundRoute]) -> FoundRoute | None:
        """The first route that is linked; those that are not linked soon come later, if there are others."""
        left_out = self._left_out
        await trio.lowlevel.checkpoint()  # between two looks
        hasty = left_out.is_hasty and (bool(self._race) or left_out.leaves_route(routes, self._race.committed))
        route, missing, late = await self._links.reach(routes, hasty)
        if route is None and missing | late:
            self._failure = Unreached(f"no route could be opened: {short_names(missing | late)} cannot be reached")
        left_out.shun(missing, (stage for found in routes for stage in found.stages))
        if hasty or route is not None:
            left_out.put_off(late)
        else:
            left_out.exclude(late)  # they had all the time that a dial takes
        return route

    def _with_losses(self, error: NoRoute | GenerationFailed) -> NoRoute | GenerationFailed:
        """The error, and what was signed for routes that failed."""
        if not self.lost:
            return error
        text = f"{error}; in all {self.lost:,} nano-credits went to routes that failed and brought nothing"
        if isinstance(error, GenerationFailed):
            return GenerationFailed(text, error.code, self.lost)
        if isinstance(error, TooDear) and self._failure is not None:
            again = f"{error}; or ask again, since whoever took them is asked last from now on ({self._failure})"
            return TooDear(again, self.lost)
        return NoRoute(text, self.lost)

    async def _try(self, route: FoundRoute) -> Run | None:
        """Open a route, and wait for an id of it or of those under way; None where another is to be tried."""
        try:
            self._full.note_asked(route.nodes)
            running = self._start(route, self.places, self._race.cancel_others)
        except NoRoute as error:
            self._failure = error
            self._left_out.suspect(route, failed=False)
            return None
        self.has_tried = True
        self._race.enter(route, running)
        is_trusted = route.nodes <= set(self._sought.proven) and self._links.hears(route)
        return await self._wait_first(inf if is_trusted else self._race.joins_at)

    async def _wait_first(self, until: float) -> Run | None:
        """The first of those under way to deliver an id; None where another is to be tried, and at that time."""
        return self._take() if await self._race.wait_begun(until) else None

    def _take(self) -> Run | None:
        """One has begun: it is the one, or has failed."""
        route, running = self._race.take()
        if running.generation.ids:
            for stage in route.stages:
                self._failures.forgive(stage.key, stage.offer.record.owner, trio.current_time())
            self._failures.forgive_together(route.nodes)
            return running
        self._failure = running.generation.failure
        assert self._failure is not None
        if running.cannot_keep:  # nor could any other of ours
            raise self._failure
        if running.cost:
            self._failures.note_taken([running.refused_by or route.nodes])
        if running.refused_by:
            at_once = trio.current_time() <= running.started_s + soon_s(route)
            self._left_out.note_refusal(route, running, at_once)
        else:
            self._left_out.suspect(route, failed=True)
        return None
