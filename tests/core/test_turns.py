"""Whose turn it is of those who wait."""

from p2pinfer.core.swarm.turns import KEPT, Turns


def test_each_network_has_a_turn_before_any_has_two() -> None:
    waiting = [("a", 1), ("a", 2), ("b", 3), ("a", 4), ("b", 5), ("c", 6)]
    assert Turns().take(waiting, 9) == [1, 3, 6, 2, 5, 4]


def test_whose_last_turn_was_longest_ago_comes_first() -> None:
    turns = Turns()
    assert turns.take([("a", 1), ("b", 2)], 1) == [1]
    assert turns.take([("a", 1), ("b", 2)], 1) == [2]
    assert turns.take([("a", 1), ("b", 2)], 1) == [1]
    assert turns.take([("a", 1), ("b", 2), ("new", 3)], 2) == [3, 2]


def test_networks_without_end_take_no_memory_without_end() -> None:
    turns = Turns()
    for number in range(2 * KEPT):
        turns.take([(str(number), number)], 1)
    assert len(turns._last) == KEPT
