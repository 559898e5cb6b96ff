"""The owner hears that the clock is wrong when several networks say so, and seldom."""

from p2pinfer.core.swarm.skews import LATELY_S, MAX_VOICES, SEVERAL, Skews

HOUR_S = 3_600.0


def test_a_few_networks_say_nothing_however_many_keys_they_have() -> None:
    skews = Skews()
    for number in range(100):
        assert skews.note(f"203.0.113.{number % (SEVERAL - 1)}", HOUR_S, float(number)) is None


def test_where_most_networks_say_so_the_owner_is_told_once_a_day() -> None:
    skews = Skews()
    told = [skews.note(f"203.0.113.{number % 9}", HOUR_S + number, float(number)) for number in range(100)]
    assert told == [None] * (SEVERAL - 1) + [HOUR_S + 1] + [None] * (100 - SEVERAL)
    again = [skews.note(f"203.0.113.{number}", -HOUR_S, LATELY_S + number) for number in range(9)]
    assert len([one for one in again if one is not None]) == 1


def test_while_as_many_networks_find_the_clock_right_nobody_is_told() -> None:
    skews = Skews()
    for number in range(50):
        assert skews.note(f"198.51.100.{number}", 300.0, 0.0) is None
        assert skews.note(f"203.0.113.{number}", 300.1, 0.0) is None


def test_what_was_said_a_day_ago_counts_no_more() -> None:
    skews = Skews()
    for number in range(9):
        assert skews.note(f"203.0.113.{number}", HOUR_S, number * LATELY_S) is None


def test_of_too_many_networks_the_first_are_forgotten() -> None:
    skews = Skews()
    for number in range(3 * MAX_VOICES):
        skews.note(f"2001:db8:{number:x}::/64", 0.0, 0.0)
    assert len(skews._voices) == MAX_VOICES
