"""Routing: the cheapest way through all layers, and a draw among those nearly as cheap."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pinfer.core.errors import NoRoute
from p2pinfer.core.pricing import Prices
from p2pinfer.core.routing import Candidate, Load, Route, choose_route, cost
from p2pinfer.core.units import PeerKey, Span

LOAD = Load(layers=30, prompt=100, tokens=50, row_bytes=610, second_worth=1000.0)


def candidate(
    number: int, first: int, last: int, rate: float = 50.0, ask: int = 80_000, rtt_s: float = 0.02
) -> Candidate:
    return Candidate(
        key=PeerKey(bytes([number]) * 32),
        span=Span(first, last),
        prices=Prices(ask // 4, ask, 0, 8 * ask),
        flat=0,
        prefill_rate=20 * rate,
        decode_rate=rate,
        uplink=1.25e6,
        rtt_s=rtt_s,
        queue_s=0.0,
    )


def spans(route: Route) -> list[Span]:
    return [stage.span for stage in route]


def test_one_peer_that_holds_all_is_preferred_to_three_of_its_kind() -> None:
    thirds = [candidate(n, 10 * n, 10 * n + 10, rate=150.0) for n in range(3)]
    assert spans(choose_route([*thirds, candidate(9, 0, 30)], LOAD, 0.99)) == [Span(0, 30)]


def test_three_cheap_peers_are_preferred_to_one_that_asks_a_hundred_times_as_much() -> None:
    thirds = [candidate(n, 10 * n, 10 * n + 10, rate=150.0) for n in range(3)]
    dear = candidate(9, 0, 30, ask=80_000_000)
    assert len(choose_route([*thirds, dear], LOAD, 0.0)) == 3


def test_spans_that_overlap_are_cut() -> None:
    route = choose_route([candidate(1, 0, 20), candidate(2, 10, 30)], LOAD, 0.0)
    assert [span.first for span in spans(route)] == [0, spans(route)[0].last]
    assert spans(route)[-1].last == 30


def test_routes_nearly_as_good_share_the_load() -> None:
    pool = [candidate(n, 0, 30, rate=50.0 + n) for n in range(3)]
    assert {choose_route(pool, LOAD, at / 10)[0].candidate.key[0] for at in range(10)} == {0, 1, 2}


def test_a_route_half_as_fast_is_not_drawn() -> None:
    pool = [candidate(1, 0, 30, rate=50.0), candidate(2, 0, 30, rate=20.0)]
    assert {choose_route(pool, LOAD, at / 10)[0].candidate.key[0] for at in range(10)} == {1}


def test_a_gap_names_its_layers() -> None:
    with pytest.raises(NoRoute, match="layers 10:12 of 30"):
        choose_route([candidate(1, 0, 10), candidate(2, 12, 30)], LOAD, 0.0)


def test_no_offers_at_all_name_every_layer() -> None:
    with pytest.raises(NoRoute, match="layers 0:30"):
        choose_route([], LOAD, 0.0)


def test_a_peer_serves_once_in_a_route() -> None:
    """The whole peer is dear in the middle, and only there is somebody else: it still is not taken twice."""
    pool = [candidate(1, 0, 30, rate=20.0, rtt_s=0.0), candidate(2, 10, 20, rate=5000.0, ask=0, rtt_s=0.0)]
    keys = [stage.candidate.key for stage in choose_route(pool, LOAD, 0.0)]
    assert len(keys) == len(set(keys))


offered = st.lists(
    st.tuples(st.integers(0, 29), st.integers(1, 30), st.floats(1, 500), st.integers(0, 10**6)), max_size=6
)


@given(offered, st.floats(0, 0.999))
def test_any_route_covers_every_layer_once_by_peers_that_hold_it(
    pool: list[tuple[int, int, float, int]], draw: float
) -> None:
    candidates = [
        candidate(number, first, min(30, first + length), rate, ask)
        for number, (first, length, rate, ask) in enumerate(pool)
    ]
    try:
        route = choose_route(candidates, LOAD, draw)
    except NoRoute:
        return
    assert [layer for stage in route for layer in range(stage.span.first, stage.span.last)] == list(range(30))
    assert all(stage.candidate.span.covers(stage.span) for stage in route)
    solo = [cost(stage, LOAD) for stage in route]
    assert all(value >= 0 for value in solo)
