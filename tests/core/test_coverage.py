"""How thinly a model is held, and the few offers that make whole routes through it."""

import random
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import FrameType
from typing import Any

import pytest

from p2pinfer.core.records.offer import ServingState
from p2pinfer.core.swarm.coverage import COVERS, YOUNG_S, covers, thinnest
from p2pinfer.core.swarm.offer_table import ANSWER_PART, MAX_KNOWN, ORDER_S, PULL_NEW, OfferTable
from p2pinfer.core.swarm.offers import KnownOffer
from p2pinfer.core.swarm.selection import MAX_SELECTED
from p2pinfer.core.values.units import PeerKey, Roles, Span
from tests.core.paid_route import MODEL, certificate_for, key, offer_of

LAYERS = 30


def held(name: str, first: int, last: int, born_s: float = 0.0, *, network: str = "", **changes: object) -> KnownOffer:
    roles = (Roles.HEAD if first == 0 else Roles.MIDDLE) | (Roles.TAIL if last == LAYERS else Roles.MIDDLE)
    signer = key(name)
    offer = offer_of(signer, Span(first, last), roles, **changes)
    return KnownOffer(offer, certificate_for(signer), (), born_s, network)


@pytest.mark.parametrize(
    ("spans", "least"),
    [
        ([], 0),
        ([(0, 30)], 1),
        ([(0, 10), (20, 30)], 0),
        ([(0, 10), (10, 20), (20, 30)], 1),
        ([(0, 10), (10, 20)], 0),
        ([(10, 30), (20, 30)], 0),
        ([(0, 30), (0, 10), (10, 20), (20, 30)], 2),
        ([(0, 15), (10, 30)], 1),
        ([(0, 30), (0, 30), (0, 30)], 3),
    ],
)
def test_the_layer_that_fewest_serve_counts(spans: list[tuple[int, int]], least: int) -> None:
    offers = [held(f"node {number}", *span).offer.record for number, span in enumerate(spans)]
    assert thinnest(offers) == least


def test_who_joins_or_leaves_serves_nothing() -> None:
    assert thinnest([held("a", 0, 30, state=ServingState.JOINING).offer.record]) == 0
    assert thinnest([held("a", 0, 30, state=ServingState.LEAVING).offer.record]) == 0


def test_who_knows_the_layers_believes_no_tails() -> None:
    liars = [
        replace(
            held(f"liar {number}", 0, 30), offer=offer_of(key(f"liar {number}"), Span(0, 1), Roles.HEAD | Roles.TAIL)
        )
        for number in range(2)
    ]
    assert thinnest(one.offer.record for one in liars) == 2
    assert thinnest((one.offer.record for one in liars), 30) == 0
    assert thinnest((one.offer.record for one in [*liars, held("honest", 0, 30)]), 30) == 1


def test_one_liar_makes_no_model_longer() -> None:
    honest = [held(f"node {number}", 0, 30) for number in range(2)]
    liar = held("liar", 0, 2**31)
    offer = offer_of(key("liar"), Span(0, 2**31), Roles.HEAD | Roles.TAIL)
    liar = replace(liar, offer=offer)
    assert thinnest(one.offer.record for one in [*honest, liar]) == 2
    assert covers([liar, *honest], 0.0) == honest


def test_routes_are_of_different_nodes_and_of_few() -> None:
    offers = [held(f"{first} {number}", first, first + 10) for first in (0, 10, 20) for number in range(5)]
    chosen = covers(offers, 0.0)
    assert len(chosen) == len({one.node for one in chosen}) == 3 * COVERS
    for at in range(0, len(chosen), 3):
        assert [one.offer.record.span for one in chosen[at : at + 3]] == [Span(0, 10), Span(10, 20), Span(20, 30)]


def test_a_route_is_of_nodes_that_spoke_lately_where_there_are_any() -> None:
    old, young = held("old", 0, 30, -YOUNG_S - 1), [held("a", 0, 15), held("b", 15, 30)]
    assert covers([*young, old], 0.0)[:2] == young


def test_where_layers_are_missing_there_is_no_route() -> None:
    assert covers([held("a", 0, 10), held("b", 11, 30)], 0.0) == []


def test_a_liars_network_is_in_one_of_the_routes() -> None:
    liars = [held(f"liar {number}", 0, 30, 1.0, network="liars") for number in range(10)]
    honest = [held(f"{first}", first, first + 10, network="honest") for first in (0, 10, 20)]
    chosen = covers([*liars, *honest], 0.0)
    assert {one.network for one in chosen[:1]} == {"liars"}
    assert chosen[1:4] == honest


def test_every_answer_covers_the_model_however_many_spans_there_are() -> None:
    """Of spans of all kinds, of which most are of one network's liars, and old."""
    lots = random.Random(3)
    for _ in range(5):
        table = OfferTable()
        for number in range(300):
            first = lots.randrange(LAYERS - 1)
            last = lots.randrange(first + 1, LAYERS)
            table.add(held(f"any {number}", first, last, -lots.random() * 50, network=f"{number % 3}"), 0.0)
        honest = [held(f"honest {first}", first, first + 3, -5.0, network="home") for first in range(0, LAYERS, 3)]
        for one in honest:
            table.add(one, 0.0)
        answer = table.spread(0.0, MODEL, 64)
        assert thinnest(one.offer.record for one in answer) >= 1
        assert sum(one.network == "0" for one in answer[:16]) <= 64 // ANSWER_PART


def test_the_freshest_of_a_span_come_first() -> None:
    table = OfferTable()
    for number in range(100):
        table.add(held(f"node {number}", 0, 30, -float(number % 50)), 0.0)
    ages = [-one.born_s for one in table.spread(0.0, MODEL, 10)]
    assert ages == sorted(ages)
    assert ages[-1] <= 5


def test_a_network_has_one_word_where_a_model_ends() -> None:
    honest = [held(f"honest {number}", 0, 30, network=f"{number}") for number in range(2)]
    liars = [
        replace(one, offer=offer_of(key(f"liar {number}"), Span(0, 1), Roles.HEAD | Roles.TAIL))
        for number in range(5)
        for one in [held(f"liar {number}", 0, 30, network="liars")]
    ]
    assert covers([*liars, *honest], 0.0) == honest


def test_an_answer_of_a_large_table_is_of_what_is_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its order may be a moment old, the offers are not."""
    monkeypatch.setattr("p2pinfer.core.swarm.offer_table.SMALL", 2)
    table = OfferTable()
    nodes = [held(f"node {number}", 0, 30, float(-number)) for number in range(4)]
    for one in nodes:
        table.add(one, 0.0)
    assert table.spread(0.0, MODEL, 64) == nodes
    renewed = held("node 1", 0, 30, 0.2, seq=9)
    table.add(renewed, 0.2)
    table.forget(nodes[2].node)
    table.add(new := held("new", 0, 30, 0.1), 0.2)
    assert table.spread(0.5, MODEL, 64) == [nodes[0], renewed, nodes[3]]
    assert table.spread(0.0 + ORDER_S, MODEL, 64)[:2] == [renewed, new]


# Few of many


def told_first(offers: list[KnownOffer], count: int = 1000) -> Counter[KnownOffer]:
    """How often each is the one in an answer of one."""
    table = OfferTable(random.Random(5).randrange)
    for one in offers:
        table.add(one, 0.0)
    return Counter(one for _ in range(count) for one in table.spread(0.0, MODEL, 1))


def test_all_who_serve_the_same_layers_are_told_as_often() -> None:
    """Though whole routes of few nodes are made of the widest spans, and of the freshest offers."""
    thirds = [
        held(f"wide {first} {of}", first, first + 10, network=f"a{first}{of}") for first in (0, 10, 20) for of in "abcd"
    ]
    quarters = [
        held(f"odd {at} {of}", *at, network=f"b{at}{of}")
        for at in ((0, 9), (9, 15), (15, 22), (22, 30))
        for of in "abcd"
    ]
    told = told_first([*thirds, *quarters], 4000)
    assert min(told[one] for one in [*thirds, *quarters]) > 4000 / 28 / 2
    assert max(told.values()) < 4000 / 28 * 2


def test_who_alone_serves_some_layers_is_told_oftener() -> None:
    many_ = [held(f"many {number}", 0, 20, network=f"{number}") for number in range(50)]
    told = told_first([*many_, alone := held("alone", 20, 30, network="alone")])
    assert 200 < told[alone] < 500


def test_what_ends_soon_is_told_more_rarely() -> None:
    old, young = (held(name, 0, 30, born_s, network=name) for name, born_s in (("old", -50.0), ("young", 0.0)))
    told = told_first([old, young])
    assert 1000 / 74 < told[old] < 1000 / 18


@pytest.mark.parametrize("last", [LAYERS, 1 << 31], ids=["of the model", "far beyond its end"])
def test_the_many_offers_of_one_network_are_told_no_oftener_than_one(last: int) -> None:
    lies = [held(f"lie {number}", 0, last, network="liar") for number in range(200)]
    honest = [held(f"honest {number}", 0, LAYERS, network=f"{number}") for number in range(9)]
    told = told_first([*lies, *honest])
    assert 0 < sum(told[lie] for lie in lies) < 200


# Whatever is offered


def many(spans: list[tuple[int, int]], networks: int) -> list[KnownOffer]:
    """An offer of each, of nodes of so many networks; they are not signed."""
    base = held("base", 0, 30)
    end = max(last for _, last in spans)
    offers = []
    for number, (first, last) in enumerate(spans):
        roles = (Roles.HEAD if first == 0 else Roles.MIDDLE) | (Roles.TAIL if last == end else Roles.MIDDLE)
        node = PeerKey(number.to_bytes(32, "big"))
        record = replace(base.offer.record, node=node, span=Span(first, last), roles=roles)
        offer = replace(base.offer, record=record, body=node)
        offers.append(replace(base, offer=offer, network=f"{number % networks}"))
    return offers


def steps_of(work: Callable[[], object]) -> int:
    """Lines of Python that the work takes."""
    steps = 0

    def trace(_frame: FrameType, event: str, _argument: object) -> Callable[..., Any]:
        nonlocal steps
        steps += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return steps


@pytest.mark.parametrize("networks", [10, 10_000])
@pytest.mark.parametrize(
    "spans",
    [
        [(at, at + 1) for at in range(10_001) if at != 9_998],
        [(at // 2, 10_000 - at // 2) for at in range(10_000)],
        [(at % 100 * 100, at % 100 * 100 + 1 + at // 100) for at in range(10_000)],
        [(0, 30)] * 10_000,
    ],
    ids=["one layer is missing", "one in another", "all kinds", "all of it"],
)
def test_an_answer_takes_few_steps_whatever_is_offered(spans: list[tuple[int, int]], networks: int) -> None:
    table = OfferTable()
    for one in many(spans, networks):
        table.add(one, 0.0)
    assert len(table.fresh(0.0)) == min(len(spans), MAX_KNOWN)
    for model, limit in ((MODEL, 64), (MODEL, PULL_NEW), (None, 64)):
        assert steps_of(partial(table.spread, 0.0, model, limit)) < 100 * MAX_SELECTED


def test_a_crowd_of_spans_hides_no_span() -> None:
    """Neither spans that three networks make up, nor a crowd of nodes of one span."""
    table = OfferTable()
    for one in many([(0, at) for at in range(1, 3_000)], 3):
        table.add(replace(one, network=f"crowd {one.network}"), 0.0)
    for number, one in enumerate(many([(0, 30)] * 2_000, 2_000)):
        node = PeerKey((1 << 32 | number).to_bytes(32, "big"))
        offer = replace(one.offer, record=replace(one.offer.record, node=node), body=node)
        table.add(replace(one, offer=offer), 0.0)
    thin = [held(f"thin {at}", at, at + 6, network="relay") for at in range(0, LAYERS, 6)]
    for one in thin:
        table.add(one, 0.0)
    assert len(table.fresh(0.0)) == 2_999 + 2_000 + len(thin)
    assert {one.node for one in thin} <= set(table._selection.nodes(MODEL))


def test_nothing_is_left_of_offers_that_are_forgotten() -> None:
    table = OfferTable()
    offers = many([(at, at + 1) for at in range(30)], 3)
    for one in offers:
        table.add(one, 0.0)
    for one in offers:
        assert table.recognise(one.relay(1.0), one.node, "its own")
        table.forget(one.node)
    selection = table._selection
    assert not (selection._nodes or selection._ranks or selection._kinds or selection._networks)


def test_routes_are_those_of_a_search_through_all() -> None:
    lots = random.Random(5)
    for _ in range(300):
        spans = [
            (first, lots.randrange(first + 1, 9)) for first in (lots.randrange(8) for _ in range(lots.randrange(1, 9)))
        ]
        offers = [replace(one, born_s=-lots.random()) for one in many(spans, 3)]
        offers.sort(key=lambda one: -one.born_s)
        route = covers(offers, 0.0)
        end = max(one.offer.record.span.last for one in offers)
        assert bool(route) == (thinnest((one.offer.record for one in offers), end) > 0)
        at = 0
        for one in route:
            span = one.offer.record.span
            assert span.first <= at < span.last
            at = span.last % end


# The dead


def test_the_offer_of_a_node_found_dead_is_none_until_there_is_a_newer_one() -> None:
    table, old = OfferTable(), held("node", 0, 30, seq=2)
    table.add(old, 0.0)
    table.silence(old.node)
    assert table.fresh(1.0) == []
    assert not table.add(replace(old, born_s=1.0), 1.0)
    assert not table.add(held("node", 0, 30, 1.0, seq=1), 1.0)
    assert table.recognise(old.relay(1.0), old.node)  # what is known need not be checked again
    assert table.fresh(1.0) == []
    assert table.add(held("node", 0, 30, 1.0, seq=3), 1.0)


def test_a_node_that_speaks_again_is_believed() -> None:
    table, old = OfferTable(), held("node", 0, 30)
    table.add(old, 0.0)
    table.silence(old.node)
    table.heard(old.node)
    assert table.add(old, 1.0)


def test_what_was_said_by_the_dead_is_forgotten_with_its_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2pinfer.core.swarm.offer_table.MAX_KNOWN", 2)
    table = OfferTable()
    for number in range(5):
        one = held(f"node {number}", 0, 30)
        table.add(one, 0.0)
        table.silence(one.node)
    assert len(table._silent) == len(table._silent_bodies) == 2
    table.fresh(60.0)
    assert not table._silent
    assert not table._silent_bodies


def test_nobody_unknown_is_found_dead() -> None:
    table = OfferTable()
    table.silence(key("nobody").public)
    assert table.add(held("nobody", 0, 30), 0.0)
