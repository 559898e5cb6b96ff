"""Finding a route: what peers offer, the cheapest route over it, and links to its stages."""

import random
import time
from collections.abc import Collection, Sequence
from typing import Final

import trio

from p2pinfer.client.asking import CODECS, Request
from p2pinfer.client.contracts import StagePlan
from p2pinfer.client.routes import candidate_of, uncertified, usable
from p2pinfer.core.errors import NoRoute, Refused
from p2pinfer.core.keys import short_names
from p2pinfer.core.offers import KnownOffer
from p2pinfer.core.routing import Load, Route, choose_route, cost
from p2pinfer.core.units import Span, row_bytes
from p2pinfer.disk.store import StoredModel
from p2pinfer.overlay.directory import Directory
from p2pinfer.overlay.network import Network
from p2pinfer.overlay.reach import reach

SECOND_WORTH: Final = 1_000.0  # nano-credits that a second of waiting costs: what 30 tokens of a small model cost


class RouteFinder:
    """What one client asks of the swarm before it opens a route."""

    def __init__(self, directory: Directory, network: Network) -> None:
        self._directory = directory
        self._network = network

    async def find(
        self, model: StoredModel, prompt: int, request: Request, refused: Collection[bytes]
    ) -> list[StagePlan]:
        """The stages of the cheapest route for a prompt of so many ids, without nodes that refused.

        Raises NoRoute, naming the layers that nobody serves, and nodes that may not be asked for them.
        """
        load = Load(
            layers=model.manifest.layers,
            prompt=prompt,
            tokens=request.max_tokens,
            row_bytes=row_bytes(CODECS[request.codec], model.manifest.hidden),
            second_worth=SECOND_WORTH,
        )
        now = int(time.time())
        offers = usable(self._directory.offers(model.id), request, refused, now)
        try:
            return self._chosen(offers, load, request)
        except NoRoute:
            found = await self._directory.look(model.id)
        try:
            return self._chosen(usable(found, request, refused, now), load, request)
        except NoRoute as error:
            if not (nodes := uncertified(found, request, refused, now)):
                raise
            hint = "their certificates end within the hour, and their owners have to renew them"
            raise NoRoute(f"{error}; {short_names(nodes)} may not be asked: {hint}") from None

    def _chosen(self, offers: dict[int, list[KnownOffer]], load: Load, request: Request) -> list[StagePlan]:
        """The route of one numerics class, the cheapest class first. Raises NoRoute."""
        so = f" in class {request.numerics}" if request.numerics else ""
        failure = NoRoute(f"nobody serves layers 0:{load.layers} of {load.layers}{so}")
        routes: list[Route] = []
        for known in offers.values():
            candidates = [candidate_of(offer, self._network.link(offer.node)) for offer in known]
            try:
                routes.append(choose_route(candidates, load, random.random()))
            except NoRoute as error:
                failure = error
        if not routes:
            raise failure
        best = min(routes, key=lambda route: sum(cost(stage, load) for stage in route))
        by_key = {offer.node: offer for known in offers.values() for offer in known}
        return [_plan(by_key[stage.candidate.key], stage.span) for stage in best]

    async def reach(self, stages: Sequence[StagePlan]) -> set[bytes]:
        """Link to every stage; return those that cannot be reached, and forget their offers."""
        missing: set[bytes] = set()

        async def one(stage: StagePlan) -> None:
            try:
                await reach(self._network, stage.key, stage.addresses)
            except Refused:
                missing.add(stage.key)
                self._directory.table.forget(stage.key)

        async with trio.open_nursery() as nursery:
            for stage in stages:
                nursery.start_soon(one, stage)
        return missing


def _plan(known: KnownOffer, span: Span) -> StagePlan:
    return StagePlan(known.offer, known.addresses, span, known.certificate.record.not_after)
