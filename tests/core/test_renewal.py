"""Certificates that have to be renewed, keys that another process uses, numbers of statements that never meet."""

from dataclasses import replace

import pytest

from p2pinfer.core.records.offer import Offer, ServingState
from p2pinfer.core.records.records import MAX_SKEW_S
from p2pinfer.core.records.renewal import RENEW_CERTIFICATE_S, WARN_S, Standing, standing
from p2pinfer.core.records.statement import next_number
from p2pinfer.core.swarm.doubles import TOGETHER, is_double, is_elder, is_twin
from p2pinfer.core.values.units import Roles, Span
from tests.core.paid_route import DAY_S, NODES, NOW, certificate_for, offer_of

CERTIFICATE = certificate_for(NODES[0], not_before=NOW - DAY_S, not_after=NOW + 60 * DAY_S).record
OFFER = offer_of(NODES[0], Span(0, 3), Roles.HEAD | Roles.TAIL).record
BOOT = b"our own boot ..."


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (NOW - DAY_S - 1, Standing.EARLY),
        (NOW - DAY_S, Standing.GOOD),
        (CERTIFICATE.not_after - RENEW_CERTIFICATE_S - 1, Standing.GOOD),
        (CERTIFICATE.not_after - RENEW_CERTIFICATE_S, Standing.DUE),
        (CERTIFICATE.not_after - WARN_S, Standing.DUE),
        (CERTIFICATE.not_after - WARN_S + 1, Standing.ENDING),
        (CERTIFICATE.not_after, Standing.OVER),
        (0, Standing.EARLY),
    ],
)
def test_a_certificate_stands_by_the_present_clock(now: int, expected: Standing) -> None:
    assert standing(CERTIFICATE, now) is expected


def test_an_offer_that_another_process_makes_while_we_run_shows_a_double() -> None:
    assert is_double(OFFER, BOOT, {}, NOW + 20, running_s=60)
    assert not is_double(OFFER, OFFER.boot, {}, NOW + 20, running_s=60)


def test_a_clock_that_is_minutes_ahead_hides_no_double() -> None:
    """Of two clocks that honest peers may have; the later process would never end."""
    assert is_double(OFFER, BOOT, {}, NOW - MAX_SKEW_S, running_s=60)
    assert not is_double(OFFER, BOOT, {}, NOW - MAX_SKEW_S - 1, running_s=60)


@pytest.mark.parametrize(
    ("seq", "own", "expected"),
    [
        (5, None, True),  # a number that we are yet to reach
        (4, OFFER, True),
        (4, replace(OFFER, seq=4), False),
        (4, None, False),  # ours of long ago
    ],
)
def test_an_offer_of_our_own_boot_that_we_did_not_make_shows_a_twin(
    seq: int, own: Offer | None, expected: bool
) -> None:
    """A machine was copied while it ran. Neither process was there first."""
    offer = replace(OFFER, seq=seq)
    assert is_twin(offer, OFFER.boot, 4, own) is expected
    assert not is_twin(offer, BOOT, 4, own)
    assert is_elder(offer, OFFER.boot, {}, 4)
    assert not is_elder(replace(offer, state=ServingState.LEAVING), OFFER.boot, {}, 4)


def test_an_offer_of_an_earlier_process_of_ours_shows_nothing() -> None:
    assert not is_double(OFFER, BOOT, {}, NOW + 20, running_s=15)
    assert not is_double(OFFER, BOOT, {}, NOW + 20, running_s=21)
    assert is_double(OFFER, BOOT, {}, NOW + 20, running_s=21.5)


def test_a_clock_that_was_set_back_between_two_starts_makes_no_old_offer_of_ours_a_double() -> None:
    """Whoever kept it could end us by it; what that start did not make is another process's all the same."""
    assert not is_double(OFFER, BOOT, {OFFER.boot: OFFER.seq}, NOW + 20, running_s=60)
    assert is_double(OFFER, BOOT, {OFFER.boot: OFFER.seq - 1}, NOW + 20, running_s=60)


def test_the_last_offer_of_an_earlier_start_is_known_too() -> None:
    """It is made in haste, and no file notes it: it says that the node leaves."""
    leaving = replace(OFFER, state=ServingState.LEAVING)
    assert not is_double(leaving, BOOT, {OFFER.boot: OFFER.seq - 1}, NOW + 20, running_s=60)
    assert is_double(leaving, BOOT, {OFFER.boot: OFFER.seq - 2}, NOW + 20, running_s=60)
    assert is_double(leaving, BOOT, {}, NOW + 20, running_s=60)


@pytest.mark.parametrize("clock", [0, NOW - 3600])
def test_a_clock_that_is_behind_shows_nothing(clock: int) -> None:
    """An earlier process of ours knew the time."""
    assert not is_double(OFFER, BOOT, {}, clock, running_s=60)


def test_of_two_processes_the_one_that_made_more_offers_stays() -> None:
    assert is_elder(replace(OFFER, seq=9), BOOT, {}, 4)
    assert not is_elder(replace(OFFER, seq=4), BOOT, {}, 9)


def test_of_two_that_started_at_once_one_stays() -> None:
    seq = TOGETHER + 1
    theirs = replace(OFFER, seq=seq)
    assert is_elder(theirs, bytes(16), {}, seq) != is_elder(replace(theirs, boot=bytes(16)), OFFER.boot, {}, seq)
    assert not is_elder(replace(OFFER, seq=2), bytes(16), {}, 2)  # one of the two may be about to renew


def test_the_process_whose_folder_was_copied_while_it_ran_stays() -> None:
    assert is_elder(replace(OFFER, seq=3), BOOT, {OFFER.boot: 2}, 9)


def test_a_process_that_leaves_ends_nobody() -> None:
    """Or the two would end each other."""
    assert not is_elder(replace(OFFER, seq=9, state=ServingState.LEAVING), BOOT, {}, 4)


def test_statements_of_copies_of_a_journal_have_other_numbers_and_they_only_grow() -> None:
    first = next_number(0, NOW, 7)
    assert next_number(0, NOW, 8) != first
    assert next_number(0, NOW + 1, 0) > next_number(0, NOW, 65_535)
    assert next_number(first, NOW - DAY_S, 0) == first + 1
    assert next_number(0, 1 << 36, 65_535) < 1 << 53
