"""Groups of protocols/vectors/offer.json that are about what a node does with offers: it passes them on, and moves."""

import json
from collections.abc import Mapping
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, ClassVar, Final

import pytest
import trio
from trio.testing import MockClock

from p2pinfer.core.records.offer import Offer
from p2pinfer.core.records.records import SignedRecord, decode, record_id
from p2pinfer.core.swarm.offer_table import OfferTable
from p2pinfer.core.swarm.offers import KnownOffer
from p2pinfer.core.swarm.source import NOWHERE
from p2pinfer.core.values.units import ModelId, Numerics, Span
from p2pinfer.core.wire.messages import AskOffers
from p2pinfer.node import placement as placing
from p2pinfer.node.placement import Placement
from p2pinfer.node.settings import Serve
from p2pinfer.overlay.machine import Machine
from p2pinfer.overlay.tidings import Tidings
from tests.protocols.reading import PROTOCOLS
from tests.vectors.make_records import CERTIFICATE

Case = Mapping[str, Any]

VECTORS: Final = json.loads((PROTOCOLS / "vectors" / "offer.json").read_text(encoding="utf-8"))
LONG_S: Final = 600.0  # a node that may move has done so by then


def cases(group: str) -> list[Any]:
    return [pytest.param(case, id=case["name"]) for case in VECTORS[group]]


def known(body: str, born_s: float) -> KnownOffer:
    data = bytes.fromhex(body)
    signed = SignedRecord(decode(Offer, data), record_id(Offer, data), data, (bytes(64),))
    return KnownOffer(signed, CERTIFICATE, ("/memory/a",), born_s)


class Asked:
    """A network and an exchange of which a peer asks for offers."""

    key = bytes(32)
    hearers: ClassVar[list[object]] = []
    machine = Machine()

    def answer(self, ask: object, answering: Any) -> None:
        self.answering = answering

    def links(self) -> tuple[object, ...]:
        return ()

    def told(self, to: object) -> tuple[str, ...]:
        return ()

    def may_tell(self, address: str, to: object) -> bool:
        return True

    def asleep_s(self) -> float:
        return 0.0

    async def ages(self) -> list[int]:
        link = SimpleNamespace(peer=bytes(32), source=NOWHERE, hello=SimpleNamespace(boot=b""), charged=nullcontext)
        return [told.age_ms for told in (await self.answering(link, AskOffers(1, b"", 64))).offers]


@pytest.mark.parametrize("case", cases("passed"))
async def test_an_offer_is_passed_on_with_its_age(autojump_clock: MockClock, case: Case) -> None:
    """OFF-10"""
    asked: Any = Asked()
    tidings, now = Tidings(asked, asked), trio.current_time()
    if case["age_ms"] is None:
        tidings.announce(known(case["body"], now))
    else:
        tidings.table.add(known(case["body"], now - case["age_ms"] / 1000), now)
    await trio.sleep(case["after_ms"] / 1000)
    assert await asked.ages() == ([] if case["told_ms"] is None else [case["told_ms"]])


class Swarm:
    """A directory and a network in which the offers of a case stay as old as they are, and everybody is there."""

    machine = Machine()

    def __init__(self, offers: list[Case]) -> None:
        self._offers = offers
        self.joined: list[Span] = []

    def note_layers(self, model: ModelId, layers: int) -> None: ...

    def offers(self, model: ModelId) -> list[KnownOffer]:
        table = OfferTable()
        for one in self._offers:
            table.add(known(one["body"], -one["age_s"]), 0.0)
        return table.fresh(0.0, model)

    async def look(self, model: ModelId) -> list[KnownOffer]:
        await trio.lowlevel.checkpoint()
        return self.offers(model)

    def links(self) -> tuple[object, ...]:
        return ()

    def link(self, peer: object) -> object:
        return self

    def due_s(self, peer: object) -> float:
        return 0.0

    async def join(self, span: Span) -> None:
        self.joined.append(span)
        await trio.lowlevel.checkpoint()

    async def stay(self) -> None:
        await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("case", cases("leaving"))
async def test_a_node_keeps_what_it_alone_serves(autojump_clock: MockClock, case: Case) -> None:
    """OFF-13; where it may leave its layers it does, since others are missing."""
    mine = Span(*case["span"])
    keeps = None if case["keeps"] is None else Span(*case["keeps"])
    manifest = SimpleNamespace(layers=case["layers"], name="a model", span=Span(0, case["layers"]))
    model: Any = SimpleNamespace(id=ModelId(bytes.fromhex(case["model"])), manifest=manifest)
    swarm: Any = Swarm(case["offers"])
    with pytest.MonkeyPatch.context() as room:
        room.setattr(placing, "layers_that_fit", lambda *_: len(mine))
        node = Placement(swarm, swarm, model, Serve(numerics=Numerics(case["numerics"]).label))
    with trio.move_on_after(LONG_S):
        await node.wait_move(mine, swarm, swarm.look)
    assert all(keeps is None or span.covers(keeps) for span in swarm.joined)
    assert bool(swarm.joined) or keeps is not None
