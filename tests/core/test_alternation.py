"""Several groups in turn."""

from p2pinfer.core.values.alternation import in_turn


def test_each_group_has_its_turns_until_it_has_no_more() -> None:
    assert list(in_turn([[1, 2, 3], [4], [], (5, 6)])) == [1, 4, 5, 2, 6, 3]
    assert list(in_turn([])) == []
