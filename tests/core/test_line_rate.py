"""What a machine's line is taken to carry."""

import pytest

from p2pinfer.core.wire.line_rate import GROWTH, LATE_S, SHRINK_S, SHRINKING, TOGETHER_S, LineRate

LEAST = 100_000.0
PART = 16_384


def grown(seconds: float, *, waited: bool = True) -> LineRate:
    """Parts follow each other at the rate."""
    rate, now = LineRate(LEAST), 0.0
    while now < seconds:
        now += PART / rate.rate
        rate.note_in_time(PART, now, waited=waited)
    return rate


def test_it_grows_while_parts_wait_and_come_in_time() -> None:
    assert grown(10).rate == pytest.approx(LEAST * (1 + GROWTH) ** 10, rel=0.2)


def test_it_does_not_grow_where_it_is_not_tried() -> None:
    assert grown(10, waited=False).rate == LEAST


def test_it_grows_with_time_however_many_parts_are_said_to_have_come() -> None:
    rate = LineRate(LEAST)
    for number in range(10_000):
        rate.note_in_time(PART, number / 1_000, waited=True)
    assert rate.rate < LEAST * 4


def test_a_lull_does_not_count() -> None:
    rate = LineRate(LEAST)
    rate.note_in_time(PART, 0.0, waited=True)
    before = rate.rate
    rate.note_in_time(PART, 3_600.0, waited=True)
    assert rate.rate <= before * (1 + GROWTH * PART / LEAST)


def test_parts_of_two_networks_that_are_late_together_show_that_the_line_is_slower() -> None:
    rate = grown(10)
    before = rate.rate
    rate.note_late("a", 11.0)
    rate.note_late("a", 11.1)
    rate.note_late("b", 11.1 + TOGETHER_S + 0.1)
    assert rate.rate == before
    rate.note_late("a", 12.5)
    assert rate.rate == SHRINKING * before


def test_what_is_late_for_one_reason_counts_once() -> None:
    rate = grown(20)
    before = rate.rate
    for moment in (21.0, 21.0 + SHRINK_S - 0.1):
        rate.shrink(moment)
    assert rate.rate == SHRINKING * before
    rate.shrink(21.0 + SHRINK_S)
    assert rate.rate == SHRINKING * SHRINKING * before


def test_it_does_not_fall_below_the_least() -> None:
    rate = grown(1)
    for second in range(100):
        rate.shrink(float(second))
    assert rate.rate == LEAST


def test_what_is_late_follows_from_the_time_of_a_part() -> None:
    rate = LineRate(LEAST)
    assert not rate.is_late(PART / LEAST / 2 + LATE_S, PART)
    assert rate.is_late(PART / LEAST / 2 + LATE_S + 0.001, PART)
