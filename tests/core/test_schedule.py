"""What the next batch is made of."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pinfer.core.pages import PAGE
from p2pinfer.core.schedule import ALONE_S, FIRST_CHUNK, GROUPS, MAX_BATCH, SHARED_S, Speed, Waiting, next_batch

MEASURED = Speed(batch_s=0.01, position_s=0.0005)  # 480 positions alone, 80 beside a decode


def prefill(slot: int, positions: int, served: int = 0) -> Waiting:
    return Waiting(slot, positions, False, served)


def decode(slot: int, served: int = 0) -> Waiting:
    return Waiting(slot, 1, True, served)


def test_nothing_waits_and_nothing_runs() -> None:
    assert next_batch([], MEASURED, 0) == []


def test_a_session_with_nothing_ready_is_left_out() -> None:
    assert next_batch([prefill(1, 0), decode(2)], MEASURED, 0) == [(2, 1)]


def test_decode_steps_come_first_and_all_together() -> None:
    assert next_batch([prefill(1, 10), decode(2), decode(3)], MEASURED, 1) == [(2, 1), (3, 1), (1, 10)]


def test_prefill_alone_takes_a_quarter_of_a_second() -> None:
    [(slot, count)] = next_batch([prefill(1, 10_000)], MEASURED, 0)
    assert (slot, count) == (1, 480)


def test_prefill_beside_a_decode_step_takes_a_twentieth_of_a_second() -> None:
    assert next_batch([prefill(1, 10_000), decode(2)], MEASURED, 0) == [(2, 1), (1, 79)]


def test_prefill_is_short_while_somebody_decodes_who_does_not_wait_just_now() -> None:
    assert next_batch([prefill(1, 10_000)], MEASURED, 1) == [(1, 80)]


def test_an_unmeasured_engine_gets_a_small_chunk() -> None:
    assert next_batch([prefill(1, 10_000)], Speed(), 0) == [(1, FIRST_CHUNK)]


def test_a_slow_engine_still_gets_a_page() -> None:
    assert next_batch([prefill(1, 10_000)], Speed(1.0, 1.0), 1) == [(1, PAGE)]


def test_prefills_share_a_chunk_equally() -> None:
    assert next_batch([prefill(1, 1000), prefill(2, 1000), prefill(3, 1000)], MEASURED, 1) == [
        (1, 26),
        (2, 27),
        (3, 27),
    ]


def test_what_a_short_prompt_leaves_goes_to_the_others() -> None:
    assert next_batch([prefill(1, 5), prefill(2, 1000)], MEASURED, 1) == [(1, 5), (2, 75)]


def test_who_was_served_longest_ago_goes_first_when_there_is_no_room_for_all() -> None:
    slow = Speed(0.01, 0.002)  # 20 positions
    assert next_batch([prefill(1, 99, served=7), prefill(2, 99, served=6)], slow, 1) == [(2, 16), (1, 4)]


def test_more_decode_steps_than_a_batch_takes_wait_for_the_next() -> None:
    waiting = [decode(slot, served=slot % 2) for slot in range(MAX_BATCH + 10)]
    batch = next_batch(waiting, MEASURED, 1)
    assert len(batch) == MAX_BATCH
    assert sum(slot % 2 == 0 for slot, _ in batch) == (MAX_BATCH + 10) // 2


def test_of_sessions_that_go_around_a_ring_half_are_computed_at_once() -> None:
    waiting = [decode(slot, served=slot) for slot in range(5)]
    assert next_batch(waiting, MEASURED, 8, GROUPS) == [(0, 1), (1, 1), (2, 1), (3, 1)]
    assert next_batch(waiting[4:], MEASURED, 8, GROUPS) == [(4, 1)]
    assert next_batch(waiting[:2], MEASURED, 3, GROUPS) == [(0, 1), (1, 1)]
    assert next_batch(waiting[:2], MEASURED, 2, GROUPS) == [(0, 1)]


def test_small_batches_teach_the_fixed_time_and_large_ones_the_time_of_a_position() -> None:
    speed = Speed().observe(1, 0.02).observe(200, 0.12)
    assert speed == Speed(pytest.approx(0.02), pytest.approx(0.0005))


def test_a_measurement_changes_the_mean_by_a_quarter() -> None:
    assert Speed(0.02, 0.0).observe(1, 0.04).batch_s == pytest.approx(0.025)


def test_batches_between_small_and_large_teach_nothing() -> None:
    assert MEASURED.observe(20, 5.0) is MEASURED


def test_a_fast_batch_after_a_slow_fixed_time_leaves_a_positive_time_per_position() -> None:
    assert Speed(1.0, 0.0).observe(100, 0.1).position_s == pytest.approx(0.0001)


@given(
    st.lists(st.tuples(st.integers(0, 3000), st.booleans(), st.integers(0, 5)), max_size=40),
    st.floats(0, 1),
    st.floats(0.0001, 0.1),
    st.integers(0, 40),
    st.integers(1, 3),
)
def test_a_batch_takes_nothing_that_is_not_ready_and_always_moves(
    raw: list[tuple[int, bool, int]], batch_s: float, position_s: float, decoding: int, groups: int
) -> None:
    waiting = [
        Waiting(slot, min(count, 1) if decode else count, decode, served)
        for slot, (count, decode, served) in enumerate(raw)
    ]
    speed = Speed(batch_s, position_s)
    batch = next_batch(waiting, speed, decoding, groups)
    ready = {one.slot: one.positions for one in waiting}
    assert all(0 < count <= ready[slot] for slot, count in batch)
    assert len({slot for slot, _ in batch}) == len(batch)
    assert bool(batch) == any(ready.values())
    prefills = sum(count for slot, count in batch if not waiting[slot].decode)
    limit_s = SHARED_S if decoding or any(waiting[slot].decode for slot, _ in batch) else ALONE_S
    assert prefills <= max(PAGE, (limit_s - batch_s) / position_s)
