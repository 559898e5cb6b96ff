"""How often strangers may have us do something: by network and in all."""

from p2pinfer.core.swarm.allowance import KEPT, Allowance, Rate
from p2pinfer.core.swarm.source import NOWHERE, Scope, Source

ONE, OTHER = Source("one", Scope.PUBLIC), Source("other", Scope.PUBLIC)


def taken(allowance: Allowance, source: Source, now: float) -> int:
    """How often it can be taken now."""
    count = 0
    while allowance.take(source, now):
        count += 1
    return count


def test_a_source_has_its_burst_and_then_so_many_a_second() -> None:
    allowance = Allowance(Rate(5, 2), Rate(100, 50))
    assert taken(allowance, ONE, 0.0) == 5
    assert taken(allowance, ONE, 0.5) == 1
    assert taken(allowance, ONE, 100.0) == 5


def test_one_source_does_not_take_what_is_anothers() -> None:
    allowance = Allowance(Rate(5, 2), Rate(100, 50))
    taken(allowance, ONE, 0.0)
    assert taken(allowance, OTHER, 0.0) == 5


def test_a_part_of_what_all_have_is_kept_for_others() -> None:
    allowance = Allowance(Rate(5, 2), Rate(8, 1))
    assert [allowance.take(NOWHERE, 0.0, kept=6) for _ in range(4)] == [True, True, False, False]
    assert taken(allowance, ONE, 0.0) == 5
    assert not allowance.take(NOWHERE, 5.0, kept=6)
    assert allowance.take(NOWHERE, 6.0, kept=6)


def test_all_sources_together_are_bounded() -> None:
    allowance = Allowance(Rate(5, 2), Rate(12, 3))
    assert sum(taken(allowance, Source(str(number), Scope.PUBLIC), 0.0) for number in range(10)) == 12
    assert taken(allowance, Source("late", Scope.PUBLIC), 1.0) == 3


def test_peers_on_this_machine_share_an_address_and_count_for_the_total_alone() -> None:
    assert taken(Allowance(Rate(5, 2), Rate(100, 50)), NOWHERE, 0.0) == 100


def test_more_is_used_up_at_once_or_nothing() -> None:
    allowance = Allowance(Rate(5, 2), Rate(100, 50))
    assert allowance.take(ONE, 0.0, 4)
    assert not allowance.take(ONE, 0.0, 2)
    assert allowance.take(ONE, 0.0, 1)


def test_more_than_a_burst_is_taken_when_one_is_there_and_missing_afterwards() -> None:
    allowance = Allowance(Rate(5, 2), Rate(100, 50))
    assert allowance.take(ONE, 0.0, 9)
    assert not allowance.take(ONE, 2.0, 1)
    assert allowance.take(ONE, 2.5, 1)


def test_sources_without_end_take_no_memory_without_end() -> None:
    allowance = Allowance(Rate(5, 2), Rate(1e9, 1e9))
    for number in range(3 * KEPT):
        allowance.take(Source(str(number), Scope.PUBLIC), number * 10.0)
    assert len(allowance._sources) <= KEPT
