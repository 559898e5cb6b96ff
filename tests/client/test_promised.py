"""How far an answer kept what its route's stages had promised."""

from math import inf

import pytest

from p2pinfer.client.promised import MIN_IDS, TELLING_S, Promised, Times
from p2pinfer.core.records.pricing import Prices
from p2pinfer.core.routes.measures import Lag
from p2pinfer.core.routes.routing import Candidate, Demand, Stage
from p2pinfer.core.values.units import PeerKey, Span

NODES = PeerKey(b"a" * 32), PeerKey(b"b" * 32)
LOAD = Demand(layers=2, prompt=100, tokens=50, row_bytes=610, second_worth=1000.0)
TRIPS_S = dict.fromkeys(NODES, 0.05)


def stage(place: int, **known: float) -> Stage:
    """It promises 0.1 s for the prompt, and 0.02 s for an id."""
    one = Candidate(NODES[place], Span(place, place + 1), Prices(0, 0, 0, 0), 0, 1_000, 50, inf, 9.9, 0.0, **known)  # type: ignore[arg-type]
    return Stage(one, one.span)


RING = Promised((stage(0), stage(1)), LOAD)


def test_an_answer_as_promised_is_neither_late_nor_slow() -> None:
    assert RING.lag(Times(0.29, 100 * 0.09, 101), TRIPS_S) == Lag(0.0, 0.0)


def test_an_answer_that_comes_later_is_late_by_the_difference() -> None:
    one, other = (RING.lag(Times(first_s, 9.0, 101), TRIPS_S).late_s for first_s in (3.0, 5.0))
    assert 2 < one < 3
    assert other - one == pytest.approx(2.0)


def test_ids_that_come_more_slowly_are_slow_by_the_difference() -> None:
    one, other = (RING.lag(Times(0.3, others_s, 101), TRIPS_S).slow_s for others_s in (30.0, 50.0))
    assert 0.1 < one < 0.3
    assert other - one == pytest.approx(0.2)


def test_a_few_ids_say_nothing_of_the_time_of_one() -> None:
    assert RING.lag(Times(0.3, TELLING_S - 1, MIN_IDS - 1), TRIPS_S).slow_s == 0


def test_unless_they_took_long() -> None:
    assert RING.lag(Times(0.3, 60.0, 2), TRIPS_S).slow_s > 59
    assert RING.lag(Times(0.3, 0.0, 1), TRIPS_S).slow_s == 0


def test_what_was_known_before_is_no_promise() -> None:
    known = Promised((stage(0, late_s=5.0, slow_s=1.0), stage(1)), LOAD)
    assert known.lag(Times(3.0, 50.0, 101), TRIPS_S) == RING.lag(Times(3.0, 50.0, 101), TRIPS_S)


def test_a_far_node_is_not_late_for_its_distance() -> None:
    far = dict.fromkeys(NODES, 0.7)
    assert RING.lag(Times(4.0, 101.0, 101), far) == Lag(0.0, 0.0)
