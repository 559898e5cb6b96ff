"""The choice of a route among candidates: within the price limit, safe from ruin, of cadences that fit each other."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Final

from p2pinfer.client.routes import Sought
from p2pinfer.core.records.terms import CADENCE_PART
from p2pinfer.core.routes.routing import Candidate, Route, choose_route, cost, lent_to, price_of
from p2pinfer.core.values.errors import NoRoute, TooDear
from p2pinfer.core.values.units import PeerKey

MAX_LOOKS: Final = 32  # for a route that was not tried
LOOKED_AT: Final = 40_000  # candidates, in all of them: a look at 10,000 takes some 40 ms
MAX_CADENCES: Final = 4  # the most usual ones, which are tried where those of a route do not fit each other

Classes = Mapping[int, Sequence[Candidate]]  # by numerics class


@dataclass(frozen=True, slots=True)
class Choice:
    """The choice of a route.

    cadences: of every node's offer; in a route none is more than CADENCE_PART times another
    most:     nano-credits that are left; spent: that are gone
    lots:     decide among routes that are nearly as good
    tried:    sets of nodes of which no route may have all
    """

    classes: Classes
    cadences: Mapping[PeerKey, int]
    sought: Sought
    most: int
    spent: int
    lots: Random
    tried: Sequence[frozenset[bytes]] = ()

    def without_ruin(self, excluded: Collection[bytes]) -> Route:
        """The cheapest route; but not one that could take for nothing what a route paid for ids alone would need.

        So liars cannot use up a limit before an honest node was asked. Raises NoRoute.
        """
        route = self._untried(excluded)
        if not (lent := sum(map(lent_to, route))):
            return route
        trusted = {one.key for candidates in self.classes.values() for one in candidates if one.ahead}
        try:
            safe = self._untried(trusted.union(excluded))
        except NoRoute:
            return route
        price = sum(price_of(stage, self.sought.load) for stage in safe)
        return route if lent + price <= self.most else safe

    def _untried(self, excluded: Collection[bytes]) -> Route:
        """The cheapest route, or one of the next that was not tried, in so many looks. Raises NoRoute.

        Where the cheapest has all the nodes A, B, C of one that was tried, any other has A and B without C, or A
        without B, or is without A: each of these is looked at in turn. Whoever was tried with all that are kept is left
        out at once: else a node that stands in all routes would cost a look for each of its partners.
        """
        failure = NoRoute("every route was tried, or so many that no other one was found")
        looks = [(frozenset(excluded), frozenset[bytes]())]  # nodes left out, and kept
        for _ in range(self._most_looks if self.tried else 1):
            if not looks:
                break
            without, kept = looks.pop()
            try:
                route = self._cheapest(without)
            except NoRoute as error:
                failure = failure if isinstance(failure, TooDear) else error
                continue
            nodes = [stage.candidate.key for stage in route]
            held = next((one for one in self.tried if one.issubset(nodes)), None)
            if held is None:
                return route
            order = [node for node in nodes if node in held - kept]
            for at, node in enumerate(order):
                keeping = kept.union(order[:at])
                partners = (one - keeping for one in self.tried)
                looks.append((without.union([node], *(one for one in partners if len(one) == 1)), keeping))
        try:
            raise failure
        finally:
            del failure  # which holds this frame: left here it would be garbage that stops the loop when it is found

    @property
    def _most_looks(self) -> int:
        return min(MAX_LOOKS, LOOKED_AT // max(1, sum(map(len, self.classes.values()))) + 2)

    def _cheapest(self, excluded: Collection[bytes]) -> Route:
        """The route of one numerics class, of the cheapest class. Raises NoRoute."""
        sought = self.sought
        so = f" in class {sought.numerics.label}" if sought.numerics is not None else ""
        failure = NoRoute(f"nobody serves layers 0:{sought.layers} of {sought.layers}{so}")
        routes: list[Route] = []
        for candidates in self.classes.values():
            left = [candidate for candidate in candidates if candidate.key not in excluded]
            try:
                routes.append(self._of_class(left))
            except NoRoute as error:
                failure = failure if isinstance(failure, TooDear) else error
        if not routes:
            try:
                raise failure
            finally:
                del failure  # as above
        return min(routes, key=self._cost)

    def _of_class(self, candidates: Sequence[Candidate]) -> Route:
        """The cheapest route whose stages' cadences fit each other: a stranger may offer any. Raises NoRoute."""
        route = self._route(candidates)
        used = {self.cadences[stage.candidate.key] for stage in route}
        if min(used) * CADENCE_PART >= max(used):
            return route
        usual = Counter(self.cadences[candidate.key] for candidate in candidates).most_common(MAX_CADENCES)
        routes: list[Route] = []
        for least in sorted(used | {cadence for cadence, _ in usual}):
            fitting = [one for one in candidates if least <= self.cadences[one.key] <= CADENCE_PART * least]
            with suppress(NoRoute):
                routes.append(self._route(fitting))
        if not routes:
            raise NoRoute("those that serve the layers want receipts so differently often that no route fits")
        return min(routes, key=self._cost)

    def _route(self, candidates: Sequence[Candidate]) -> Route:
        return choose_route(candidates, self.sought.load, self.lots.random, self.most, self.spent)

    def _cost(self, route: Route) -> float:
        return sum(cost(stage, self.sought.load) for stage in route)
