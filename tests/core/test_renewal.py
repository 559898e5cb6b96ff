"""Certificates that have to be renewed, keys that another process uses, numbers of statements that never meet."""

from dataclasses import replace

import pytest

from p2pinfer.core.doubles import MARGIN_S, is_double, is_elder
from p2pinfer.core.offer import State
from p2pinfer.core.renewal import RENEW_CERTIFICATE_S, WARN_S, Standing, standing
from p2pinfer.core.statement import next_number
from p2pinfer.core.units import Roles, Span
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


def test_an_offer_of_an_earlier_process_of_ours_shows_nothing() -> None:
    assert not is_double(OFFER, BOOT, {}, NOW + 20, running_s=15)
    assert not is_double(OFFER, BOOT, {}, NOW + 20, running_s=20 + MARGIN_S)


def test_a_clock_that_was_set_back_between_two_starts_makes_no_old_offer_of_ours_a_double() -> None:
    """Whoever kept it could end us by it; what that start did not make is another process's all the same."""
    assert not is_double(OFFER, BOOT, {OFFER.boot: OFFER.seq}, NOW + 20, running_s=60)
    assert is_double(OFFER, BOOT, {OFFER.boot: OFFER.seq - 1}, NOW + 20, running_s=60)


def test_a_process_that_leaves_is_no_double() -> None:
    """Its last offer is made in haste, and no file notes it."""
    assert not is_double(replace(OFFER, state=State.LEAVING), BOOT, {}, NOW + 20, running_s=60)


@pytest.mark.parametrize("clock", [0, NOW - 3600])
def test_a_clock_that_is_behind_shows_nothing(clock: int) -> None:
    """An earlier process of ours knew the time."""
    assert not is_double(OFFER, BOOT, {}, clock, running_s=60)


def test_of_two_processes_one_stays() -> None:
    ours, theirs = 4, replace(OFFER, seq=9)
    assert is_elder(theirs, BOOT, ours)
    assert not is_elder(replace(OFFER, seq=ours, boot=BOOT), theirs.boot, theirs.seq)
    assert is_elder(replace(OFFER, seq=4), bytes(16), 4) != is_elder(
        replace(OFFER, seq=4, boot=bytes(16)), OFFER.boot, 4
    )


def test_statements_of_copies_of_a_journal_have_other_numbers_and_they_only_grow() -> None:
    first = next_number(0, NOW, 7)
    assert next_number(0, NOW, 8) != first
    assert next_number(0, NOW + 1, 0) > next_number(0, NOW, 65_535)
    assert next_number(first, NOW - DAY_S, 0) == first + 1
    assert next_number(0, 1 << 36, 65_535) < 1 << 53
