"""Trying routes until one answers: a stage that refuses, vanishes, lies or keeps silent costs a try, not the answer.

Only until the first id comes: what was delivered is not asked for again. Whoever failed is left out for the rest of the
request, and remembered for a while, with its owner (`core/failures.py`).
"""

import random
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Final

import trio

from p2pinfer.client.contracts import StagePlan
from p2pinfer.client.finding import FoundRoute, RouteFinder
from p2pinfer.client.routes import Sought
from p2pinfer.client.running import Running
from p2pinfer.core.codes import Code
from p2pinfer.core.errors import GenerationFailed, NoRoute, P2pinferError, TooDear
from p2pinfer.core.failures import Failures
from p2pinfer.core.keys import short_names
from p2pinfer.core.units import ModelId

TRY_S: Final = 90.0  # after so long no further route is tried: one may take STALL_S, and is not the last
MAX_AT_ONCE: Final = 8  # routes dialled at the same time, after others could not be reached
FIRST_ID_S: Final = 5.0  # a route is given this, and
FIRST_ID_FACTOR: Final = 4  # so many times the predicted time, to deliver its first id, where there is another route
ROOM_S: Final = 60.0  # a client none of whose generations has room waits so long for others to leave

Start = Callable[[FoundRoute], Running]
WaitRoom = Callable[[float], Awaitable[bool]]


class Trying:
    """The tries of one request.

    start:     opens a route; raises NoRoute where its stages' limits do not fit each other
    wait_room: waits so many seconds at most for a generation of ours to give room up; False where none had any
    """

    def __init__(
        self, finder: RouteFinder, failures: Failures, model: ModelId, sought: Sought, start: Start, wait_room: WaitRoom
    ) -> None:
        self._finder = finder
        self._failures = failures
        self._model = model
        self._sought = sought
        self._start = start
        self._wait_room = wait_room
        self._excluded: set[bytes] = set()
        self._full: dict[bytes, float] = {}  # who had no room, and seconds until it may have some
        self._failure: P2pinferError | None = None
        self._over_at = trio.current_time() + TRY_S
        self._waited_s = 0.0  # for others to leave
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
        at_once = 1
        while self._failure is None or trio.current_time() < self._over_at:
            if not (routes := await self._find(at_once)):
                continue  # none had room, and some may have it by now
            route, missing = await self._finder.reach(routes)
            self._leave_out(missing, (stage for found in routes for stage in found.stages))
            if route is None:
                self._failure = NoRoute(f"no route could be opened: {short_names(missing)} cannot be reached")
                at_once = min(2 * at_once, MAX_AT_ONCE)
            elif (running := await self._try(route)) is not None:
                return running
        raise self._failure

    async def _find(self, count: int) -> list[FoundRoute]:
        """Routes to try; none where all that is left had no room, and some time has passed. Raises NoRoute."""
        without = self._excluded | self._full.keys()
        try:
            return await self._finder.find(self._model, self._sought, without, self.spent, count)
        except NoRoute as error:
            if not self._full:
                used_up = isinstance(error, TooDear) and self.spent > 0
                raise (error if used_up or self._failure is None else self._failure) from None
        await self._wait_for_room()
        return []

    def _with_losses(self, error: NoRoute | GenerationFailed) -> NoRoute | GenerationFailed:
        """The error, and what was signed for routes that failed."""
        if not self.spent:
            return error
        text = f"{error}; in all {self.spent:,} nano-credits went to routes that failed and brought nothing"
        if isinstance(error, GenerationFailed):
            return GenerationFailed(text, error.code, self.spent)
        if isinstance(error, TooDear) and self._failure is not None:
            return TooDear(
                f"{error}; or ask again, since whoever took them is asked last from now on ({self._failure})"
            )
        return NoRoute(text)

    async def _wait_for_room(self) -> None:
        """Wait as long as the full ones said, or until a generation of ours ends. Raises the last refusal."""
        wait_s = min(self._full.values()) * random.uniform(1, 1.5)  # clients that were refused together part
        began = trio.current_time()
        if self._waited_s >= ROOM_S:
            assert self._failure is not None
            raise self._failure
        self._waited_s = 0 if await self._wait_room(wait_s) else self._waited_s + wait_s
        self._full.clear()
        self._over_at += trio.current_time() - began

    async def _try(self, route: FoundRoute) -> Running | None:
        """Open a route and wait for its first id; None where another one is to be tried."""
        try:
            running = self._start(route)
        except NoRoute as error:
            self._failure = error
            self._replace(route, error)
            return None
        self.tries.append(running)
        try:
            await self._wait_begun(route, running)
        finally:
            if not running.begun:
                running.fail("the client cancelled", Code.CANCELLED)  # unless it failed for another reason
        if running.generation.ids:
            for stage in route.stages:
                self._failures.forgive(stage.key, stage.offer.record.owner)
            return running
        self._failure = running.generation.failure
        assert self._failure is not None
        paid = zip(route.stages, running.costs, strict=True)
        self._failures.note_taken(stage.key for stage, cost in paid if cost)
        if running.retry_s and running.refused_by:
            self._full |= dict.fromkeys(running.refused_by, running.retry_s)
        elif running.refused_by:
            self._leave_out(running.refused_by, route.stages)
        else:
            self._replace(route, self._failure)
        return None

    async def _wait_begun(self, route: FoundRoute, running: Running) -> None:
        """Wait for the first id: with patience where nobody else serves, and not for long where somebody does."""
        patience_s = FIRST_ID_S + FIRST_ID_FACTOR * route.first_id_s
        with trio.move_on_after(patience_s):
            await running.wait_begun()
        if not running.begun and trio.current_time() < self._over_at and self._spare(route):
            running.give_up(patience_s)
        await running.wait_begun()

    def _replace(self, route: FoundRoute, failure: P2pinferError) -> None:
        """Leave out what can be done without, of a route in which nobody knows who failed. Raises `failure`."""
        if not (spare := self._spare(route)):
            raise failure
        self._leave_out(spare, route.stages)

    def _spare(self, route: FoundRoute) -> frozenset[bytes]:
        """Nodes of a route without which there is another: all of them, or the last that can be spared, or none."""
        groups = [route.nodes, *(frozenset({stage.key}) for stage in reversed(route.stages))]
        without = self._excluded | self._full.keys()
        found = (group for group in groups if self._finder.has_route(self._model, self._sought, without | group))
        return next(found, frozenset())

    def _leave_out(self, nodes: Collection[bytes], stages: Iterable[StagePlan]) -> None:
        """Ask these no more for this request, and remember for the next ones that they failed."""
        self._excluded |= set(nodes)
        for stage in stages:
            if stage.key in nodes:
                self._failures.note(stage.key, stage.offer.record.owner, trio.current_time())
