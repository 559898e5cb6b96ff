"""The default price limit: a multiple of what is usual, whatever strangers offer."""

from dataclasses import asdict, replace

import pytest

from p2pinfer.core.records.pricing import Prices
from p2pinfer.core.routes.price_limit import CEILING, DEFAULT_ASK, MULTIPLE, default_limit
from p2pinfer.core.routes.routing import Candidate, Demand, ask_of, choose_route
from p2pinfer.core.values.errors import TooDear
from p2pinfer.core.values.units import Span
from p2pinfer.node.settings import Settings
from tests.core.test_routing import LOAD, candidate, never, spans

USUAL = ask_of(DEFAULT_ASK, 0, Span(0, LOAD.layers), LOAD)


def times(factor: int, number: int = 1, first: int = 0, last: int = 30) -> Candidate:
    """A node that asks so many times the default."""
    prices = Prices(*(factor * price for price in asdict(DEFAULT_ASK).values()))
    return replace(candidate(number, first, last), prices=prices)


def test_the_default_ask_is_what_a_node_asks_by_its_settings() -> None:
    prices = Settings().prices
    assert Prices(prices.prefill, prices.decode, prices.cached, prices.sampled) == DEFAULT_ASK


@pytest.mark.parametrize(
    ("factors", "limit"),
    [
        ([], MULTIPLE),
        ([1], MULTIPLE),
        ([10], 10 * MULTIPLE),
        ([10, 10, 1_000], 10 * MULTIPLE),
        ([0] * 8 + [1], MULTIPLE),  # free fakes do not push the limit below what is usual
        ([5_000], CEILING),  # nor does one that is alone
        ([5_000] * 8 + [1], CEILING),
    ],
)
def test_it_is_a_multiple_of_the_median_ask_within_bounds(factors: list[int], limit: int) -> None:
    assert default_limit([times(factor) for factor in factors], LOAD) == pytest.approx(limit * USUAL, rel=0.01)


def test_asks_for_other_spans_compare() -> None:
    whole, third = [times(7)], [times(7, 1, 0, 10), times(7, 2, 10, 20), times(7, 3, 20, 30)]
    assert default_limit(third, LOAD) == default_limit(whole, LOAD)


def test_a_route_within_the_limit_is_taken_though_a_faster_one_is_dearer() -> None:
    fast, slow = candidate(1, 0, 30, rate=5_000.0, ask=100_000), candidate(2, 0, 30, rate=1.0, ask=10_000)
    assert choose_route([fast, slow], LOAD, never)[0].candidate == fast
    most = ask_of(slow.prices, slow.flat, Span(0, 30), LOAD)
    assert choose_route([fast, slow], LOAD, never, most)[0].candidate == slow
    with pytest.raises(TooDear, match=f"may cost {most:,} nano-credits, and the limit is {most - 1:,}"):
        choose_route([fast, slow], LOAD, never, most - 1)


def test_a_cheap_span_makes_room_for_a_dear_one() -> None:
    parts = [times(1, 1, 0, 15), times(9, 2, 0, 15), times(9, 3, 15, 30)]
    most = ask_of(parts[0].prices, 0, Span(0, 15), LOAD) + ask_of(parts[2].prices, 0, Span(15, 30), LOAD)
    route = choose_route(parts, Demand(30, 100, 50, 610, 1e12), never, most)
    assert [stage.candidate.key[0] for stage in route] == [1, 3]
    assert spans(route) == [Span(0, 15), Span(15, 30)]
