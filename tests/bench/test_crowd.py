"""The simulated crowd is as good a network as the directory needs; its figures are another matter."""

from tests.bench.crowd import measure


def test_a_small_crowd_knows_itself() -> None:
    seen = measure(8, settle_s=20.0, watch_s=10.0)
    assert seen.known == 7
    assert (seen.dead, seen.uncovered) == (0.0, 0)


def test_a_crowd_goes_on_while_nodes_die_without_a_word() -> None:
    seen = measure(12, a_minute=6, settle_s=30.0, watch_s=30.0)
    assert 0.0 < seen.dead < 1.0
    assert seen.degree > 1.0
