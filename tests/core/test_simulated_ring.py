"""What the scheduler alone makes of a ring: chats beside prompts, and many streams (issue 11's figures, simulated)."""

from collections.abc import Sequence
from itertools import pairwise
from statistics import median

import pytest

from tests.core.simulated_ring import DECODE_S, LEAST_S, Ring

LAN_S, WAN_S = 0.0003, 0.025
PROMPT = 1_500


def beside(chats: int, prompts: int, delay_s: float, last_s: float = 8.0) -> tuple[list[float], float]:
    """Seconds between a chat's ids, sorted, and positions of prompts a second."""
    ring = Ring(3, delay_s)
    streams = [ring.add(10, lasts=True) for _ in range(chats)]
    ring.on_end = lambda: ring.add(PROMPT, lasts=False)
    for _ in range(prompts):
        ring.add(PROMPT, lasts=False)
    ring.run(last_s)
    between = [later - earlier for one in streams for earlier, later in pairwise(one.ids_s[10:])]
    return sorted(between), ring.prefilled / last_s


def at(values: Sequence[float], share: float) -> float:
    return values[int(share * len(values))]


@pytest.mark.parametrize("delay_s", [LAN_S, WAN_S])
@pytest.mark.parametrize("chats", [1, 4, 16])
def test_a_chat_is_little_slower_beside_prompts_and_they_keep_their_goodput(chats: int, delay_s: float) -> None:
    alone, _ = beside(chats, 0, delay_s)
    _, goodput = beside(0, 4, delay_s)
    both, goodput_beside = beside(chats, 4, delay_s)
    assert at(both, 0.5) <= 3 * at(alone, 0.5)
    assert at(both, 0.95) <= 5 * at(alone, 0.95)
    assert goodput_beside >= 0.8 * goodput


@pytest.mark.parametrize("stages", [2, 3])
@pytest.mark.parametrize("streams", [16, 64])
def test_a_ring_of_homes_stays_full(stages: int, streams: int) -> None:
    """25 ms and 10 Mbit/s; every stage computes all streams while these are under way elsewhere."""
    ring = Ring(stages, WAN_S, rate=1_250_000, seed=streams)
    for number in range(streams):
        ring.after(0.02 * number, lambda: ring.add(12, lasts=True))
    ring.run(12.0)
    ids = sum(time_s > 4.0 for one in ring.streams for time_s in one.ids_s)
    floor_s = stages * (WAN_S + max(LEAST_S, streams * DECODE_S))
    assert ids / 8.0 >= 0.9 * streams / floor_s
    slowest, fastest = (pick(len(one.ids_s) for one in ring.streams) for pick in (min, max))
    assert fastest <= 1.5 * slowest
    assert median(len(one.ids_s) for one in ring.streams) >= 0.9 * fastest
