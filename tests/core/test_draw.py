"""The numbers of a draw."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pinfer.core.records.draw import GREEDY, MAX_TEMPERATURE, MILLIONTHS, Purpose, Sampling, uniform


def test_the_number_of_a_draw_is_the_beginning_of_a_hash() -> None:
    assert uniform(7, 512) == 0.731391450277193


def test_seed_position_and_purpose_each_draw_another_number() -> None:
    draws = {uniform(7, 512), uniform(8, 512), uniform(7, 513), uniform(7, 512, Purpose.ACCEPT)}
    assert len(draws) == 4


@given(st.integers(0, 2**53 - 1), st.integers(0, 2**32 - 1), st.sampled_from(Purpose))
def test_a_number_lies_in_the_unit_interval_and_has_53_bits(seed: int, position: int, purpose: Purpose) -> None:
    drawn = uniform(seed, position, purpose)
    assert 0 <= drawn < 1
    assert (drawn * 2**53).is_integer()


def test_parameters_without_values_are_greedy() -> None:
    assert GREEDY.greedy
    assert not Sampling(temperature=1).greedy


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -1},
        {"temperature": MAX_TEMPERATURE + 1},
        {"temperature": True},
        {"top_k": -1},
        {"top_p": 0},
        {"top_p": MILLIONTHS + 1},
        {"seed": 2**53},
    ],
)
def test_parameters_out_of_range_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"Sampling\."):
        Sampling(**wrong)
