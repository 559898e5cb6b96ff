"""Counting, prices and the shared window: laws and tables."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pinfer.core.budget import Budget, History, Risk
from p2pinfer.core.codes import Code
from p2pinfer.core.counting import Work
from p2pinfer.core.errors import Refused
from p2pinfer.core.pricing import Prices, Usage, amount_of
from p2pinfer.core.units import PeerKey, RecordId

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
    with pytest.raises(ValueError, match="cached"):
        Work(10, 512, False).usage(575, cached=513)


def test_nothing_is_charged_before_the_start() -> None:
    with pytest.raises(ValueError, match="cached of -1"):
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


@pytest.mark.parametrize(
    ("layers", "prompt", "start", "seam"),
    [(0, 1, 0, 0), (1, 0, 0, 0), (1, 1, -1, 0), (1, 5, 0, 4), (1, 5, 5, 0), (1, 5, 6, 5)],
)
def test_work_that_cannot_be_asked_for_cannot_be_counted(layers: int, prompt: int, start: int, seam: int) -> None:
    with pytest.raises(ValueError, match=r"work|seam|start"):
        Work(layers, prompt, False, start, seam)


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


# The shared window

A, B, C = (PeerKey(bytes([n]) * 32) for n in range(3))
STRANGER, KNOWN = History(), History(clean=2)


def contract(number: int) -> RecordId:
    return RecordId(number.to_bytes(32, "big"))


def budget() -> Budget:
    return Budget(Risk(base=100, cap=250, strangers=150))


def taken(risk: Budget, number: int, client: PeerKey, window: int, history: History) -> Code:
    try:
        risk.take(contract(number), client, window, history)
    except Refused as error:
        return error.code
    return Code.NONE


def test_contracts_of_one_client_share_its_window() -> None:
    risk = budget()
    assert taken(risk, 1, A, 60, STRANGER) is Code.NONE
    assert taken(risk, 2, A, 41, STRANGER) is Code.WINDOW_FULL
    assert taken(risk, 3, A, 40, STRANGER) is Code.NONE


def test_a_window_comes_back_with_its_contract() -> None:
    risk = budget()
    taken(risk, 1, A, 100, STRANGER)
    risk.give_back(contract(1))
    risk.give_back(contract(1))
    assert taken(risk, 2, A, 100, STRANGER) is Code.NONE


def test_strangers_share_one_budget() -> None:
    """RCT-27"""
    risk = budget()
    assert taken(risk, 1, A, 100, STRANGER) is Code.NONE
    assert taken(risk, 2, B, 51, STRANGER) is Code.WINDOW_FULL
    assert taken(risk, 3, C, 50, STRANGER) is Code.NONE


def test_a_client_with_clean_contracts_is_no_stranger() -> None:
    risk = budget()
    taken(risk, 1, A, 100, STRANGER)
    assert taken(risk, 2, B, 100, KNOWN) is Code.NONE


@pytest.mark.parametrize(("clean", "limit"), [(0, 100), (1, 200), (2, 250), (99, 250)])
def test_a_window_grows_with_clean_contracts_up_to_the_cap(clean: int, limit: int) -> None:
    assert budget().limit(History(clean)) == limit


def test_a_client_with_lapsed_receipts_is_refused() -> None:
    assert taken(budget(), 1, A, 1, History(clean=9, lapsed=1)) is Code.LAPSED


def test_a_contract_takes_its_window_once() -> None:
    risk = budget()
    taken(risk, 1, A, 10, STRANGER)
    assert taken(risk, 1, A, 10, STRANGER) is Code.BAD_STATE


def test_a_contract_that_is_over_keeps_what_is_unpaid() -> None:
    risk = budget()
    taken(risk, 1, A, 100, STRANGER)
    risk.keep(contract(1), 30)
    assert (risk.room(A, STRANGER), risk.room(B, STRANGER)) == (70, 100)
    risk.keep(contract(1), 0)
    assert risk.room(A, STRANGER) == 100


def test_a_contract_that_takes_nothing_keeps_nothing() -> None:
    risk = budget()
    risk.keep(contract(1), 30)
    assert risk.room(A, STRANGER) == 100


def test_what_an_earlier_process_left_unpaid_counts_whatever_the_limit() -> None:
    risk = budget()
    risk.recall(contract(1), A, 120, STRANGER)
    assert (risk.room(A, STRANGER), risk.room(B, STRANGER)) == (0, 30)


@pytest.mark.parametrize("values", [(0, 1, 1), (2, 1, 2), (2, 2, 1)])
def test_a_risk_that_admits_nobody_cannot_be_set(values: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="needs"):
        Risk(*values)
