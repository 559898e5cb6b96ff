"""Counting and prices: laws and tables."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pinfer.core.records.counting import Work
from p2pinfer.core.records.pricing import Prices, Usage, amount_of

POSITIONS = st.integers(0, 1000)  # beyond the start
DELIVERED = st.integers(0, 200)  # ids, before a session is continued


@st.composite
def works(draw: st.DrawFn) -> Work:
    """First sessions, and those that continue one."""
    prompt, delivered = draw(st.integers(1, 500)), draw(DELIVERED)
    seam = prompt + delivered - 1 if delivered else 0
    start = draw(st.integers(0, max(seam, prompt - 1)))
    return Work(draw(st.integers(1, 80)), prompt, draw(st.booleans()), start, seam)


WORK = works()


@pytest.mark.parametrize(
    ("work", "committed", "usage"),
    [
        (Work(10, 512, False), 575, Usage(5_120, 630, 0, 0)),
        (Work(10, 512, True), 575, Usage(5_120, 630, 0, 64)),
        (Work(10, 512, True), 511, Usage(5_110, 0, 0, 0)),
        (Work(10, 512, True), 512, Usage(5_120, 0, 0, 1)),
        (Work(10, 512, False), 0, Usage(0, 0, 0, 0)),
        (Work(10, 512, False, 0, 540), 575, Usage(5_400, 350, 0, 0)),
        (Work(10, 512, True, 0, 540), 575, Usage(5_400, 350, 0, 35)),
        (Work(10, 512, True, 512, 540), 575, Usage(280, 350, 0, 35)),
        (Work(10, 512, True, 540, 540), 540, Usage(0, 0, 0, 0)),
        (Work(10, 512, True, 384, 0), 575, Usage(1_280, 630, 0, 64)),
        (Work(1, 1, True), 1, Usage(1, 0, 0, 1)),
    ],
)
def test_usage_follows_from_contract_and_positions(work: Work, committed: int, usage: Usage) -> None:
    assert work.usage(committed) == usage


def test_cached_positions_are_not_prefill() -> None:
    assert Work(10, 512, False).usage(575, cached=500) == Usage(120, 630, 5_000, 0)


def test_more_cannot_be_cached_than_was_fed() -> None:
    with pytest.raises(ValueError, match=r"Usage\.prefill"):
        Work(10, 512, False).usage(575, cached=513)


def test_nothing_is_charged_before_the_start() -> None:
    with pytest.raises(ValueError, match=r"Usage\.prefill"):
        Work(10, 512, False, 384).usage(383)


@given(WORK, POSITIONS)
def test_positions_follow_from_usage(work: Work, more: int) -> None:
    assert work.committed(work.usage(work.start + more)) == work.start + more


@given(WORK, POSITIONS)
def test_usage_never_shrinks(work: Work, more: int) -> None:
    assert work.usage(work.start + more) <= work.usage(work.start + more + 1)


@given(st.integers(1, 500), st.integers(1, 200), st.integers(0, 400))
def test_two_tails_are_paid_for_every_id_once(prompt: int, delivered: int, more: int) -> None:
    seam = prompt + delivered - 1
    end = seam + 1 + more
    earlier, later = Work(1, prompt, True).usage(seam), Work(1, prompt, True, seam=seam).usage(end)
    assert earlier.sampled + later.sampled == Work(1, prompt, True).usage(end).sampled


@given(WORK, POSITIONS)
def test_a_tail_is_paid_for_as_many_ids_as_its_tree_has(work: Work, more: int) -> None:
    committed = work.start + more
    assert work.usage(committed).sampled == (max(0, committed + 1 - work.first_out) if work.tail else 0)


@pytest.mark.parametrize(
    "usage", [Usage(11, 0, 0, 0), Usage(5, 0, 5, 0), Usage(5_120, 10, 0, 1), Usage(5_110, 20, 0, 2)]
)
def test_a_usage_that_the_work_never_comes_to_is_refused(usage: Usage) -> None:
    with pytest.raises(ValueError, match="is not what"):
        Work(10, 512, True).committed(usage)


@pytest.mark.parametrize(("prompt", "start", "seam"), [(0, 0, 0), (5, 0, 4), (5, 5, 0), (5, 6, 5)])
def test_work_that_cannot_be_asked_for_cannot_be_counted(prompt: int, start: int, seam: int) -> None:
    with pytest.raises(ValueError, match=r"prompt|seam|start"):
        Work(1, prompt, False, start, seam)


# Prices


@pytest.mark.parametrize(
    ("usage", "amount"),
    [
        (Usage(5_120, 630, 0, 0), 153),
        (Usage(5_120, 630, 0, 64), 194),
        (Usage(0, 0, 0, 0), 0),
        (Usage(1, 0, 0, 0), 1),
        (Usage(50, 0, 0, 0), 1),
        (Usage(51, 0, 0, 0), 2),
    ],
)
def test_an_amount_is_rounded_up_once_on_the_total(usage: Usage, amount: int) -> None:
    assert amount_of(Prices(20_000, 80_000, 2_000, 640_000), 0, usage) == amount


def test_the_flat_price_comes_on_top() -> None:
    assert amount_of(Prices(20_000, 0, 0, 0), 7, Usage(51, 0, 0, 0)) == 9


def test_the_largest_sum_stays_below_2_to_the_63() -> None:
    price, usage = (1 << 32) - 1, (1 << 28) - 1
    assert amount_of(Prices(*[price] * 4), 0, Usage(*[usage] * 4)) * 1_000_000 < 1 << 63


@given(WORK, POSITIONS, st.integers(0, 500))
def test_a_cache_only_lowers_the_bill(work: Work, more: int, cached: int) -> None:
    prices, committed = Prices(20_000, 80_000, 2_000, 640_000), work.start + more
    cached = min(cached, more, max(work.prompt, work.seam) - work.start)
    assert amount_of(prices, 0, work.usage(committed, cached)) <= amount_of(prices, 0, work.usage(committed))
