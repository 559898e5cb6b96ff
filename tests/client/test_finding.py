"""What a client says where it finds no route; the directory is the test."""

import time
from types import SimpleNamespace

import pytest
import trio

from p2pinfer.client.asking import Request
from p2pinfer.client.finding import RouteFinder
from p2pinfer.core.errors import NoRoute
from p2pinfer.core.keys import short_name
from p2pinfer.core.offers import KnownOffer
from p2pinfer.core.units import Roles, Span
from tests.core.paid_route import NODES, certificate_for, offer_of

MODEL = SimpleNamespace(id=bytes(32), manifest=SimpleNamespace(layers=30, hidden=576))


class Known:
    """A directory that knows these offers, and hears of no others."""

    def __init__(self, *offers: KnownOffer) -> None:
        self._offers = list(offers)

    def offers(self, model: bytes) -> list[KnownOffer]:
        return self._offers

    async def look(self, model: bytes) -> list[KnownOffer]:
        await trio.lowlevel.checkpoint()
        return self._offers


async def test_nodes_that_may_not_be_asked_are_named() -> None:
    certificate = certificate_for(NODES[0], not_after=int(time.time()) + 60)
    late = KnownOffer(offer_of(NODES[0], Span(0, 30), Roles.HEAD | Roles.TAIL), certificate, (), 0.0)
    finder = RouteFinder(Known(late), None)  # type: ignore[arg-type]
    with pytest.raises(NoRoute, match=f"nobody serves layers 0:30 .*{short_name(NODES[0].public)} may not be asked"):
        await finder.find(MODEL, 5, Request("Hi"), ())  # type: ignore[arg-type]


async def test_where_nobody_offers_anything_no_certificate_is_to_blame() -> None:
    finder = RouteFinder(Known(), None)  # type: ignore[arg-type]
    with pytest.raises(NoRoute, match=r"nobody serves layers 0:30 of 30$"):
        await finder.find(MODEL, 5, Request("Hi"), ())  # type: ignore[arg-type]
