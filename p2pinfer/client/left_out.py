"""Nodes that a request leaves out of its further tries: for good, until they may have room, or until others were tried.

Whoever failed is remembered for the next requests, too, with its owner (`core/routes/failures.py`): but only who
failed by its own doing. Where a route of several stages fails and nobody can say by whose, all are suspects. Routes
without suspects are tried first; where there is none any more, suspects are asked again, in other company. For a liar
costs nothing: if its partners fell with it, a few would bring down all the honest nodes of a swarm. Who has no room
is `full_nodes.py`'s.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Final

import trio

from p2pinfer.client.contracts import StagePlan
from p2pinfer.client.full_nodes import FullNodes
from p2pinfer.client.route_finder import FoundRoute, RouteFinder, Survey
from p2pinfer.client.routes import Sought
from p2pinfer.client.run import Run
from p2pinfer.core.values.codes import Code

MOVED: Final = frozenset((Code.LEAVING, Code.LAPSED, Code.UNKNOWN_OFFER))  # words of a node that did nothing wrong


class LeftOut:
    """The nodes that one request does not ask now.

    full:     those without room
    is_hasty: whoever is linked late comes after others
    """

    def __init__(self, finder: RouteFinder, sought: Sought, full: FullNodes) -> None:
        self._finder = finder
        self._failures = finder.failures
        self._sought = sought
        self._excluded: set[bytes] = set()
        self._late: set[bytes] = set()  # who was not linked soon
        self._suspects = self._failures.suspects(trio.current_time())  # of routes that failed, earlier ones too
        self._tried: list[frozenset[bytes]] = []  # the nodes of each such route, one of which at least is at fault
        self._crowded: set[frozenset[bytes]] = set()  # the same, where one said that it had no room
        self._taken = finder.failures.taken_together  # the same of earlier requests, where it took something
        self._full = full
        self.is_hasty = True

    @property
    def tried(self) -> Sequence[frozenset[bytes]]:
        """Sets of nodes of which no further route has all."""
        return [*self._tried, *self._crowded, *self._taken]

    def nodes(self, asked: Iterable[FoundRoute]) -> frozenset[bytes]:
        """All of them, and those of routes that are being asked."""
        return self._others(asked) | self._suspects

    def _others(self, asked: Iterable[FoundRoute]) -> frozenset[bytes]:
        return frozenset(self._excluded.union(self._full.nodes, self._late, *(route.nodes for route in asked)))

    def leaves_route(self, asked: Iterable[FoundRoute], spent: int) -> bool:
        """There is a route without any of these nodes, as far as is known now. spent: of the price limit"""
        return self._finder.has_route(self._sought, self.nodes(asked), spent, self.tried)

    def leaves_other(self, route: FoundRoute, spent: int) -> bool:
        """If this one failed, too, there would be another, perhaps of those that were full and may have room now."""
        without = self._excluded | self._full.after(trio.current_time())
        tried = [*self._tried, *self._taken, route.nodes]
        return self._finder.has_route(self._sought, without, spent, tried)

    def leaves_whole(self, asked: Iterable[FoundRoute], spent: int) -> bool:
        """There is a route without those who have no room, whoever was full beside whom."""
        tried = [*self._tried, *self._taken]
        return self._finder.has_route(self._sought, self.nodes(asked), spent, tried)

    async def _has_route(self, without: Collection[bytes], spent: int, among: Survey) -> bool:
        """A look among thousands holds everything else for a while, so there is a checkpoint after each."""
        found = self._finder.has_route(self._sought, without, spent, self.tried, among)
        await trio.lowlevel.checkpoint()
        return found

    # Who comes later

    def put_off(self, late: Iterable[bytes]) -> None:
        """Ask those who were not linked soon after others."""
        self._late.update(late)

    async def admit(self, asked: Collection[FoundRoute], spent: int, among: Survey) -> None:
        """Ask those who were put off, then suspects, last who took money, where there is no other route any more.

        spent: nano-credits of the price limit; a route that was within it before they were is none any more
        """
        later = self._late or self._suspects or self._crowded or self._taken
        if not later or await self._has_route(self.nodes(asked), spent, among):
            return
        if self._late:
            self._late.clear()
            self.is_hasty = False  # whoever is linked late is waited for
            if await self._has_route(self.nodes(asked), spent, among):
                return
        if self._suspects and await self._admit_suspects(self._others(asked), spent, among):
            return
        without = self._excluded.union(self._suspects, *(route.nodes for route in asked))
        if self._crowded and not await self._has_route(without, spent, among):
            self._crowded.clear()  # nor will there be another route once those who are full have room
            if await self._has_route(self.nodes(asked), spent, among):
                return
        if not asked:
            self._taken.clear()
            if self._suspects and not await self._has_route(self.nodes(asked), spent, among):
                await self._admit_suspects(self._others(asked), spent, among)

    async def _admit_suspects(self, others: Collection[bytes], spent: int, among: Survey) -> bool:
        """Ask those again whose layers nobody else serves, or all, if that leaves a route which was not tried."""
        suspects = self._suspects
        for left in (suspects - self._finder.needed(among, self._sought, others, suspects), set[bytes]()):
            if await self._has_route(left.union(others), spent, among):
                self._suspects = left
                return True
        return False

    # Who is asked no more

    def exclude(self, nodes: Iterable[bytes]) -> None:
        """Ask these no more for this request."""
        self._excluded.update(nodes)

    def shun(self, nodes: Collection[bytes], stages: Iterable[StagePlan]) -> None:
        """Ask these no more for this request, and remember for the next ones that they failed."""
        self.exclude(nodes)
        for stage in stages:
            if stage.key in nodes:
                self._failures.note(stage.key, stage.offer.record.owner, trio.current_time())

    def note_refusal(self, route: FoundRoute, running: Run, at_once: bool) -> None:
        """Leave out who refused, vanished, or broke the protocol. at_once: it did so as soon as it was asked

        Who says that it has no room may have been kept busy by another of the route, so both come after others.
        """
        if running.retry_s:
            if len(route.stages) > 1:
                self._crowded.add(route.nodes)
            failure = running.generation.failure
            for node in running.refused_by:
                self._full.note_refusal(node, running.retry_s, failure is not None and failure.code is Code.BUSY)
        elif at_once and _has_moved(running):
            self.exclude(running.refused_by)
        else:
            self.shun(running.refused_by, route.stages)

    def suspect(self, route: FoundRoute, failed: bool) -> None:
        """Leave out a route of which nobody knows who failed; its only stage needs no proof.

        failed: it was opened; one whose stages do not fit each other is nobody's failure
        """
        if len(route.stages) == 1:
            self.shun(route.nodes, route.stages if failed else ())
            return
        self._tried.append(route.nodes)
        self._suspects |= route.nodes
        if failed:
            self._failures.suspect(route.nodes, trio.current_time())


def _has_moved(running: Run) -> bool:
    """It says that it does not take this any more, and took nothing: no reason to shun it, or its owner."""
    failure = running.generation.failure
    return failure is not None and failure.code in MOVED and not running.cost
