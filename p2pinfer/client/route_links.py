"""Links to the stages of routes, all dialled together, and measures of who answers (`core/routes/measures.py`)."""

from collections.abc import Sequence
from dataclasses import replace
from math import inf
from typing import Final

import trio

from p2pinfer.client.contracts import StagePlan
from p2pinfer.client.promised import Times
from p2pinfer.client.route_finder import HASTY_S, FoundRoute
from p2pinfer.client.routes import round_trip_s
from p2pinfer.core.routes.measures import Lag, Measures, Who
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import Refused, TurnedAway
from p2pinfer.core.values.units import PeerKey
from p2pinfer.overlay.directory import Directory
from p2pinfer.overlay.network import Network
from p2pinfer.overlay.pulse import PING_S
from p2pinfer.overlay.reach import REACH_S, reach
from p2pinfer.overlay.word import CHECKED

LATER_S: Final = 0.3  # for a better route to be reached, once another one is
HASTY_TRIPS: Final = 8  # or so many round trips to the usual node, where they take longer: more than a dial takes
PATIENT_S: Final = 2 * REACH_S  # for a route to be reached where there is no other: a dial, after others
DIALLED_PART: Final = 0.9  # of a hasty one's time its dial was under way, or its node was not late
BUSY_S: Final = 1.0  # at most, until we may dial again
HEARD_S: Final = 2 * PING_S  # a link that is needed is heard so often
LATE_S: Final = 5.0  # that whoever has not answered yet is taken to need still; it may be more


class RouteLinks:
    """The links of one client to those of whom it asks an answer."""

    def __init__(self, directory: Directory, network: Network, measures: Measures) -> None:
        self._directory = directory
        self._network = network
        self._measures = measures

    async def reach(
        self, routes: Sequence[FoundRoute], hasty: bool
    ) -> tuple[FoundRoute | None, set[bytes], set[bytes]]:
        """Link to all stages of all routes at once; return the first route that is linked.

        Routes are in order of preference; a better one is waited for only as long as it may still come soon. Also
        returned are nodes that cannot be reached, and nodes that were not reached in the time that they had. Who could
        not even be dialled from here, or has no room for a link, is one of the latter: that is no failure of its own.

        hasty: wait for no route longer than the usual node takes
        """
        missing: set[bytes] = set()
        unlinked: set[bytes] = set()
        linked: set[int] = set()
        over: set[int] = set()  # linked, or never to be
        dialled_s: dict[bytes, float] = {}  # since when each is being dialled; not while that has to wait

        async def link_all(number: int, route: FoundRoute) -> None:
            async with trio.open_nursery() as stages:
                for stage in route.stages:
                    stages.start_soon(link, stage)
            over.add(number)
            if not (missing | unlinked) & route.nodes:
                linked.add(number)
                waiting.deadline = min(waiting.deadline, trio.current_time() + LATER_S)
            if linked and over.issuperset(range(min(linked))):
                waiting.cancel()

        async def link(stage: StagePlan) -> None:
            try:
                await self._link(stage, dialled_s)
            except TurnedAway:  # no failure of its own, but who does that again and again comes after others
                unlinked.add(stage.key)
                self.note_late([stage])
            except Refused:
                if not self._network.dialable(stage.key, stage.addresses, CHECKED):
                    unlinked.add(stage.key)
                    return
                missing.add(stage.key)
                self._directory.table.forget(stage.key)

        soon_s = max(HASTY_S, HASTY_TRIPS * self._measures.usual_round_trip_s(trio.current_time()))
        with trio.move_on_after(soon_s if hasty else PATIENT_S) as waiting:
            async with trio.open_nursery() as nursery:
                for number, route in enumerate(routes):
                    nursery.start_soon(link_all, number, route)
        nodes: set[bytes] = {stage.key for route in routes for stage in route.stages}
        late = {node for node in nodes - missing if self._network.link(PeerKey(node)) is None}
        since_s = trio.current_time() - DIALLED_PART * soon_s
        had_time = {node for node in late - unlinked if dialled_s.get(node, inf) <= since_s}
        for stage in (stage for route in routes for stage in route.stages if stage.key in had_time):
            self.note_late([stage])
        if not linked:
            return None, missing, late
        return self._measured(routes[min(linked)]), missing, late & (had_time | unlinked)

    async def _link(self, stage: StagePlan, dialled_s: dict[bytes, float]) -> None:
        """Link to a node; wait where too many dials are under way already. Raises Refused."""
        while True:
            dialled_s[stage.key] = trio.current_time()
            try:
                await reach(self._network, stage.key, stage.addresses)
            except Refused as refusal:
                if refusal.code is not Code.BUSY:
                    raise
                del dialled_s[stage.key]
                await trio.sleep(self._network.machine.lots.uniform(0, refusal.retry_s or BUSY_S))
            else:
                return

    def _measured(self, route: FoundRoute) -> FoundRoute:
        """The route, its ids no sooner than its links allow: they are opened, and then ids come, round the ring."""
        links = [self._network.link(stage.key) for stage in route.stages]
        far_s = max((link.rtt_s or 0.0 for link in links if link is not None), default=0.0)
        round_s = len(links) * far_s / 2 if len(links) > 1 else 0.0
        return replace(route, first_id_s=route.first_id_s + 2 * far_s, step_s=route.step_s + round_s)

    def hears(self, route: FoundRoute) -> bool:
        """True if all stages were heard a moment ago: a machine that lost its power leaves links that seem to live."""
        links = [self._network.link(stage.key) for stage in route.stages]
        since_s = trio.current_time() - HEARD_S
        return all(link is not None and link.heard_s >= since_s for link in links)

    def note_late(self, stages: Sequence[StagePlan], waited_s: float = 0.0) -> None:
        """These, or one of them, have not answered for so long: for a while others come first, or until they do.

        So does whoever answered at last meanwhile, however late that was.
        """
        if stages:
            who = [Who(stage.key, stage.offer.record.owner) for stage in stages]
            self._measures.note_answer(who, Lag(waited_s + LATE_S), trio.current_time())

    def note_answer(self, route: FoundRoute, times: Times) -> None:
        """Remember how far the route's stages kept what they had promised. times: of the answer."""
        now = trio.current_time()
        links = {stage.key: self._network.link(stage.key) for stage in route.stages}
        for node, link in links.items():
            if link is not None and link.usual_rtt_s is not None:
                self._measures.note_round_trip(node, link.usual_rtt_s, now)
        if route.promised is not None:
            trips_s = {node: round_trip_s(node, link, self._measures, now) for node, link in links.items()}
            stages = [Who(stage.key, stage.offer.record.owner) for stage in route.stages]
            self._measures.note_answer(stages, route.promised.lag(times, trips_s), now)
