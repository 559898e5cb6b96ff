"""What was measured of nodes: bad news count at once, fade, and stick to whoever they are about."""

import pytest

from p2pinfer.core.routes.measures import HALF_S, MAX_MEASURED, UNMEASURED_RTT_S, UNMEASURED_UPLINK, Lag, Measures, Who
from p2pinfer.core.values.units import OwnerKey, PeerKey

CRAWLING = Lag(4.0, 0.5)


def who(number: int, owner: int | None = None) -> Who:
    key = (number if owner is None else owner).to_bytes(32, "big")
    return Who(PeerKey(number.to_bytes(32, "big")), OwnerKey(key))


LIAR, GOOD, OTHER = who(1), who(2), who(3)


def test_a_node_that_crawled_is_known_for_it_after_one_answer() -> None:
    measures = Measures()
    measures.note_answer([LIAR], CRAWLING, 0.0)
    assert measures.of(LIAR, 0.0) == CRAWLING
    assert measures.of(GOOD, 0.0) == Lag()


def test_it_fades() -> None:
    measures = Measures()
    measures.note_answer([LIAR], CRAWLING, 0.0)
    assert measures.of(LIAR, HALF_S) == Lag(2.0, 0.25)
    assert measures.of(LIAR, 20 * HALF_S).late_s < 1e-4


def test_good_turns_pay_for_half_of_the_bad_ones() -> None:
    measures = Measures()
    for turn in range(20):
        measures.note_answer([LIAR], CRAWLING if turn % 2 == 0 else Lag(), 0.0)
    assert measures.of(LIAR, 0.0) == Lag(2.0, 0.25)


def test_an_owners_other_nodes_are_taken_to_be_the_same_until_they_are_measured() -> None:
    measures = Measures()
    twin = who(4, owner=1)
    measures.note_answer([LIAR], CRAWLING, 0.0)
    assert measures.of(twin, 0.0) == CRAWLING
    measures.note_answer([twin], Lag(), 0.0)
    assert measures.of(twin, 0.0) == Lag()
    assert measures.of(LIAR, 0.0) == CRAWLING


def test_of_a_slow_route_each_stage_is_blamed_for_its_part() -> None:
    measures = Measures()
    measures.note_answer([LIAR, GOOD], CRAWLING, 0.0)
    assert measures.of(LIAR, 0.0) == measures.of(GOOD, 0.0) == Lag(2.0, 0.25)


def test_one_that_was_slow_elsewhere_is_blamed_and_its_fellows_are_not() -> None:
    measures = Measures()
    measures.note_answer([LIAR], CRAWLING, 0.0)
    measures.note_answer([LIAR, GOOD], CRAWLING, 0.0)
    assert measures.of(GOOD, 0.0) == Lag()
    assert measures.of(LIAR, 0.0) == CRAWLING


def test_a_liar_who_sits_in_many_routes_is_found_and_does_not_drag_the_others_down() -> None:
    measures = Measures()
    for _ in range(10):
        measures.note_answer([LIAR, GOOD], CRAWLING, 0.0)
        measures.note_answer([OTHER, GOOD], Lag(), 0.0)
    assert measures.of(GOOD, 0.0).late_s < 0.1 * CRAWLING.late_s
    assert measures.of(LIAR, 0.0).late_s > 0.9 * CRAWLING.late_s
    assert measures.of(OTHER, 0.0).late_s == 0


def test_a_node_that_was_never_met_is_taken_to_be_as_far_as_most() -> None:
    measures = Measures()
    assert measures.usual_round_trip_s(0.0) == measures.round_trip_s(LIAR.node, 0.0) == UNMEASURED_RTT_S
    for number, rtt_s in enumerate([0.010, 0.020, 0.400]):
        measures.note_round_trip(who(number).node, rtt_s, 0.0)
    assert measures.usual_round_trip_s(0.0) == measures.round_trip_s(LIAR.node, 0.0) == 0.020
    assert measures.round_trip_s(who(2).node, 0.0) == 0.400


def test_a_round_trip_says_less_and_less_of_its_node_and_at_last_nothing_of_others() -> None:
    measures = Measures()
    measures.note_round_trip(LIAR.node, 0.800, 0.0)
    for number in (10, 11):
        measures.note_round_trip(who(number).node, 0.100, HALF_S)
    told = [measures.round_trip_s(LIAR.node, at * HALF_S) for at in range(1, 10)]
    assert told[0] == pytest.approx(0.100 + 0.700 / 2)
    assert told == sorted(told, reverse=True)
    assert told[-1] == pytest.approx(0.100, abs=0.002)
    assert measures.usual_round_trip_s(12 * HALF_S) == UNMEASURED_RTT_S


def test_the_bytes_that_came_are_remembered() -> None:
    measures = Measures()
    measures.note_rate(LIAR.node, 6_250.0, 0.0)
    assert (measures.rate(LIAR.node, 0.0), measures.rate(GOOD.node, 0.0)) == (6_250.0, None)


def test_they_say_less_and_less() -> None:
    measures = Measures()
    measures.note_rate(LIAR.node, 6_250.0, 0.0)
    assert measures.rate(LIAR.node, HALF_S) == 12_500.0
    assert measures.rate(LIAR.node, 11 * HALF_S) is None
    assert measures.rate(LIAR.node, 1e9) is None


def test_who_claims_no_uplink_has_a_usual_one_until_it_was_measured() -> None:
    measures, fast, slow, silent = Measures(), who(1).node, who(2).node, who(3).node
    measures.note_rate(fast, 8 * UNMEASURED_UPLINK, 0.0)
    measures.note_rate(slow, UNMEASURED_UPLINK / 8, 0.0)
    measures.note_rate(silent, 0.0, 0.0)  # as a file may say
    assert measures.uplink(fast, 0, 0.0) == 8 * UNMEASURED_UPLINK
    assert measures.uplink(slow, 0, 0.0) == UNMEASURED_UPLINK / 8
    assert measures.uplink(silent, 0, 0.0) == UNMEASURED_UPLINK
    for later in (4 * HALF_S, 9 * HALF_S, 11 * HALF_S, 1e9):
        assert measures.uplink(slow, 0, later) <= UNMEASURED_UPLINK  # by time alone nobody becomes fast
    assert measures.uplink(fast, 0, HALF_S) == 8 * UNMEASURED_UPLINK
    assert measures.uplink(fast, 0, 11 * HALF_S) == UNMEASURED_UPLINK


def test_of_a_claimed_uplink_no_more_counts_than_was_measured() -> None:
    measures, node = Measures(), who(1).node
    assert measures.uplink(node, 5e6, 0.0) == 5e6
    measures.note_rate(node, 1e6, 0.0)
    assert (measures.uplink(node, 5e6, 0.0), measures.uplink(node, 5e5, 0.0)) == (1e6, 5e5)
    assert measures.uplink(node, 5e6, 11 * HALF_S) == 5e6


def test_memory_is_bounded() -> None:
    measures, one = Measures(), who(0)
    measures.note_answer([one], CRAWLING, 0.0)
    measures.note_round_trip(one.node, 1.0, 0.0)
    measures.note_rate(one.node, 1.0, 0.0)
    for other in range(10, 10 + MAX_MEASURED):
        measures.note_answer([who(other)], Lag(), 0.0)
        measures.note_round_trip(who(other).node, 0.02, 0.0)
        measures.note_rate(who(other).node, 1e6, 0.0)
    assert measures.of(one, 0.0) == Lag()
    assert measures.round_trips_s.get(one.node) is measures.rate(one.node, 0.0) is None
