"""Placement: the swarm covers the model, whoever starts when."""

import random

import pytest

from p2pinfer.core.swarm.placement import (
    JOIN_WAIT_S,
    OfferedSpan,
    choose_span,
    gaps,
    longest_span,
    reconsider_span,
    served_rates,
)
from p2pinfer.core.values.units import Span

LAYERS = 30


def test_a_model_that_fits_is_taken_whole() -> None:
    assert choose_span(LAYERS, LAYERS, [OfferedSpan(Span(0, 30), 100.0)], 0.7) == Span(0, 30)


def test_the_only_gap_is_filled() -> None:
    served = [OfferedSpan(Span(0, 10), 50.0), OfferedSpan(Span(20, 30), 50.0)]
    draws = [choose_span(LAYERS, 10, served, at / 100) for at in range(100)]
    assert draws.count(Span(10, 20)) > 80


def test_a_node_whose_span_leaves_no_gap_stays() -> None:
    mine, served = Span(5, 15), [OfferedSpan(Span(0, 10), 9.0), OfferedSpan(Span(10, 30), 1.0)]
    assert {reconsider_span(LAYERS, mine, served, at / 100) for at in range(100)} == {mine}


def test_a_node_that_is_not_needed_where_it_is_moves_to_a_gap() -> None:
    mine, served = Span(0, 10), [OfferedSpan(Span(0, 20), 9.0)]
    draws = [reconsider_span(LAYERS, mine, served, at / 100) for at in range(100)]
    assert draws.count(Span(20, 30)) > 80


def test_weak_layers_are_drawn_more_often_than_strong_ones() -> None:
    served = [OfferedSpan(Span(0, 10), 100.0), OfferedSpan(Span(10, 20), 100.0), OfferedSpan(Span(20, 30), 10.0)]
    draws = [choose_span(LAYERS, 10, served, at / 1000).first for at in range(1000)]
    assert draws.count(20) > 3 * draws.count(0) > 0


@pytest.mark.parametrize("length", [0, 31])
def test_an_impossible_length_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match=f"{length} layers of 30"):
        choose_span(LAYERS, length, [], 0.5)


def test_weights_take_seven_tenths_of_the_memory() -> None:
    assert longest_span([100] * 30, 0, 1000) == 7
    assert longest_span([100] * 30, 200, 1000) == 5
    assert longest_span([100] * 4, 0, 10_000) == 4
    assert longest_span([100] * 4, 0, 100) == 0


def test_rates_add_up_layer_by_layer() -> None:
    rates = served_rates(4, [OfferedSpan(Span(0, 2), 5.0), OfferedSpan(Span(1, 3), 2.0)])
    assert [round(rate) for rate in rates] == [5, 7, 2, 0]


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        ([], [Span(0, 30)]),
        ([Span(0, 30)], []),
        ([Span(5, 10), Span(8, 20)], [Span(0, 5), Span(20, 30)]),
        ([Span(0, 10), Span(12, 30)], [Span(10, 12)]),
    ],
)
def test_gaps_are_what_nobody_covers(spans: list[Span], expected: list[Span]) -> None:
    assert gaps(LAYERS, spans) == expected


def start_together(count: int, length: int, seed: int) -> list[Span]:
    """Nodes that start within a second: each announces a first choice, waits at random, decides once more.

    An announcement takes up to a quarter of a second to reach the others.
    """
    draw = random.Random(seed)
    announced: dict[int, list[tuple[float, Span]]] = {node: [] for node in range(count)}

    def heard(node: int, now: float) -> list[OfferedSpan]:
        spans = []
        for other, claims in announced.items():
            known = [span for at, span in claims if at <= now]
            if other != node and known:
                spans.append(OfferedSpan(known[-1], 20.0))
        return spans

    decisions = []
    for node in range(count):
        start = draw.random()
        decisions += [(start, node), (start + draw.random() * JOIN_WAIT_S, node)]
    for now, node in sorted(decisions):
        said = announced[node]
        if said:
            span = reconsider_span(LAYERS, said[-1][1], heard(node, now), draw.random())
        else:
            span = choose_span(LAYERS, length, heard(node, now), draw.random())
        said.append((now + draw.random() * 0.25, span))
    return [claims[-1][1] for claims in announced.values()]


@pytest.mark.parametrize("seed", range(50))
def test_twenty_nodes_that_start_within_a_second_cover_the_model(seed: int) -> None:
    assert gaps(LAYERS, start_together(20, 10, seed)) == []


@pytest.mark.parametrize("seed", range(20))
def test_twenty_small_nodes_that_start_within_a_second_cover_the_model(seed: int) -> None:
    assert gaps(LAYERS, start_together(20, 4, seed)) == []
