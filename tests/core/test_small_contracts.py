"""Contracts that are not worth their records: so many a day, and none shuts out another network's."""

import pytest

from p2pinfer.core.money.budget import NETWORK_PART, Debtor
from p2pinfer.core.money.small_contracts import DAY_S, SMALL, SMALL_A_DAY, SmallContracts, is_small
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import Refused
from p2pinfer.core.values.units import PeerKey

DAY = 20_000 * DAY_S


LAYERS = 6
NEWCOMER = PeerKey(b"n" * 32)
PAYER = PeerKey(b"p" * 32)


def served(small: SmallContracts, network: str | None, now: int = DAY, key: PeerKey = NEWCOMER, signed: int = 0) -> int:
    """Contracts that one client has before it is refused."""
    client = Debtor(key, network, signed)
    for count in range(2 * SMALL_A_DAY + 1):
        try:
            small.check(client, LAYERS, now)
        except Refused as refusal:
            assert refusal.code is Code.BUSY
            return count
        small.add(client, LAYERS, now)
    raise AssertionError("nobody is refused")


@pytest.mark.parametrize(
    ("proposed", "paid", "small"),
    [(0, 0, False), (1, 1, True), (128, 0, True), (SMALL, SMALL - 1, True), (SMALL, SMALL, False)],
)
def test_a_contract_is_small_that_left_records_and_is_signed_for_little(proposed: int, paid: int, small: bool) -> None:
    assert is_small(proposed, paid) is small


def test_a_network_has_a_part_of_what_others_leave() -> None:
    """RCT-34"""
    small = SmallContracts()
    first = served(small, "192.0.2.1")
    assert first == SMALL_A_DAY // NETWORK_PART
    assert served(small, "192.0.2.2") == (SMALL_A_DAY - first) // NETWORK_PART


def test_forty_networks_leave_something_to_another_and_all_keep_within_the_day() -> None:
    small = SmallContracts()
    had = [served(small, f"192.0.2.{number}") for number in range(40)]
    assert min(had) > 0
    assert sum(had) <= SMALL_A_DAY


def test_peers_on_the_same_machine_count_for_the_total_alone() -> None:
    small = SmallContracts()
    first = served(small, "192.0.2.1")
    assert served(small, None) == SMALL_A_DAY - first


def test_a_day_begins_anew() -> None:
    small = SmallContracts()
    served(small, None)
    assert served(small, None, DAY + DAY_S - 1) == 0
    assert served(small, None, DAY + DAY_S) == SMALL_A_DAY


def test_what_is_told_late_of_yesterday_changes_nothing_today() -> None:
    small = SmallContracts()
    had = served(small, "192.0.2.1", DAY + DAY_S)
    assert had
    small.add(Debtor(PeerKey(b"k" * 32), "192.0.2.2", 0, own=False), LAYERS, DAY + DAY_S - 1)
    assert served(small, "192.0.2.1", DAY + DAY_S) == 0
    assert served(small, "192.0.2.2", DAY + DAY_S) == (SMALL_A_DAY - had) // NETWORK_PART


def test_a_clock_that_was_far_ahead_counts_for_nothing_once_it_is_right() -> None:
    small = SmallContracts()
    served(small, None, DAY + 1_000 * DAY_S)
    assert served(small, None, DAY) == SMALL_A_DAY


def test_who_has_paid_is_served_beside_a_stranger_of_his_network_who_has_not() -> None:
    """RCT-34"""
    small = SmallContracts()
    part = served(small, "192.0.2.1")
    assert served(small, "192.0.2.1") == 0
    assert served(small, "192.0.2.1", key=PAYER, signed=100 * SMALL * LAYERS) == 100
    assert served(small, "192.0.2.1", key=PeerKey(b"q" * 32), signed=SMALL_A_DAY * SMALL * LAYERS) == part - 100


def test_what_was_paid_counts_for_each_small_contract_of_the_day_once() -> None:
    small = SmallContracts()
    served(small, "192.0.2.1")
    signed = 2 * SMALL * LAYERS - 1
    assert served(small, "192.0.2.1", key=PAYER, signed=signed) == 1
    assert served(small, "192.0.2.1", key=PAYER, signed=signed) == 0
    assert served(small, "192.0.2.1", DAY + DAY_S, key=PAYER, signed=signed) == 1 + SMALL_A_DAY // NETWORK_PART
