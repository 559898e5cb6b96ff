"""Finding a route: what peers offer, and the cheapest route over it within the price limit.

Its stages are linked by `route_links.py`.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from typing import Final

import trio

from p2pinfer.client.arrivals import NotYet
from p2pinfer.client.choice import Choice, Classes
from p2pinfer.client.contracts import StagePlan
from p2pinfer.client.promised import Promised
from p2pinfer.client.routes import (
    Sought,
    candidate_of,
    longest_too_short,
    missing_layers,
    too_often_proposing,
    uncertified,
    usable,
)
from p2pinfer.core.records.pricing import Usage, amount_of
from p2pinfer.core.records.terms import MAX_PROPOSED
from p2pinfer.core.routes.failures import Failures
from p2pinfer.core.routes.measures import Measures
from p2pinfer.core.routes.price_limit import default_limit
from p2pinfer.core.routes.routing import Route, lent_to, predicted_s
from p2pinfer.core.swarm.offers import KnownOffer, reachable
from p2pinfer.core.swarm.placement import gaps
from p2pinfer.core.values.errors import NoRoute, TooDear
from p2pinfer.core.values.keys import short_names
from p2pinfer.core.values.units import PeerKey, Span
from p2pinfer.overlay.directory import Directory
from p2pinfer.overlay.network import Network

ONE_TELLER_PART: Final = 4  # of routes dialled together, one in so many goes over offers told by one network
LATE_FROM: Final = 4  # routes dialled together, as when others could not be twice: one over late nodes is among them
HASTY_S: Final = 0.5  # at least, for a route to be reached where there is another


@dataclass(frozen=True, slots=True)
class FoundRoute:
    """A route that may be opened.

    most:       nano-credits that its contracts may come to
    first_id_s: seconds to the first id, by the stages' own words and what was measured of them
    late_s:     of that, how much later than promised they were measured to be
    step_s:     the same, from one id to the next
    promised:   the stages as they were chosen, for the request
    lent:       nano-credits that its stages may take and bring nothing
    ahead:      the same, whether they have answered before or not: what it may cost before its first id
    """

    stages: tuple[StagePlan, ...]
    most: int
    first_id_s: float
    promised: Promised | None = None
    lent: int = 0
    ahead: int = 0
    step_s: float = 0.0
    late_s: float = 0.0

    @property
    def nodes(self) -> frozenset[bytes]:
        return frozenset(stage.key for stage in self.stages)


@dataclass(frozen=True, slots=True)
class Survey:
    """Those who may be asked, as they are known at one moment. To make it of thousands of offers costs a while.

    offers:  of nodes within reach
    classes: the candidates among them
    limit:   nano-credits that all tries may cost
    """

    offers: Sequence[KnownOffer]
    classes: Classes
    limit: int


class RouteFinder:
    """Finds routes for one client. failures: that are remembered of nodes"""

    def __init__(self, directory: Directory, network: Network, failures: Failures, measures: Measures) -> None:
        self._directory = directory
        self._network = network
        self.failures = failures
        self._measures = measures

    async def find(
        self,
        sought: Sought,
        excluded: Collection[bytes],
        spent: int = 0,
        count: int = 1,
        tried: Sequence[frozenset[bytes]] = (),
        among: Survey | None = None,
    ) -> list[FoundRoute]:
        """Routes to try at once, the best first, that share no node; without those excluded.

        They are `count` at most, and one more over nodes that are linked, which costs no dial. Behind a single route it
        stands in case that cannot be reached. Of several it is the first, since routes before them could not be. But a
        dial takes less than who is linked and known to be late: that one is the last, and of LATE_FROM or more alone.

        spent: nano-credits of the price limit that earlier tries have cost
        tried: sets of nodes of which no route may have all
        among: what is known now, where it was surveyed before

        Raises NoRoute, naming the layers that nobody serves, and nodes that may not be asked for them, or TooDear.
        """
        try:
            return self._choose(among or self.survey(sought), sought, excluded, tried, spent, count)
        except NoRoute:
            found = await self._directory.look(sought.model)
        try:
            return self._choose(self._survey(found, sought), sought, excluded, tried, spent, count)
        except TooDear:
            raise
        except NoRoute as error:
            reasons = self._reasons(found, sought, excluded, self._network.machine.unix())
            raise NoRoute("; ".join([str(error), *reasons])) from None

    def survey(self, sought: Sought) -> Survey:
        return self._survey(self._directory.offers(sought.model), sought)

    def check(self, sought: Sought, name: str) -> None:
        """Look, among the offers known now, if there is a route through a model that people call `name`.

        Raises NotYet. What is not mended by nodes that serve missing layers is not worth waiting for.
        """
        offers, now = self._directory.offers(sought.model), self._network.machine.unix()
        try:
            self._choice(self._survey(offers, sought), sought, (), 0).without_ruin(())
        except TooDear as error:
            raise NotYet(error, "a cheaper route", 0) from None
        except NoRoute as error:
            whole = NoRoute("; ".join([str(error), *self._reasons(offers, sought, (), now)]))
            if missing := missing_layers(self._reachable(offers), sought):
                so = f" in class {sought.numerics.label}" if sought.numerics is not None else ""
                raise NotYet(whole, f"layers {', '.join(map(str, missing))} of {name}{so}") from None
            raise NotYet(whole, f"other nodes that serve {name}", 0) from None

    def has_route(
        self,
        sought: Sought,
        excluded: Collection[bytes],
        spent: int = 0,
        tried: Sequence[frozenset[bytes]] = (),
        among: Survey | None = None,
    ) -> bool:
        """Say if `find` would find a route among what is known now."""
        with suppress(NoRoute):
            return bool(self._choice(among or self.survey(sought), sought, tried, spent).without_ruin(excluded))
        return False

    def needed(self, among: Survey, sought: Sought, excluded: Collection[bytes], spare: Set[bytes]) -> set[bytes]:
        """Of the nodes to spare, those that serve layers which no other does, in some numerics class."""
        found = set[bytes]()
        for candidates in among.classes.values():
            spans: dict[bytes, Span] = {one.key: one.span for one in candidates if one.key not in excluded}
            missing = gaps(sought.layers, (span for node, span in spans.items() if node not in spare))
            found |= {node for node in spare & spans.keys() if any(spans[node].meets(gap) for gap in missing)}
        return found

    def _survey(self, offers: Sequence[KnownOffer], sought: Sought) -> Survey:
        offers = self._reachable(offers)
        clock, link = trio.current_time(), self._network.link
        classes = {
            numerics: [candidate_of(one, sought, link(one.node), self.failures, self._measures, clock) for one in known]
            for numerics, known in usable(offers, sought, (), self._network.machine.unix()).items()
        }
        limit = sought.max_cost
        if limit is None:
            limit = default_limit([one for candidates in classes.values() for one in candidates], sought.load)
        return Survey(offers, classes, limit)

    def _choose(
        self,
        among: Survey,
        sought: Sought,
        excluded: Collection[bytes],
        tried: Sequence[frozenset[bytes]],
        spent: int,
        count: int,
    ) -> list[FoundRoute]:
        """Raises NoRoute where there is not even one."""
        choice = self._choice(among, sought, tried, spent)
        everybody = [one for candidates in among.classes.values() for one in candidates]
        afar = {one.key for one in everybody if not one.live}
        late = {one.key for one in everybody if one.late_s > HASTY_S}
        chosen: list[Route] = []
        if count > 1:
            _add(chosen, choice, late | afar, excluded)
        while len(chosen) < count:
            taken = _taken(chosen, excluded)
            told = _told_enough(chosen, among.offers, max(1, count // ONE_TELLER_PART))
            try:
                chosen.append(_first_of(choice, taken | told, taken))
            except NoRoute:
                if not chosen:
                    raise
                break
        if count == 1 and not afar.isdisjoint(_taken(chosen)):
            _add(chosen, choice, late | afar, excluded)
        if count >= LATE_FROM:
            _add(chosen, choice, afar, excluded)
        by_key = {known.node: known for known in among.offers}
        return [_found(route, by_key, sought, among.limit - spent) for route in chosen]

    def _choice(self, among: Survey, sought: Sought, tried: Sequence[frozenset[bytes]], spent: int) -> Choice:
        cadences = {known.node: known.offer.record.limits.cadence for known in among.offers}
        return Choice(among.classes, cadences, sought, among.limit - spent, spent, self._network.machine.lots, tried)

    def _reachable(self, offers: Sequence[KnownOffer]) -> list[KnownOffer]:
        return reachable(offers, {link.peer for link in self._network.links()})

    def _reasons(
        self, offers: Sequence[KnownOffer], sought: Sought, excluded: Collection[bytes], now: int
    ) -> Iterator[str]:
        """The reasons for which nodes that serve the model may not be asked, or cannot."""
        there = self._reachable(offers)
        yield from _left_out(there, sought, excluded, now)
        usable_ones = chain.from_iterable(usable(offers, sought, excluded, now).values())
        if nodes := {known.node for known in usable_ones} - {known.node for known in there}:
            hint = "they are behind a router, or listen on their own machine alone"
            yield f"{short_names(nodes)} cannot be reached from here: {hint}"


def _taken(chosen: Iterable[Route], excluded: Collection[bytes] = ()) -> set[bytes]:
    """The nodes of these routes, and others."""
    return {*excluded, *(stage.candidate.key for route in chosen for stage in route)}


def _add(chosen: list[Route], choice: Choice, without: Collection[bytes], excluded: Collection[bytes]) -> None:
    """Choose one more, if there is one."""
    with suppress(NoRoute):
        chosen.append(choice.without_ruin(_taken(chosen, excluded).union(without)))


def _told_enough(chosen: Sequence[Route], offers: Sequence[KnownOffer], enough: int) -> set[bytes]:
    """The nodes that we heard of from a network which told us so many of the routes chosen: others go before them."""
    tellers = {known.node: known.network for known in offers}
    told = Counter(network for route in chosen for network in {tellers[stage.candidate.key] for stage in route})
    return {node for node, network in tellers.items() if told[network] >= enough}


def _first_of(choice: Choice, *excluded: Collection[bytes]) -> Route:
    """A route without the first of these, or else without the next. Raises NoRoute."""
    for nodes in excluded[:-1]:
        with suppress(NoRoute):
            return choice.without_ruin(nodes)
    return choice.without_ruin(excluded[-1])


def _found(route: Route, by_key: dict[PeerKey, KnownOffer], sought: Sought, most: int) -> FoundRoute:
    stages = tuple(_plan(by_key[stage.candidate.key], stage.span) for stage in route)
    first, second = (replace(sought.load, tokens=tokens) for tokens in (1, 2))
    first_id_s = sum(predicted_s(stage, first) for stage in route)
    step_s = sum(predicted_s(stage, second) for stage in route) - first_id_s
    late_s = sum(stage.candidate.late_s for stage in route)
    lent, ahead = sum(map(lent_to, route)), sum(_ahead(stage, sought.prompt) for stage in stages)
    return FoundRoute(stages, most, first_id_s, Promised(route, sought.load), lent, ahead, step_s, late_s)


def _ahead(stage: StagePlan, prompt: int) -> int:
    """Nano-credits that the stage is paid before the first id, at most: its contract may have a shorter cadence."""
    offer = stage.offer.record
    beyond = prompt - offer.limits.window
    positions = beyond + offer.limits.cadence - 1 if beyond > 0 else 0
    return amount_of(offer.prices, offer.flat, Usage(len(stage.span) * positions, 0, 0, 0))


def _plan(known: KnownOffer, span: Span) -> StagePlan:
    return StagePlan(known.offer, known.addresses, span, known.certificate.record.not_after)


def _left_out(offers: Sequence[KnownOffer], sought: Sought, excluded: Collection[bytes], now: int) -> Iterator[str]:
    """The reasons for which nodes that serve the model may not be asked."""
    if (longest := longest_too_short(offers, sought, excluded)) is not None:
        yield (
            f"prompt and answer need {sought.positions} positions, and others take {longest} at most: ask for fewer "
            "tokens or shorten the prompt"
        )
    if nodes := too_often_proposing(offers, sought, excluded):
        hint = (
            f"for {sought.positions} positions they would have more than {MAX_PROPOSED} receipts wait at once: ask for "
            "fewer tokens or shorten the prompt"
        )
        yield f"{short_names(nodes)} may not be asked: {hint}"
    if nodes := uncertified(offers, sought, excluded, now):
        hint = "their certificates end within the hour, and their owners have to renew them"
        yield f"{short_names(nodes)} may not be asked: {hint}"
