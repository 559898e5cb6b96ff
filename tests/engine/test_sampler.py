"""From logits to an id."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from p2pinfer.core.records.draw import GREEDY, MILLIONTHS, Sampling, uniform
from p2pinfer.engine.backend import Logits
from p2pinfer.engine.sampler import draw_id

logits_of_any_kind = arrays(
    np.float32,
    st.integers(1, 40),
    elements=st.floats(-50, 50, width=32) | st.sampled_from([0.0, -0.0, 1.0, -1.0, 3e38, -3e38]),
)
any_sampling = st.builds(
    Sampling,
    temperature=st.integers(0, 5 * MILLIONTHS),
    top_k=st.integers(0, 50),
    top_p=st.integers(1, MILLIONTHS),
    seed=st.integers(0, 1000),
)


def by_the_letter(logits: Logits, sampling: Sampling, position: int) -> int:
    """The spec, one candidate at a time."""
    order = sorted(range(len(logits)), key=lambda id_: (-float(logits[id_]), id_))
    if sampling.temperature == 0:
        return order[0]
    order = order[: sampling.top_k or len(order)]
    temperature = np.float64(sampling.temperature) / 1_000_000
    weights = [np.exp((np.float64(logits[id_]) - np.float64(logits[order[0]])) / temperature) for id_ in order]
    total = np.float64(0)
    sums = [total := total + weight for weight in weights]
    if sampling.top_p < 1_000_000:
        target = sums[-1] * (sampling.top_p / 1_000_000)
        sums = sums[: next(at for at, value in enumerate(sums) if value >= target) + 1]
    share = uniform(sampling.seed, position) * sums[-1]
    return next((id_ for id_, value in zip(order, sums, strict=False) if value > share), order[len(sums) - 1])


@given(logits_of_any_kind, any_sampling, st.integers(0, 10_000))
def test_an_id_is_drawn_as_the_spec_says(logits: Logits, sampling: Sampling, position: int) -> None:
    assert draw_id(logits, sampling, position) == by_the_letter(logits, sampling, position)


def test_greedy_takes_the_lowest_id_of_equal_logits() -> None:
    assert draw_id(np.array([1, 5, 5, 2], np.float32), GREEDY, 3) == 1


def test_top_k_of_one_is_greedy_at_any_temperature() -> None:
    logits = np.array([1, 5, 5, 2], np.float32)
    assert {draw_id(logits, Sampling(9 * MILLIONTHS, 1, seed=seed), 3) for seed in range(50)} == {1}


def test_a_small_top_p_is_greedy() -> None:
    logits = np.array([1, 2, 5, 2], np.float32)
    assert {draw_id(logits, Sampling(MILLIONTHS, 0, 1, seed), 3) for seed in range(50)} == {2}


def test_top_p_keeps_the_candidate_that_reaches_it() -> None:
    logits = np.log(np.array([0.5, 0.3, 0.2], np.float32))
    kept = {draw_id(logits, Sampling(MILLIONTHS, 0, 600_000, seed), 3) for seed in range(200)}
    assert kept == {0, 1}


def test_plus_and_minus_zero_are_equal() -> None:
    assert draw_id(np.array([-0.0, 0.0], np.float32), Sampling(MILLIONTHS, 1), 3) == 0


def test_draws_follow_the_probabilities() -> None:
    probabilities = np.array([0.1, 0.6, 0.3])
    logits = np.log(probabilities).astype(np.float32)
    drawn = [draw_id(logits, Sampling(MILLIONTHS, seed=5), position) for position in range(4000)]
    np.testing.assert_allclose(np.bincount(drawn) / 4000, probabilities, atol=0.03)


def test_a_temperature_sharpens_or_flattens() -> None:
    logits = np.array([0, 1], np.float32)
    share = [
        np.mean([draw_id(logits, Sampling(heat, seed=5), position) for position in range(2000)])
        for heat in (200_000, MILLIONTHS, 5 * MILLIONTHS)
    ]
    assert share == pytest.approx([1 / (1 + np.exp(-1 / heat)) for heat in (0.2, 1, 5)], abs=0.03)
