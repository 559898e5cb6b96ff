"""Trying routes until one answers: a stage that refuses, vanishes, lies or keeps silent costs a try, not the answer.

Only until the first id comes: what was delivered is not asked for again. Whoever failed is left out for the rest of the
request, and remembered for a while; of a route of which nobody knows who did, all are left out until they are needed
(`left_out.py`). A route over nodes that never answered us is not waited for alone:
soon the next one is tried beside it, the first id counts, and the others are cancelled in the same step, so that at
most one route of a request ever has an id. What the others were paid before it, and what the one may come to, stay
within the price limit together: a route that could pass it is not tried beside others.
"""

import os
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from math import inf
from typing import Final, Protocol

import trio

from p2pinfer.client.finding import FoundRoute, RouteFinder
from p2pinfer.client.left_out import LEAST_RETRY_S, LeftOut
from p2pinfer.client.places import Places
from p2pinfer.client.route_links import RouteLinks
from p2pinfer.client.routes import Sought
from p2pinfer.client.running import Running
from p2pinfer.core.codes import Code
from p2pinfer.core.errors import GenerationFailed, NoRoute, P2pinferError, TooDear, Unreached
from p2pinfer.core.failures import Failures
from p2pinfer.core.keys import short_names
from p2pinfer.core.queue import new_ticket
from p2pinfer.core.units import ModelId, PeerKey

TRY_S: Final = 90.0  # after so long no further route is tried: one may take STALL_S, and is not the last
MAX_UNDER_WAY: Final = 10  # routes opened at the same time
MAX_AT_ONCE: Final = 8  # routes dialled at the same time, after others could not be reached
FIRST_ID_S: Final = 5.0  # a route is given this, and
FIRST_ID_FACTOR: Final = 4  # so many times the predicted time, to deliver its first id, where there is another route
SOON_S: Final = 0.75  # a route over nodes that never answered us is given this, and
SOON_FACTOR: Final = 2  # so many times the predicted time, before another is tried beside it; less beside many
GATHER_S: Final = 0.4  # from our turn at one stage: others of its route, where room comes free with it, say so by then

Start = Callable[[FoundRoute, Places], Running]


class OwnRoom(Protocol):
    """The room that generations of the same client have."""

    @property
    def is_held(self) -> bool:
        """Some of them have any."""

    async def wait_left(self) -> None:
        """Wait until one of them has given room up."""


class Trying:
    """The tries of one request.

    start:      opens a route; raises NoRoute where its stages' limits do not fit each other
    own_room:   of our other generations
    patience_s: none of which has room: we wait so long for nodes to have some
    say:        hears what we wait for
    until:      where no route could be reached by then, Unreached is raised: others may be left
    """

    def __init__(
        self,
        finder: RouteFinder,
        links: RouteLinks,
        failures: Failures,
        model: ModelId,
        sought: Sought,
        start: Start,
        own_room: OwnRoom,
        patience_s: float,
        say: Callable[[str], None],
        until: float = inf,
    ) -> None:
        self._finder = finder
        self._links = links
        self._failures = failures
        self._model = model
        self._sought = sought
        self._start = start
        self._own_room = own_room
        self._patience_s = patience_s
        self._say = say
        self._reach_until = until
        self._left_out = LeftOut(finder, failures, model, sought)
        self._under_way: dict[Running, FoundRoute] = {}  # opened, and no id yet; the first of them first
        self._give_up_at: dict[Running, float] = {}
        self._failure: P2pinferError | None = None
        self._over_at = trio.current_time() + TRY_S
        self._waited_s = 0.0  # for others to leave
        self._news = trio.Event()  # renewed; of our places among those who wait
        self.places = Places(new_ticket(round(time.time() * 1000), os.urandom(8)), self._note_place)
        self.tries: list[Running] = []

    @property
    def spent(self) -> int:
        """Nano-credits that all tries have cost."""
        return sum(running.cost for running in self.tries)

    async def first_answering(self) -> Running:
        """The generation of the first route that has delivered an id.

        Raises NoRoute, or GenerationFailed with the reason of the last try; both say what the tries have cost.
        """
        try:
            return await self._first_answering()
        except (NoRoute, GenerationFailed) as error:
            raise self._with_losses(error) from None

    async def _first_answering(self) -> Running:
        at_once, running = 1, None
        try:
            while self._failure is None or self._under_way or trio.current_time() < self._over_at:
                if (running := await self._next(at_once)) is not None:
                    return running
                at_once = min(2 * at_once, MAX_AT_ONCE)
            raise self._failure
        finally:
            self._cancel_others(running)

    def _cancel_others(self, winner: Running | None) -> None:
        """End what is under way, but for the one that answered; whoever was tried before it was late.

        Runs in the step in which the first id comes: what another delivers after it is dropped, and nothing of it paid.
        """
        for running, route in [*self._under_way.items()]:
            if running is winner:
                continue
            del self._under_way[running]
            if winner is not None and not running.begun and running.started_s < winner.started_s:
                self._links.note_late(route.stages, trio.current_time() - running.started_s)
            running.fail("another route answered, or the client cancelled", Code.CANCELLED)

    async def _next(self, at_once: int) -> Running | None:
        """Find a route, reach it, try it; None where that came to nothing yet. Raises where nothing is left to try."""
        if self._under_way and self._failure is not None and trio.current_time() >= self._over_at:
            return await self._wait_first(inf)
        route, until = await self._unless_answered(at_once)
        if route is not None and not any(running.generation.ids for running in self._under_way):
            return await self._try(route)
        return await self._wait_first(until)

    async def _unless_answered(self, at_once: int) -> tuple[FoundRoute | None, float]:
        """As `_look`; but the first id of those under way ends it."""
        if not self._under_way:
            return await self._look(at_once)
        looked: tuple[FoundRoute | None, float] = None, -inf
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._end_with_id, nursery.cancel_scope)
            looked = await self._look(at_once)
            nursery.cancel_scope.cancel()
        return looked

    async def _end_with_id(self, scope: trio.CancelScope) -> None:
        """Cancel it as soon as one of those under way has delivered an id. One that failed can wait."""
        while not any(running.generation.ids for running in self._under_way):
            if all(running.begun for running in self._under_way):
                return
            await self._wait_one(inf)
        scope.cancel()

    async def _look(self, at_once: int) -> tuple[FoundRoute | None, float]:
        """A route to try now; or None, and until when to wait for those under way before the next look."""
        if routes := await self._find(at_once):
            route = await self._reach(routes)
            if route is None and self._failure and not self.tries and trio.current_time() >= self._reach_until:
                raise self._failure
            if route is None or self._may_join(route):
                return route, -inf
        return None, inf if self._under_way else -inf

    def _may_join(self, route: FoundRoute) -> bool:
        """Beside those under way it cannot pass the price limit, whichever of them comes to have the first id."""
        least = max((one.reserve - self._under_way[one].ahead for one in self._under_way), default=0)
        return not self._under_way or (not route.lent and least + route.ahead <= route.most)

    @property
    def _committed(self) -> int:
        """Nano-credits that all tries may come to, where none of those under way has the first id."""
        over = sum(running.cost for running in self.tries if running not in self._under_way)
        return over + sum(route.ahead for route in self._under_way.values())

    async def _find(self, count: int) -> list[FoundRoute]:
        """Routes to try; none where others are under way, or some may have room by now. Raises NoRoute."""
        left_out, under_way = self._left_out, tuple(self._under_way.values())
        spent, among = self._committed, self._finder.survey(self._model, self._sought)
        await left_out.admit(under_way, spent, among)
        nodes, tried = left_out.nodes(under_way), left_out.tried
        try:
            return await self._finder.find(self._model, self._sought, nodes, spent, count, tried, among)
        except NoRoute as error:
            if not self._under_way and not left_out.full:
                used_up = isinstance(error, TooDear) and self.spent > 0
                raise (error if used_up or self._failure is None else self._failure) from None
            if not self._under_way:
                await self._wait_for_room()
            return []

    async def _reach(self, routes: Sequence[FoundRoute]) -> FoundRoute | None:
        """The first route that is linked; those that are not linked soon come later, if there are others."""
        left_out = self._left_out
        await trio.lowlevel.checkpoint()  # between two looks
        hasty = left_out.is_hasty and (bool(self._under_way) or left_out.leaves_route(routes, self._committed))
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
        if not self.spent:
            return error
        text = f"{error}; in all {self.spent:,} nano-credits went to routes that failed and brought nothing"
        if isinstance(error, GenerationFailed):
            return GenerationFailed(text, error.code, self.spent)
        if isinstance(error, TooDear) and self._failure is not None:
            again = f"{error}; or ask again, since whoever took them is asked last from now on ({self._failure})"
            return TooDear(again, self.spent)
        return NoRoute(text, self.spent)

    def _note_place(self, node: PeerKey, again_at: float) -> None:
        if self._left_out.note_full(node, again_at):
            self._news.set()

    async def _wait_for_room(self) -> None:
        """Wait as long as the full ones said, or until a generation of ours ends. Raises where patience is used up.

        At its end all are asked once more, whenever they said: else who named a longer time would have been waited for
        in vain.
        """
        began, full, ours = trio.current_time(), self._left_out.full, self._own_room.is_held
        if not ours and self._waited_s >= self._patience_s:
            raise self._too_full()
        first = min(full, key=lambda node: full[node])
        wait_s = max(0.0, full[first] - began)
        if not self.places.has(PeerKey(first)):
            wait_s *= random.uniform(1, 1.5)  # clients that were refused together part
        if not ours:
            wait_s = min(wait_s, self._patience_s - self._waited_s)  # whatever they said
        self._say(self.places.words(PeerKey(first)))
        left = await self._wait_news(wait_s)
        now = trio.current_time()
        least_s = LEAST_RETRY_S if self._news.is_set() else 0.0  # who says more again and again uses our patience up
        self._waited_s = 0 if ours else self._waited_s + max(now - began, least_s)
        if left:
            self._left_out.admit_left(now)
        else:
            self._left_out.admit_full(inf if self._waited_s >= self._patience_s else now)
        await self._gather()
        self._over_at += trio.current_time() - began

    async def _wait_news(self, wait_s: float) -> bool:
        """Wait so long, or until a node says more; True where one of ours has left, so that any may have room."""
        left = False
        self._news = trio.Event()

        async def wait_left() -> None:
            nonlocal left
            await self._own_room.wait_left()
            left = True
            nursery.cancel_scope.cancel()

        with trio.move_on_after(wait_s):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait_left)
                await self._news.wait()
                nursery.cancel_scope.cancel()
        return left

    async def _gather(self) -> None:
        """It is our turn at some stages of a route: ask the others with them, since nobody keeps room for us for long.

        Where those have none we are refused there, and keep our place here.
        """
        if not self.places.has_turn or self._left_out.leaves_whole(self._committed):
            return
        until = trio.current_time() + random.uniform(GATHER_S / 4, GATHER_S)  # who gives up first lets another in
        while trio.current_time() < until and not self._left_out.leaves_whole(self._committed):
            await self._wait_news(max(0.0, until - trio.current_time()))
            self._left_out.admit_full(trio.current_time())
        if not self._left_out.leaves_whole(self._committed):
            self._left_out.admit_full(inf)

    def _too_full(self) -> GenerationFailed:
        """The last refusal, and how long we waited for room."""
        failure = self._failure
        assert isinstance(failure, GenerationFailed)
        where = [self.places.words(PeerKey(node)) for node in self._left_out.full if self.places.has(PeerKey(node))]
        words = "; ".join([str(failure), *where, f"in {self._waited_s:.0f} s there was no room"])
        return GenerationFailed(words, failure.code)

    async def _try(self, route: FoundRoute) -> Running | None:
        """Open a route, and wait for an id of it or of those under way; None where another is to be tried."""
        try:
            self._left_out.note_asked(route.nodes)
            running = self._start(route, self.places)
        except NoRoute as error:
            self._failure = error
            self._left_out.suspect(route, failed=False)
            return None
        self.tries.append(running)
        self._under_way[running] = route
        running.on_first_id = partial(self._cancel_others, running)
        now = trio.current_time()
        self._give_up_at[running] = now + FIRST_ID_S + FIRST_ID_FACTOR * route.first_id_s
        # Beside a route that may take something and bring nothing, another might pass the limit on the cost
        trusted = route.nodes <= set(self._sought.proven) and self._links.hears(route)
        alone = route.lent or trusted or len(self._under_way) >= MAX_UNDER_WAY
        return await self._wait_first(inf if alone else now + _soon_s(route, len(self._under_way)))

    async def _wait_first(self, until: float) -> Running | None:
        """The first of those under way to deliver an id; None as soon as one failed, or at that time."""
        while not (begun := [one for one in self._under_way if one.begun]):
            if trio.current_time() >= until:
                return None
            await self._wait_one(until)
        first = next((one for one in begun if one.generation.ids), begun[0])
        return self._take(self._under_way[first], first)

    async def _wait_one(self, until: float) -> None:
        """Wait until one more of those under way has begun, or that time; give up who was silent for long."""
        silent = [one for one in self._under_way if not one.begun]
        now = trio.current_time()
        for running in silent:
            if self._give_up_at[running] <= now:
                self._give_up(running)
        with trio.move_on_at(min(until, *(self._give_up_at[one] for one in silent))):
            await _wait_any([running.wait_begun for running in silent])

    def _give_up(self, running: Running) -> None:
        """End a route that has kept silent for long; where nobody else serves it may take all its time."""
        route = self._under_way[running]
        if trio.current_time() < self._over_at and self._left_out.leaves_other(route, self._committed):
            running.give_up(trio.current_time() - running.started_s)
        self._give_up_at[running] = inf

    def _take(self, route: FoundRoute, running: Running) -> Running | None:
        """One has begun: it is the one, or has failed."""
        del self._under_way[running]
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
            at_once = trio.current_time() <= running.started_s + _soon_s(route)
            self._left_out.note_refusal(route, running, at_once)
        else:
            self._left_out.suspect(route, failed=True)
        return None


def _soon_s(route: FoundRoute, under_way: int = 1) -> float:
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
