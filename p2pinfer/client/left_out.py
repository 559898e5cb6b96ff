"""Nodes that a request leaves out of its further tries: for good, until they may have room, or until others were tried.

Whoever failed is remembered for the next requests, too, with its owner (`core/failures.py`): but only who failed by its
own doing. Where a route of several stages fails and nobody can say by whose, all are suspects. Routes without suspects
are tried first; where there is none any more, suspects are asked again, in other company. For a liar costs nothing: if
its partners fell with it, a few would bring down all the honest nodes of a swarm.
"""

from collections.abc import Collection, Iterable, Sequence
from math import inf
from typing import Final

import trio

from p2pinfer.client.contracts import StagePlan
from p2pinfer.client.finding import FoundRoute, RouteFinder, Survey
from p2pinfer.client.routes import Sought
from p2pinfer.client.running import Running
from p2pinfer.core.codes import Code
from p2pinfer.core.failures import Failures
from p2pinfer.core.queue import MAX_RETRY_S
from p2pinfer.core.units import ModelId

LEAST_RETRY_S: Final = 0.1  # whatever a node says: who has no room again and again must not keep us busy
MOVED: Final = frozenset((Code.LEAVING, Code.LAPSED, Code.UNKNOWN_OFFER))  # words of a node that did nothing wrong


class LeftOut:
    """The nodes that one request does not ask now.

    full:     who had no room, and when it may have some
    is_hasty: whoever is linked late comes after others
    """

    def __init__(self, finder: RouteFinder, failures: Failures, model: ModelId, sought: Sought) -> None:
        self._finder = finder
        self._failures = failures
        self._model = model
        self._sought = sought
        self._excluded: set[bytes] = set()
        self._late: set[bytes] = set()  # who was not linked soon
        self._suspects: set[bytes] = set()  # of routes that failed, by whomever
        self._tried: list[frozenset[bytes]] = []  # the nodes of each such route, one of which at least is at fault
        self._crowded: list[frozenset[bytes]] = []  # the same, where one said that it had no room
        self._taken = failures.taken_together  # the same of earlier requests, where it took something
        self.full: dict[bytes, float] = {}
        self._asked_s: dict[bytes, float] = {}
        self._told: set[bytes] = set()  # those of them who said when to come: they gave a place, or were asked too much
        self.is_hasty = True

    @property
    def tried(self) -> Sequence[frozenset[bytes]]:
        """Sets of nodes of which no further route has all."""
        return [*self._tried, *self._crowded, *self._taken]

    def nodes(self, asked: Iterable[FoundRoute]) -> frozenset[bytes]:
        """All of them, and those of routes that are being asked."""
        return self._others(asked) | self._suspects

    def _others(self, asked: Iterable[FoundRoute]) -> frozenset[bytes]:
        return frozenset(self._excluded | self.full.keys() | self._late).union(*(route.nodes for route in asked))

    def leaves_route(self, asked: Iterable[FoundRoute], spent: int) -> bool:
        """There is a route without any of these nodes, as far as is known now. spent: of the price limit"""
        return self._finder.has_route(self._model, self._sought, self.nodes(asked), spent, self.tried)

    def leaves_other(self, route: FoundRoute, spent: int) -> bool:
        """If this one failed, too, there would be another."""
        without = self._excluded | self.full.keys()
        return self._finder.has_route(self._model, self._sought, without, spent, [*self.tried, route.nodes])

    async def _has_route(self, without: Collection[bytes], spent: int, among: Survey) -> bool:
        """A look among thousands holds everything else for a while, so there is a checkpoint after each."""
        found = self._finder.has_route(self._model, self._sought, without, spent, self.tried, among)
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
        if asked:
            return
        if self._crowded and not await self._has_route(self._excluded | self._suspects, spent, among):
            self._crowded.clear()  # nor will there be another route once those who are full have room
            if await self._has_route(self.nodes(asked), spent, among):
                return
        self._taken.clear()

    async def _admit_suspects(self, others: Collection[bytes], spent: int, among: Survey) -> bool:
        """Ask those again whose layers nobody else serves, or all, if that leaves a route which was not tried."""
        suspects = self._suspects
        for left in (suspects - self._finder.needed(among, self._sought, others, suspects), set[bytes]()):
            if await self._has_route(left.union(others), spent, among):
                self._suspects = left
                return True
        return False

    def note_asked(self, nodes: Iterable[bytes]) -> None:
        """A route over these is opened now."""
        self._asked_s.update(dict.fromkeys(nodes, trio.current_time()))

    def note_full(self, node: bytes, again_at: float) -> bool:
        """A node where we have a place among those who wait says when to ask it again. True if that is sooner."""
        self._told.add(node)
        before = self.full.get(node, inf)
        self.full[node] = max(again_at, self._asked_s.get(node, -inf) + LEAST_RETRY_S)
        return self.full[node] < before

    def leaves_whole(self, spent: int) -> bool:
        """There is a route without those who have no room, whoever was full beside whom."""
        others = self._others(()) | self._suspects
        return self._finder.has_route(self._model, self._sought, others, spent, [*self._tried, *self._taken])

    def admit_full(self, until: float) -> None:
        """Ask those again who had no room, and may have some by then: each comes back when it was told to."""
        self.full = {node: at for node, at in self.full.items() if at > until}

    def admit_left(self, now: float) -> None:
        """One of ours has left, so others may have credit; those who gave a place say themselves when to come."""
        self.full = {node: at for node, at in self.full.items() if at > now and node in self._told}

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

    def note_refusal(self, route: FoundRoute, running: Running, at_once: bool) -> None:
        """Leave out who refused, vanished, or broke the protocol. at_once: it did so as soon as it was asked

        Who says that it has no room may have been kept busy by another of the route, so both come after others.
        """
        if running.retry_s:
            if len(route.stages) > 1:
                self._crowded.append(route.nodes)
            again_at = trio.current_time() + min(max(LEAST_RETRY_S, running.retry_s), MAX_RETRY_S)
            for node in running.refused_by - self.full.keys():  # where we have a place, it has said more since
                self.full[node] = again_at
                if running.generation.failure is not None and running.generation.failure.code is Code.BUSY:
                    self._told.add(node)
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


def _has_moved(running: Running) -> bool:
    """It says that it does not take this any more, and took nothing: no reason to shun it, or its owner."""
    failure = running.generation.failure
    return failure is not None and failure.code in MOVED and not running.cost
