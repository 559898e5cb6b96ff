"""Moving: whatever order nodes start in, every hole that they can close is closed, and nothing is taken away."""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pinfer.core.swarm.moving import MOVERS, SLIDE_ODDS, OtherSpans, is_right, move_of, odds, swarm_of
from p2pinfer.core.swarm.placement import NETWORK_WORTH, OfferedSpan
from p2pinfer.core.values.units import Span
from tests.core.placing_town import Town

LAYERS = 30
HOUR_S = 3600.0
QUARTER_S = 900.0
DRAWS = [at / 40 for at in range(40)]


def swarm(*spans: tuple[int, int], rate: float = 20.0, **changes: object) -> OtherSpans:
    return swarm_of(LAYERS, [OfferedSpan(Span(*span), rate, **changes) for span in spans])  # type: ignore[arg-type]


def moves(others: OtherSpans, mine: Span) -> set[Span | None]:
    return {move_of(others, mine, draw) for draw in DRAWS}


# Holes


def test_a_node_that_overlaps_others_slides_over_the_hole_beside_it() -> None:
    assert moves(swarm((0, 10), (20, 30)), Span(11, 21)) == {Span(10, 20)}


def test_a_node_that_holds_all_its_layers_alone_stays() -> None:
    """OFF-13"""
    assert moves(swarm((0, 10)), Span(11, 21)) == {None}


def test_a_node_whose_layers_others_hold_goes_to_the_hole_wherever_it_is() -> None:
    assert moves(swarm((0, 10), (0, 10), (10, 20)), Span(2, 12)) == {Span(20, 30)}


def test_what_is_only_being_loaded_elsewhere_is_not_left() -> None:
    others = swarm_of(LAYERS, [OfferedSpan(Span(0, 10), 20.0, loaded=False), OfferedSpan(Span(10, 20), 20.0)])
    assert moves(others, Span(0, 10)) == {None}


def test_a_hole_that_a_joining_node_will_close_is_none() -> None:
    others = swarm_of(LAYERS, [OfferedSpan(Span(0, 20), 20.0), OfferedSpan(Span(20, 30), 20.0, loaded=False)])
    assert moves(others, Span(0, 10)) == {None}


def test_nobody_moves_where_all_together_have_too_little_room() -> None:
    assert moves(swarm((0, 10), (0, 10)), Span(5, 14)) == {None}


def test_an_overlap_far_from_the_hole_is_passed_on_towards_it() -> None:
    """Between 0:10 and 8:18 lies what is missing at the end."""
    others = swarm((0, 10), (18, 28))
    assert Span(10, 20) in moves(others, Span(8, 18))
    assert moves(swarm((0, 10), (10, 20)), Span(18, 28)) == {Span(20, 30)}


def test_spans_beyond_the_model_are_nobodys() -> None:
    assert swarm((0, 10), (20, 1 << 31)).holes(Span(10, 20)) == [Span(20, 30)]


# Liars


def test_a_node_stays_while_nothing_is_missing_so_that_no_lie_about_its_own_layers_draws_it_away() -> None:
    """Two strangers claim what it holds, and nothing else is weaker than before."""
    liars = [OfferedSpan(Span(0, 15), 1e9, "192.0.2.1"), OfferedSpan(Span(0, 15), 1e9, "198.51.100.7")]
    others = swarm_of(LAYERS, [*liars, OfferedSpan(Span(15, 30), 1.0)])
    assert moves(others, Span(0, 15)) == {None}


def test_a_network_of_many_idle_nodes_keeps_nobody_from_moving() -> None:
    idle = [OfferedSpan(Span(0, 10), 20.0, "192.0.2.1")] * 1000
    others = swarm_of(LAYERS, [*idle, OfferedSpan(Span(10, 20), 20.0)])
    assert odds(others, Span(0, 10)) == MOVERS / (NETWORK_WORTH + 1)


# Lots, and the second decision


def test_of_many_that_could_close_a_hole_few_go() -> None:
    others = swarm(*[(0, 20)] * 99)
    assert odds(others, Span(0, 20)) == MOVERS / 100


def test_who_leaves_nothing_goes_before_who_slides() -> None:
    assert odds(swarm((0, 10), (12, 14), (20, 30)), Span(11, 21)) == SLIDE_ODDS
    assert odds(swarm((0, 10), (20, 30)), Span(11, 21)) == 1.0


def test_a_move_is_taken_back_once_another_closed_the_hole() -> None:
    mine, new = Span(0, 10), Span(20, 30)
    assert is_right(swarm((0, 20)), mine, new)
    assert not is_right(swarm((0, 20), (20, 30)), mine, new)


def test_a_slide_is_taken_back_once_another_closed_the_hole() -> None:
    mine, new = Span(11, 21), Span(10, 20)
    assert is_right(swarm((0, 10), (20, 30)), mine, new)
    assert not is_right(swarm((0, 10), (20, 30), (9, 11)), mine, new)


def test_a_move_is_taken_back_once_the_other_holder_goes_too() -> None:
    assert not is_right(swarm((10, 20)), Span(0, 10), Span(20, 30))


# Together


def lengths_of(draw: st.DrawFn, layers: int) -> list[int]:
    """As many nodes as together have room for the model, the last with room for no layer more, or for some."""
    lengths = []
    while (missing := layers - sum(lengths)) > 0:
        length = draw(st.integers(1, max(1, layers - 1)))
        lengths.append(min(length, missing) if draw(st.booleans()) else length)
    return lengths


@st.composite
def starts(draw: st.DrawFn) -> tuple[int, list[int], list[float]]:
    """Layers, and of each node the length and when it starts: all at once, in turn, or anyhow."""
    layers = draw(st.sampled_from([3, 8, 12, 30]))
    lengths = draw(st.permutations(lengths_of(draw, layers)))
    apart_s = draw(st.sampled_from([0.0, 0.3, 2.0, 40.0]))
    return layers, list(lengths), [apart_s * at + draw(st.floats(0, 1)) for at in range(len(lengths))]


@settings(max_examples=20)
@given(starts(), st.integers(0, 1 << 30), st.sampled_from([0.05, 0.25, 0.9]), st.sampled_from([0.0, 0.3]))
def test_whatever_order_they_start_in_all_layers_are_served(
    town: tuple[int, list[int], list[float]], seed: int, delay_s: float, deaf: float
) -> None:
    layers, lengths, at_s = town
    swarm = Town(layers, seed, delay_s, deaf)
    swarm.start(lengths, at_s)
    swarm.run(max(at_s) + QUARTER_S)
    assert swarm.holes == []
    assert swarm.lost == []
    moved = swarm.moves
    swarm.run(max(at_s) + 3 * QUARTER_S)
    assert swarm.holes == []
    assert swarm.moves <= moved + len(lengths)  # none chase each other


@st.composite
def standing(draw: st.DrawFn) -> tuple[int, list[Span]]:
    layers = draw(st.sampled_from([3, 8, 12, 30]))
    lengths = lengths_of(draw, layers)
    firsts = [draw(st.integers(0, layers - min(length, layers))) for length in lengths]
    return layers, [Span(first, first + length) for first, length in zip(firsts, lengths, strict=True)]


@settings(max_examples=20)
@given(standing(), st.integers(0, 1 << 30))
def test_from_wherever_they_stand_they_close_all_holes(town: tuple[int, list[Span]], seed: int) -> None:
    layers, spans = town
    swarm = Town(layers, seed)
    for span in spans:
        swarm.settle(span)
    swarm.run(HOUR_S)
    assert swarm.holes == []
    assert swarm.lost == []


@pytest.mark.parametrize("spans", [[(11, 21), (0, 10), (20, 30)], [(0, 10), (7, 17), (18, 28)]])
@pytest.mark.parametrize("seed", range(5))
def test_holes_that_stood_for_good_close_within_a_minute(spans: list[tuple[int, int]], seed: int) -> None:
    swarm = Town(LAYERS, seed)
    for span in spans:
        swarm.settle(Span(*span))
    swarm.run(60.0)
    assert swarm.holes == []


@pytest.mark.parametrize("seed", range(10))
def test_a_node_that_leaves_is_replaced_by_one_that_others_can_spare(seed: int) -> None:
    swarm = Town(LAYERS, seed)
    for span in [(0, 10), (0, 10), (10, 20), (15, 25)]:
        swarm.settle(Span(*span))
    gone = swarm.settle(Span(20, 30))
    swarm.run(5.0)
    swarm.leave(gone)
    swarm.run(120.0)
    assert swarm.holes == []
    assert swarm.lost == []


@pytest.mark.parametrize("seed", range(5))
def test_nodes_whose_owners_named_their_layers_are_gone_round(seed: int) -> None:
    swarm = Town(LAYERS, seed)
    swarm.settle(Span(5, 15), moves_never=True)
    for span in [(5, 12), (13, 23), (20, 27)]:
        swarm.settle(Span(*span))
    swarm.run(HOUR_S)
    assert swarm.holes == []


@pytest.mark.parametrize("length", [1, 4, 10])
def test_a_hundred_nodes_that_start_together_spread(length: int) -> None:
    swarm = Town(LAYERS, length)
    draw = random.Random(length)
    swarm.start([length] * 100, [draw.random() for _ in range(100)])
    swarm.run(10.0)
    assert swarm.holes == []
    assert max(Counter(citizen.held for citizen in swarm.citizens).values()) <= 20
    swarm.run(120.0)
    assert swarm.moves < 10


@pytest.mark.parametrize("seed", range(5))
def test_a_hundred_nodes_of_all_sizes_cover_the_model_within_seconds(seed: int) -> None:
    draw = random.Random(seed)
    swarm = Town(LAYERS, seed)
    swarm.start([draw.randint(1, 15) for _ in range(100)], [draw.random() for _ in range(100)])
    swarm.run(10.0)
    assert swarm.holes == []
