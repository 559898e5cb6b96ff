"""Nodes that a request leaves out of its further tries: for good, until they may have room, or until others were tried.

Whoever failed is remembered for the next requests, too, with its owner (`core/failures.py`).
"""

from collections.abc import Collection, Iterable
from typing import Final

import trio

from p2pinfer.client.contracts import StagePlan
from p2pinfer.client.finding import FoundRoute, RouteFinder
from p2pinfer.client.routes import Sought
from p2pinfer.client.running import Running
from p2pinfer.core.codes import Code
from p2pinfer.core.failures import Failures
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
        self.full: dict[bytes, float] = {}
        self.is_hasty = True

    def nodes(self, asked: Iterable[FoundRoute]) -> frozenset[bytes]:
        """All of them, and those of routes that are being asked."""
        return frozenset(self._excluded | self.full.keys() | self._late).union(*(route.nodes for route in asked))

    def leaves_route(self, asked: Iterable[FoundRoute]) -> bool:
        """There is a route without any of these nodes, as far as is known now."""
        return self._finder.has_route(self._model, self._sought, self.nodes(asked))

    def spare(self, route: FoundRoute) -> frozenset[bytes]:
        """Nodes of a route without which there is another: all of them, or the last that can be spared, or none."""
        groups = [route.nodes, *(frozenset({stage.key}) for stage in reversed(route.stages))]
        without = self._excluded | self.full.keys()
        found = (group for group in groups if self._finder.has_route(self._model, self._sought, without | group))
        return next(found, frozenset())

    # Who comes later

    def put_off(self, late: Iterable[bytes]) -> None:
        """Ask those who were not linked soon after others."""
        self._late.update(late)

    def admit_late(self, asked: Iterable[FoundRoute]) -> None:
        """Where there is no other route any more, ask those who were put off, and wait for whoever is linked late."""
        if self._late and not self.leaves_route(asked):
            self._late.clear()
            self.is_hasty = False

    def admit_full(self, until: float) -> None:
        """Ask those again who had no room, and may have some by then: each comes back when it was told to."""
        self.full = {node: at for node, at in self.full.items() if at > until}

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
        """Leave out who refused, vanished, or broke the protocol. at_once: it did so as soon as it was asked"""
        if running.retry_s:
            again_at = trio.current_time() + max(LEAST_RETRY_S, running.retry_s)
            self.full |= dict.fromkeys(running.refused_by, again_at)
        elif at_once and _has_moved(running):
            self.exclude(running.refused_by)
        else:
            self.shun(running.refused_by, route.stages)

    def replace(self, route: FoundRoute, failed: bool) -> bool:
        """Leave out what can be done without, of a route in which nobody knows who failed; False where that is nobody.

        failed: it was opened; one whose stages do not fit each other is nobody's failure
        """
        spare = self.spare(route)
        self.shun(spare, route.stages if failed else ())
        return bool(spare)


def _has_moved(running: Running) -> bool:
    """It says that it does not take this any more, and took nothing: no reason to shun it, or its owner."""
    failure = running.generation.failure
    return failure is not None and failure.code in MOVED and not running.cost
