"""How much may be under way on a link, from what the peer acknowledged (protocols/wire.md, 5)."""

import pytest

from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import RemoteProtocolError
from p2pinfer.core.wire.pace import ACK_BYTES, LONGEST_FRAME, MIN_FRAME, MIN_WINDOW, Pace

HOME_UPLINK = 1_250_000  # bytes a second: 10 Mbit/s


def paced(rate: int, rtt_s: float, *, acks: int = 50) -> Pace:
    """A link that was kept busy at `rate` for a while."""
    pace = Pace()
    pace.add_round_trip(rtt_s)
    pace.add_sent(rate * 10)
    for number in range(acks):
        at_us = number * 25_000
        pace.add_ack(rate * at_us // 1_000_000, at_us)
    return pace


def test_an_unmeasured_link_starts_with_the_least_window() -> None:
    assert Pace().window == MIN_WINDOW
    assert Pace().frame_budget == MIN_FRAME


def test_the_rate_is_what_arrived_by_the_receivers_clock() -> None:
    assert paced(HOME_UPLINK, 0.05).rate == pytest.approx(HOME_UPLINK)


def test_the_window_is_one_round_trip_and_ten_milliseconds_of_the_rate() -> None:
    assert paced(HOME_UPLINK, 0.05).window == pytest.approx(HOME_UPLINK * 0.060 + ACK_BYTES, rel=0.01)


def test_the_window_never_falls_below_the_least() -> None:
    assert paced(10_000, 0.05).window == MIN_WINDOW


def test_the_usual_round_trip_is_the_median_of_the_latest() -> None:
    pace = Pace()
    assert pace.usual_rtt_s is None
    for rtt_s in (0.05, 0.4, 0.06):
        pace.add_round_trip(rtt_s)
    assert (pace.rtt_s, pace.usual_rtt_s) == (0.05, 0.06)


def test_the_least_round_trip_counts_because_the_others_waited_in_queues() -> None:
    pace = paced(HOME_UPLINK, 0.05)
    pace.add_round_trip(0.4)
    assert pace.rtt_s == 0.05


def test_a_longer_path_is_noticed_after_a_while() -> None:
    pace = paced(HOME_UPLINK, 0.05)
    for _ in range(16):
        pace.add_round_trip(0.4)
    assert pace.rtt_s == 0.4


@pytest.mark.parametrize(("rate", "budget"), [(100_000, MIN_FRAME), (10**7, 50_000), (10**9, LONGEST_FRAME)])
def test_a_frame_takes_five_milliseconds_within_bounds(rate: int, budget: int) -> None:
    assert paced(rate, 0.001).frame_budget == budget


def test_a_lull_does_not_slow_the_link() -> None:
    pace = paced(HOME_UPLINK, 0.05)
    pace.add_ack(pace.sent, 10_000_000)  # all has arrived, and then little is sent for long
    for second in range(11, 40):
        pace.add_sent(1000)
        pace.add_ack(pace.sent, second * 1_000_000)
    assert pace.rate == pytest.approx(HOME_UPLINK)


def test_a_slower_path_is_noticed_while_the_link_is_busy() -> None:
    pace = paced(HOME_UPLINK, 0.05)
    for number in range(1, 20):
        at_us = 50 * 25_000 + number * 25_000
        pace.add_ack(pace.acknowledged + 2_500, at_us)
    assert pace.rate == pytest.approx(100_000, rel=0.05)


@pytest.mark.parametrize("received", [99, 201])
def test_an_ack_of_fewer_bytes_or_of_more_than_were_sent_is_the_peers_fault(received: int) -> None:
    pace = Pace(sent=200)
    pace.add_ack(100, 0)
    with pytest.raises(RemoteProtocolError) as caught:
        pace.add_ack(received, 1)
    assert caught.value.code is Code.BAD_STATE


def test_a_receivers_clock_that_runs_backwards_measures_nothing() -> None:
    pace = Pace(sent=1000)
    pace.add_ack(100, 5_000_000)
    pace.add_ack(200, 1_000_000)
    assert pace.rate == 0
