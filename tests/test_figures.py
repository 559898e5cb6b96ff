"""What turns measurements into figures; the benches themselves are no tests."""

from dataclasses import replace

import pytest

from tests.bench.figures import Bound, Comparison, Figure, quantile, rate_between, rate_together

FIGURE = Figure("speed", 0.8, Bound.AT_LEAST, 0.8)


@pytest.mark.parametrize(
    ("side", "value", "passes"),
    [
        (Bound.AT_LEAST, 0.8, True),
        (Bound.AT_LEAST, 0.79, False),
        (Bound.BELOW, 0.79, True),
        (Bound.BELOW, 0.8, False),
    ],
)
def test_a_bound_has_a_side(side: Bound, value: float, passes: bool) -> None:
    assert replace(FIGURE, side=side, value=value).passes is passes


def test_the_share_is_of_the_bound() -> None:
    assert replace(FIGURE, value=0.4).share == 0.5


def test_a_ratio_is_of_medians_and_one_slow_run_changes_nothing() -> None:
    assert Comparison([8.0, 8.0, 0.1], [10.0, 10.0, 10.0]).ratio == 0.8


def test_pairs_show_how_far_runs_lie_apart() -> None:
    assert Comparison([8.0, 5.0], [10.0, 10.0]).pairs == [0.8, 0.5]


@pytest.mark.parametrize(("ours", "theirs"), [([], []), ([1.0], []), ([1.0], [1.0, 2.0])])
def test_runs_come_in_pairs(ours: list[float], theirs: list[float]) -> None:
    with pytest.raises(ValueError, match="pairs"):
        Comparison(ours, theirs)


@pytest.mark.parametrize(("share", "value"), [(0.01, 1.0), (0.5, 2.0), (0.51, 3.0), (0.99, 4.0), (1.0, 4.0)])
def test_a_quantile_is_one_of_the_values(share: float, value: float) -> None:
    assert quantile([4.0, 1.0, 3.0, 2.0], share) == value


@pytest.mark.parametrize(("values", "share"), [([], 0.5), ([1.0], 0.0), ([1.0], 1.1)])
def test_a_quantile_needs_values_and_a_share(values: list[float], share: float) -> None:
    with pytest.raises(ValueError, match="quantile"):
        quantile(values, share)


def test_a_rate_counts_what_comes_after_the_first_item() -> None:
    assert rate_between([0.0, 5.0, 6.0, 7.0], 2, 4) == 1.0


@pytest.mark.parametrize(("first", "last"), [(0, 2), (2, 2), (1, 4)])
def test_a_rate_needs_two_items_that_came(first: int, last: int) -> None:
    with pytest.raises(ValueError, match="items"):
        rate_between([0.0, 1.0, 2.0], first, last)


def test_streams_are_counted_while_all_of_them_run() -> None:
    # the second begins later, the first ends earlier: both run from 2 to 4
    assert rate_together([[0.0, 1.0, 2.0, 3.0, 4.0], [2.0, 3.0, 4.0, 5.0]], 1) == 2.0


def test_streams_that_never_run_together_have_no_rate() -> None:
    with pytest.raises(ValueError, match="together"):
        rate_together([[0.0, 1.0], [2.0, 3.0]], 1)
