"""What the next batch is made of."""

from dataclasses import dataclass
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pinfer.core.sessions.pages import PAGE
from p2pinfer.core.sessions.schedule import (
    ALONE_S,
    FIRST_CHUNK,
    GROUPS,
    MAX_BATCH,
    SHARED_S,
    BatchCost,
    ReadySession,
    next_batch,
)

MEASURED = BatchCost(batch_s=0.005, position_s=0.00025)  # 1000 positions alone, 40 beside a decode


def prefill(slot: int, positions: int, served: int = 0) -> ReadySession:
    return ReadySession(slot, positions, False, served)


def decode(slot: int, served: int = 0) -> ReadySession:
    return ReadySession(slot, 1, True, served)


def test_nothing_waits_and_nothing_runs() -> None:
    assert next_batch([], MEASURED, 0) == []


def test_a_session_with_nothing_ready_is_left_out() -> None:
    assert next_batch([prefill(1, 0), decode(2)], MEASURED, 0) == [(2, 1)]


def test_decode_steps_come_first_and_all_together() -> None:
    assert next_batch([prefill(1, 10), decode(2), decode(3)], MEASURED, 1) == [(2, 1), (3, 1), (1, 10)]


def test_prefill_alone_takes_a_quarter_of_a_second() -> None:
    assert next_batch([prefill(1, 10_000)], MEASURED, 0) == [(1, 1000)]


def test_prefill_beside_a_decode_step_takes_ten_milliseconds() -> None:
    assert next_batch([prefill(1, 10_000), decode(2)], MEASURED, 0) == [(2, 1), (1, 40)]


def test_prefill_is_short_while_somebody_decodes_who_does_not_wait_just_now() -> None:
    assert next_batch([prefill(1, 10_000)], MEASURED, 1) == [(1, 40)]


def test_decode_steps_take_no_room_from_prefill() -> None:
    waiting = [prefill(1, 10_000), *(decode(slot) for slot in range(2, 102))]
    assert next_batch(waiting, MEASURED, 100)[100:] == [(1, 40)]


def test_what_is_computed_while_the_weights_are_read_is_free() -> None:
    slow_memory = BatchCost(batch_s=0.1, position_s=0.001)
    assert next_batch([prefill(1, 10_000), *(decode(slot) for slot in range(2, 22))], slow_memory, 20)[20:] == [(1, 91)]


def test_an_unmeasured_engine_gets_a_small_chunk() -> None:
    assert next_batch([prefill(1, 10_000)], BatchCost(), 0) == [(1, FIRST_CHUNK)]


def test_a_slow_engine_still_gets_a_position() -> None:
    assert next_batch([prefill(1, 10_000)], BatchCost(0.1, 1.0), 1) == [(1, 1)]


def test_prefills_share_a_chunk_equally() -> None:
    assert next_batch([prefill(1, 1000), prefill(2, 1000)], MEASURED, 1) == [(1, 20), (2, 20)]


def test_what_a_short_prompt_leaves_goes_to_the_others() -> None:
    assert next_batch([prefill(1, 5), prefill(2, 1000)], MEASURED, 1) == [(1, 5), (2, 35)]


def test_less_than_a_page_is_no_turn() -> None:
    assert next_batch([prefill(1, 30), prefill(2, 1000, served=1)], MEASURED, 1) == [(1, 20), (2, 20)]
    assert next_batch([prefill(1, 30), prefill(2, 1000, served=1)], BatchCost(0.0, 0.0004), 1) == [(1, 25)]
    assert next_batch([prefill(1, 20), prefill(2, 5, served=1)], BatchCost(0.0, 0.0004), 1) == [(1, 20), (2, 5)]


def test_who_was_served_longest_ago_goes_first_when_there_is_no_room_for_all() -> None:
    slow = BatchCost(0.001, 0.001)  # 10 positions
    assert next_batch([prefill(1, 99, served=7), prefill(2, 99, served=6)], slow, 1) == [(2, 10)]


def test_who_waited_for_prefill_goes_first_and_waits_for_no_more_of_it() -> None:
    waiting = [decode(1), decode(2), ReadySession(3, 1, True, 9, waited=True), prefill(4, 99)]
    assert next_batch(waiting, MEASURED, 3, groups=3) == [(3, 1)]
    assert next_batch(waiting[:2] + waiting[3:], MEASURED, 3, groups=3) == [(1, 1), (4, 40)]


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


def test_small_batches_teach_the_least_time_and_longer_ones_the_time_of_a_position() -> None:
    speed = BatchCost().observe(1, 0.02).observe(200, 0.12)
    assert speed == BatchCost(pytest.approx(0.02), pytest.approx(0.0006))
    assert (speed.duration(0), speed.duration(10), speed.duration(100)) == (0, 0.02, pytest.approx(0.06))


def test_a_measurement_lowers_the_mean_by_a_quarter_and_raises_it_slowly() -> None:
    assert BatchCost(0.02, 0.0).observe(1, 0.028).batch_s == pytest.approx(0.0204)
    assert BatchCost(0.02, 0.0).observe(1, 0.28).batch_s == pytest.approx(0.0205)
    assert BatchCost(0.02, 0.0).observe(1, 0.004).batch_s == pytest.approx(0.016)


def test_batches_that_wait_for_a_core_shrink_no_chunks() -> None:
    speed = BatchCost(0.002, 0.0004)
    for at in range(200):
        speed = speed.observe(25, 0.01 if at % 3 == 2 else 0.05)
    assert speed.position_s < 0.0006


def test_a_machine_that_became_slower_is_noticed_within_a_few_batches() -> None:
    speed = BatchCost(0.002, 0.0004)
    for _ in range(50):
        speed = speed.observe(25, 0.02)
    assert speed.position_s == pytest.approx(0.0008, rel=0.1)


def test_a_batch_of_the_least_time_says_what_a_position_costs_at_most() -> None:
    assert BatchCost(0.02, 0.0).observe(40, 0.02).position_s == pytest.approx(0.0005)
    assert BatchCost(0.02, 0.0005).observe(40, 0.016).position_s == pytest.approx(0.000475)
    assert BatchCost(0.02, 0.0001).observe(40, 0.025) == BatchCost(0.02, 0.0001)


def test_a_fast_batch_after_a_slow_small_one_teaches_the_time_of_a_position() -> None:
    assert BatchCost(1.0, 0.0).observe(100, 0.1).position_s == pytest.approx(0.001)


@given(
    st.floats(0.0005, 0.2),
    st.floats(0.00002, 0.02),
    st.floats(0.1, 10),
    st.floats(0.1, 10),
    st.integers(1, 8),
)
def test_small_mixed_batches_keep_the_speed_right(
    batch_s: float, position_s: float, batch_wrong: float, position_wrong: float, decoding: int
) -> None:
    """There are no others while somebody decodes; what was measured before was of another hour."""
    true, speed = BatchCost(batch_s, position_s), BatchCost(batch_s * batch_wrong, position_s * position_wrong)
    waiting = [*(decode(slot) for slot in range(decoding)), prefill(99, 10_000)]
    for _ in range(200):
        speed = speed.observe(1, true.duration(1))  # a step that had to wait goes without prefill
        positions = sum(count for _, count in next_batch(waiting, speed, decoding))
        speed = speed.observe(positions, true.duration(positions))
    count = next_batch(waiting, speed, decoding)[-1][1]
    longer_s = true.duration(decoding + count) - true.duration(decoding)
    assert count == 1 or longer_s <= max(1.2 * SHARED_S, batch_s)
    assert (count + 2) * position_s >= 0.5 * SHARED_S


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
        ReadySession(slot, min(count, 1) if decode else count, decode, served)
        for slot, (count, decode, served) in enumerate(raw)
    ]
    speed = BatchCost(batch_s, position_s)
    batch = next_batch(waiting, speed, decoding, groups)
    ready = {one.slot: one.positions for one in waiting}
    assert all(0 < count <= ready[slot] for slot, count in batch)
    assert len({slot for slot, _ in batch}) == len(batch)
    assert bool(batch) == any(ready.values())
    prefills = sum(count for slot, count in batch if not waiting[slot].decode)
    limit_s = SHARED_S if decoding or any(one.decode and one.positions for one in waiting) else ALONE_S
    assert prefills <= max(limit_s, 1.1 * batch_s) / position_s + 1


@dataclass
class Load:
    """A session of a simulation. holding: batches with prefill that it has waited for. had: positions in all"""

    decode: bool
    positions: int = 0
    served: int = 0
    waited: bool = False
    holding: int = 0
    had: int = 0


@given(
    st.integers(1, 12),
    st.integers(1, 6),
    st.integers(1, 3),
    st.floats(0.0001, 0.05),
    st.floats(0.1, 1.0),
    st.integers(0, 1 << 32),
)
def test_a_step_waits_for_one_batch_with_prefill_and_no_prompt_starves(
    decoding: int, prompts: int, groups: int, position_s: float, often: float, seed: int
) -> None:
    """Whatever comes while a batch runs, and whoever is left out."""
    speed, chance = BatchCost(5 * position_s, position_s), Random(seed)
    loads = [*(Load(True) for _ in range(decoding)), *(Load(False, 10_000) for _ in range(prompts))]
    without = turns = 0
    for _ in range(60):
        for load in loads[:decoding]:
            if not load.positions and chance.random() < often:
                load.positions, load.holding = 1, 0
        waiting = [ReadySession(at, one.positions, one.decode, one.served, one.waited) for at, one in enumerate(loads)]
        batch = next_batch(waiting, speed, decoding, groups)
        holds = any(not loads[slot].decode for slot, _ in batch)
        without = 0 if holds else without + 1
        assert without <= groups
        for slot, count in batch:
            load = loads[slot]
            if load.decode:
                assert load.holding + holds <= 1
            load.positions -= count
            turns += 1
            load.served, load.waited, load.had = turns, False, load.had + count
        taken = {slot for slot, _ in batch}
        for at, load in enumerate(loads[:decoding]):
            if at not in taken and not load.positions and chance.random() < often:
                load.positions, load.holding = 1, 0
        for load in loads[:decoding]:
            if holds and load.positions:
                load.waited, load.holding = True, load.holding + 1
    shares = [load.had for load in loads[decoding:]]
    assert max(shares) <= 1.5 * min(shares) + 2 * max(speed.chunk(SHARED_S), 6)


@given(st.lists(st.integers(1, 200), min_size=2, max_size=6), st.floats(0.0001, 0.02), st.booleans())
def test_prompts_that_come_in_parts_have_equal_turns(parts: list[int], position_s: float, shared: bool) -> None:
    """A later stage has as much of each prompt as came. A turn that it cannot use is lost, and none is another's."""
    speed = BatchCost(2 * position_s, position_s)
    served, turns = [0] * len(parts), [0] * len(parts)
    for _ in range(20 * len(parts)):
        waiting = [ReadySession(slot, count, False, served[slot]) for slot, count in enumerate(parts)]
        for slot, count in next_batch(waiting, speed, int(shared)):
            turns[slot] += 1
            served[slot] = max(served) + 1
            assert count >= min(PAGE, parts[slot], speed.chunk(SHARED_S))
    assert max(turns) - min(turns) <= 1
