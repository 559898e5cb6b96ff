"""Routing: the cheapest way through all layers, and a draw among those nearly as cheap."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from math import inf, sqrt
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pinfer.core.records.pricing import Prices, Usage, amount_of
from p2pinfer.core.routes.routing import (
    LIVE_DRAWS,
    NEAR_BEST,
    Candidate,
    Demand,
    Route,
    Stage,
    ask_of,
    choose_route,
    cost,
    price_of,
)
from p2pinfer.core.values.errors import NoRoute, TooDear
from p2pinfer.core.values.units import PeerKey, Span

LOAD = Demand(layers=30, prompt=100, tokens=50, row_bytes=610, second_worth=1000.0)
DRAWS = 1_000
SIGMAS = 5  # from its share of draws nobody is so far away by chance


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


def never() -> float:
    """The chance that raises no cost."""
    return 0.0


def spans(route: Route) -> list[Span]:
    return [stage.span for stage in route]


def draws(pool: Sequence[Candidate], chance: Callable[[], float] | None = None) -> Counter[tuple[int, int]]:
    """How often each candidate had each place, by the first byte of its key, in many draws."""
    chance = chance or Random(7).random
    routes = [choose_route(pool, LOAD, chance) for _ in range(DRAWS)]
    return Counter((place, stage.candidate.key[0]) for route in routes for place, stage in enumerate(route))


def is_share(count: int, share: float) -> bool:
    return abs(count - DRAWS * share) <= SIGMAS * sqrt(DRAWS * share * (1 - share))


def test_one_peer_that_holds_all_is_preferred_to_three_of_its_kind() -> None:
    thirds = [candidate(n, 10 * n, 10 * n + 10, rate=150.0) for n in range(3)]
    assert spans(choose_route([*thirds, candidate(9, 0, 30)], LOAD, never)) == [Span(0, 30)]


def test_three_cheap_peers_are_preferred_to_one_that_asks_a_hundred_times_as_much() -> None:
    thirds = [candidate(n, 10 * n, 10 * n + 10, rate=150.0) for n in range(3)]
    dear = candidate(9, 0, 30, ask=80_000_000)
    assert len(choose_route([*thirds, dear], LOAD, never)) == 3


def test_spans_that_overlap_are_cut() -> None:
    route = choose_route([candidate(1, 0, 20), candidate(2, 10, 30)], LOAD, never)
    assert [span.first for span in spans(route)] == [0, spans(route)[0].last]
    assert spans(route)[-1].last == 30


def test_routes_nearly_as_good_share_the_load() -> None:
    pool = [candidate(n, 0, 30, rate=50.0 + n) for n in range(3)]
    assert set(draws(pool)) == {(0, 0), (0, 1), (0, 2)}


def test_a_route_half_as_fast_is_not_drawn() -> None:
    pool = [candidate(1, 0, 30, rate=50.0), candidate(2, 0, 30, rate=20.0)]
    assert set(draws(pool)) == {(0, 1)}


def test_of_eight_equal_nodes_a_span_each_gets_its_share_of_every_place() -> None:
    pool = [candidate(8 * third + n, 10 * third, 10 * third + 10) for third in range(3) for n in range(8)]
    drawn = draws(pool)
    assert all(is_share(drawn[place, 8 * place + n], 1 / 8) for place in range(3) for n in range(8))


def test_of_a_hundred_whole_nodes_each_gets_its_share() -> None:
    drawn = draws([candidate(n, 0, 30) for n in range(100)])
    assert all(is_share(drawn[0, n], 1 / 100) for n in range(100))


def test_spans_that_are_cut_otherwise_share_the_load_too() -> None:
    ends = [(0, 14), (0, 15), (0, 16), (14, 30), (15, 30), (13, 30)]
    drawn = draws([candidate(n, *span, rate=1_500 / (span[1] - span[0])) for n, span in enumerate(ends)])
    assert min(drawn[n // 3, n] for n in range(6)) > DRAWS / 10


def test_a_node_that_is_known_to_live_is_drawn_more_often_and_not_always() -> None:
    pool = [replace(candidate(n, 0, 30), live=n < 2) for n in range(8)]
    drawn = draws(pool)
    assert all(is_share(drawn[0, n], LIVE_DRAWS / (2 * LIVE_DRAWS + 6)) for n in range(2))
    assert all(is_share(drawn[0, n], 1 / (2 * LIVE_DRAWS + 6)) for n in range(2, 8))


def test_however_many_are_spoken_of_those_that_are_known_to_live_are_drawn_half_of_the_time() -> None:
    drawn = draws([replace(candidate(n, 0, 30), live=n == 50) for n in range(200)])
    assert is_share(drawn[0, 50], 1 / 2)


def test_one_that_was_late_or_slow_is_left_for_its_twin() -> None:
    twin = candidate(1, 0, 30)
    assert set(draws([twin, replace(candidate(2, 0, 30), late_s=1.0)])) == {(0, 1)}
    assert set(draws([twin, replace(candidate(2, 0, 30), slow_s=0.01)])) == {(0, 1)}


def test_where_the_best_routes_ask_for_too_much_a_slower_one_is_taken_and_the_best_of_those() -> None:
    fast, middling = candidate(1, 0, 30, rate=500.0, ask=8_000_000), candidate(2, 0, 30, rate=50.0)
    slow = candidate(3, 0, 30, rate=0.1, ask=70_000)
    most = price_of_whole(middling)
    assert choose_route([fast, middling, slow], LOAD, never, most)[0].candidate is middling
    assert choose_route([fast, middling, slow], LOAD, never, most - 1)[0].candidate is slow
    with pytest.raises(TooDear, match=f"may cost {price_of_whole(slow)} nano-credits, and the limit is 10: "):
        choose_route([fast, middling, slow], LOAD, never, 10)


def price_of_whole(one: Candidate) -> int:
    return ask_of(one.prices, one.flat, one.span, LOAD)


def test_no_draw_asks_for_more_than_the_limit() -> None:
    pool = [candidate(n, 10 * (n % 3), 10 * (n % 3) + 10, ask=80_000 + 100 * n) for n in range(60)]
    cheapest = choose_route(pool, replace(LOAD, second_worth=0.0), never)
    most = sum(price_of(stage, LOAD) for stage in cheapest) + 1
    chance = Random(3).random
    assert all(sum(price_of(one, LOAD) for one in choose_route(pool, LOAD, chance, most)) <= most for _ in range(100))


def test_a_gap_names_its_layers() -> None:
    with pytest.raises(NoRoute, match="layers 10:12 of 30"):
        choose_route([candidate(1, 0, 10), candidate(2, 12, 30)], LOAD, never)


def test_no_offers_at_all_name_every_layer() -> None:
    with pytest.raises(NoRoute, match="layers 0:30"):
        choose_route([], LOAD, never)


def test_a_peer_serves_once_in_a_route() -> None:
    """The whole peer is dear in the middle, and only there is somebody else: it still is not taken twice."""
    pool = [candidate(1, 0, 30, rate=20.0, rtt_s=0.0), candidate(2, 10, 20, rate=5000.0, ask=0, rtt_s=0.0)]
    keys = [stage.candidate.key for stage in choose_route(pool, LOAD, never)]
    assert len(keys) == len(set(keys))


def test_thousands_of_layers_are_cut_where_most_spans_end() -> None:
    load = replace(LOAD, layers=3_000)
    thirds = [candidate(n, 1_000 * (n % 3), 1_000 * (n % 3) + 1_000) for n in range(6)]
    odd = [replace(candidate(9, n, n + 1), key=PeerKey(n.to_bytes(32, "big"))) for n in range(2_999)]
    assert len(choose_route([*thirds, *odd], load, never)) == 3
    with pytest.raises(NoRoute, match="parts that fit each other"):
        choose_route([*odd, replace(odd[-1], key=PeerKey(bytes(32)), span=Span(2_999, 3_000))], load, never)


offered = st.lists(
    st.tuples(st.integers(0, 29), st.integers(1, 30), st.floats(1, 500), st.integers(0, 10**6)), max_size=6
)


def pool_of(numbers: Sequence[tuple[int, int, float, int]]) -> list[Candidate]:
    return [
        candidate(number, first, min(30, first + length), rate, ask)
        for number, (first, length, rate, ask) in enumerate(numbers)
    ]


@given(offered, st.integers())
def test_any_route_covers_every_layer_once_by_peers_that_hold_it(
    numbers: list[tuple[int, int, float, int]], seed: int
) -> None:
    try:
        route = choose_route(pool_of(numbers), LOAD, Random(seed).random)
    except NoRoute:
        return
    assert [layer for stage in route for layer in range(stage.span.first, stage.span.last)] == list(range(30))
    assert all(stage.candidate.span.covers(stage.span) for stage in route)
    assert len({stage.candidate.key for stage in route}) == len(route)
    assert all(cost(stage, LOAD) >= 0 for stage in route)


@given(offered.filter(lambda numbers: len(numbers) < 5), st.integers())
def test_every_draw_is_within_a_tenth_of_the_best_route_there_is(
    numbers: list[tuple[int, int, float, int]], seed: int
) -> None:
    pool = pool_of(numbers)
    try:
        drawn = sum(cost(stage, LOAD) for stage in choose_route(pool, LOAD, Random(seed).random))
    except NoRoute:
        drawn = inf
    assert drawn <= NEAR_BEST * least_cost(pool) * (1 + 1e-9)


def least_cost(pool: Sequence[Candidate], first: int = 0, used: frozenset[PeerKey] = frozenset()) -> float:
    """The cost of the best route, by looking at all of them."""
    if first == LOAD.layers:
        return 0.0
    cuts = {cut for one in pool for cut in (one.span.first, one.span.last)}
    return min(
        (
            cost(Stage(one, Span(first, last)), LOAD) + least_cost(pool, last, used | {one.key})
            for one, last in product(pool, cuts)
            if one.key not in used and one.span.first <= first < last <= one.span.last
        ),
        default=inf,
    )


@given(st.integers(0, 1 << 32), st.integers(0, 1 << 32), st.integers(1, 30), st.integers(0, 1000), st.integers(1, 1000))
def test_an_ask_is_what_the_usage_will_cost(ask: int, flat: int, last: int, prompt: int, tokens: int) -> None:
    prices, load = Prices(ask // 4, ask % (1 << 32), 0, ask // 3), replace(LOAD, prompt=prompt, tokens=tokens)
    usage = Usage(last * prompt, last * (tokens - 1), 0, tokens if last == 30 else 0)
    assert ask_of(prices, flat, Span(0, last), load) == amount_of(prices, flat, usage)
