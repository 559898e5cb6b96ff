"""Unpaid work that a node risks: a client's own credit, and what newcomers share."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pinfer.core.money.budget import (
    CREDIT_PART,
    DEBT_S,
    GIVEN_UP,
    MAX_UNSIGNED,
    NEWCOMER_LIFE_S,
    RELEASE_S,
    Budget,
    Debt,
    Debtor,
    Left,
    Risk,
)
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import Refused
from p2pinfer.core.values.units import PeerKey, RecordId, Roles, Span
from tests.core.paid_route import NODES, contract_on, offer_of

NOW = 1_790_000_000
RISK = Risk(base=100, cap=500, newcomers=1_600, least=5)


def key(number: int) -> PeerKey:
    return PeerKey(number.to_bytes(32, "big"))


def contract(number: int) -> RecordId:
    return RecordId(number.to_bytes(32, "big"))


def new(number: int, network: str | None = None) -> Debtor:
    return Debtor(key(number), network)


def known(number: int, signed: int) -> Debtor:
    return Debtor(key(number), "far away", signed)


def left(work: int, ended: int = NOW, lasting: bool = True) -> Debt:
    return Debt(work, lasting, ended)


class Node:
    """A budget, and how a contract is answered."""

    def __init__(self) -> None:
        self.budget = Budget(RISK)
        self.last = 0

    def open(self, client: Debtor, work: int, now: int = NOW, life_s: int = NEWCOMER_LIFE_S) -> Code:
        self.last += 1
        return self.again(client, work, now, life_s)

    def again(self, client: Debtor, work: int, now: int = NOW, life_s: int = NEWCOMER_LIFE_S) -> Code:
        try:
            self.budget.take(contract(self.last), client, work, life_s, now)
        except Refused as refusal:
            self.words = str(refusal)
            return refusal.code
        return Code.NONE

    def leave(self, client: Debtor, work: int, unpaid: Debt) -> None:
        """A contract opens and is over, and something of it stays unpaid."""
        assert self.open(client, work) is Code.NONE
        self.budget.keep(contract(self.last), unpaid)


def test_contracts_of_one_newcomer_share_what_it_may_leave_unpaid() -> None:
    """RCT-27"""
    node = Node()
    assert node.open(new(1), 60) is Code.NONE
    assert node.open(new(1), 41) is Code.WINDOW_FULL
    assert node.open(new(1), 40) is Code.NONE


def test_a_contract_takes_its_work_once_and_gives_it_back_once() -> None:
    node = Node()
    assert [node.open(new(1), 100), node.again(new(1), 1)] == [Code.NONE, Code.BAD_STATE]
    for _ in range(2):
        node.budget.give_back(contract(1))
    assert node.budget.room(new(1), NOW) == 100


def test_credit_is_a_part_of_what_was_signed_in_full_and_never_more() -> None:
    """One paid contract of one position opens no window."""
    budget = Node().budget
    assert budget.credit(known(1, 1)) == 0
    assert budget.credit(known(1, 400)) == 400 // CREDIT_PART
    assert budget.credit(known(1, 10**9)) == RISK.cap


def test_a_client_with_credit_finds_room_whatever_newcomers_took() -> None:
    node = Node()
    for number in range(16):
        assert node.open(new(number), 100) is Code.NONE
    assert node.open(new(99), 1) is Code.WINDOW_FULL
    assert node.words == "1 layer-tokens at risk, 0 left for newcomers"
    assert node.open(known(99, 300), 150) is Code.NONE
    assert node.open(known(99, 300), 1) is Code.WINDOW_FULL


def test_beyond_its_credit_a_client_is_a_newcomer() -> None:
    node = Node()
    assert [node.open(known(1, 200), 100), node.open(known(1, 200), 100)] == [Code.NONE, Code.NONE]
    assert [node.budget.is_newcomer(contract(number)) for number in (1, 2)] == [False, True]
    assert node.open(known(1, 200), 1) is Code.WINDOW_FULL


def test_one_network_leaves_most_to_the_others() -> None:
    node = Node()
    for number in range(2):
        assert node.open(new(number, "192.0.2.1"), 100) is Code.NONE
    assert node.open(new(3, "192.0.2.1"), 1) is Code.WINDOW_FULL
    assert node.open(new(4, "192.0.2.2"), 100) is Code.NONE
    for number in range(5, 45):  # a key each from many networks
        node.open(new(number, f"net {number}"), 20)
    assert node.budget.room(new(99, "one more"), NOW) > 0


def test_a_new_client_may_only_sign_short_contracts() -> None:
    """RCT-31"""
    node = Node()
    assert node.open(new(1), 1, life_s=NEWCOMER_LIFE_S + 1) is Code.BAD_TERMS
    assert node.open(new(1), 1, life_s=NEWCOMER_LIFE_S) is Code.NONE
    assert node.open(known(2, 1), 1, life_s=86_400) is Code.NONE


def test_what_is_unpaid_stays_taken_and_no_less_than_its_records_cost() -> None:
    node = Node()
    node.leave(new(1), 100, left(30))
    assert node.budget.room(new(1), NOW) == 70
    node.budget.keep(contract(1), left(1))
    assert node.budget.room(new(1), NOW) == 100 - RISK.least
    node.budget.keep(contract(1), left(0))
    assert node.budget.room(new(1), NOW) == 100


def test_newcomers_find_room_again_soon_after_others_left_without_paying() -> None:
    node = Node()
    for number in range(16):
        node.leave(new(number), 100, left(100))
    assert node.budget.room(new(99), NOW + RELEASE_S - 1) == 0
    assert node.budget.room(new(99), NOW + RELEASE_S) == 100
    assert node.budget.room(new(1), NOW + RELEASE_S) == 0  # who left it still owes it


def test_who_owes_is_told_what_and_finds_room_as_far_as_it_goes() -> None:
    node = Node()
    node.leave(new(1), 100, left(60))
    assert node.open(new(1), 41) is Code.LAPSED
    assert node.words.startswith("60 layer-tokens under 1 earlier contracts of this client are unsigned: sign for them")
    assert node.open(new(1), 40) is Code.NONE


def test_who_owes_is_told_how_long_at_most() -> None:
    node = Node()
    node.leave(new(1), 50, left(50))
    node.leave(new(1), 50, left(50, lasting=False))
    assert node.open(new(1), 41, now=NOW + 1) is Code.LAPSED
    assert node.words.endswith("or wait up to 168 h")


PROMPT = 100  # positions


@pytest.mark.parametrize(
    ("worked", "proposed", "paid", "lasting"),
    [
        (PROMPT, 0, 0, False),  # prefill alone
        (PROMPT, PROMPT, 0, False),
        (PROMPT + 1, PROMPT + 1, 0, True),  # a proposal asks for a generated position
        (PROMPT + 9, PROMPT + 9, PROMPT + 8, True),
        (PROMPT + GIVEN_UP, 0, 0, False),  # ids on their way to a client that gave up before the first
        (PROMPT + GIVEN_UP + 1, 0, 0, True),
        (PROMPT + 8 + GIVEN_UP, PROMPT + 8, PROMPT + 8, False),
        (PROMPT + 9 + GIVEN_UP, PROMPT + 8, PROMPT + 8, True),
    ],
)
def test_a_debt_lasts_if_an_honest_client_would_not_leave_it(
    worked: int, proposed: int, paid: int, lasting: bool
) -> None:
    """RCT-27"""
    contract = contract_on(offer_of(NODES[0], Span(0, 10), Roles.HEAD), prompt=PROMPT)
    assert Left(contract, worked, proposed, paid, NOW).debt == Debt(10 * (worked - paid), lasting, NOW)


def test_a_debt_is_over_when_it_is_signed_or_too_old() -> None:
    node = Node()
    node.leave(new(1), 100, left(100))
    node.leave(new(2), 100, left(100))
    node.budget.give_back(contract(1))
    assert node.budget.room(new(1), NOW) == 100
    node.budget.forget(NOW + DEBT_S)
    assert node.budget.room(new(2), NOW + DEBT_S) == 0
    node.budget.forget(NOW + DEBT_S + 1)
    assert node.budget.room(new(2), NOW + DEBT_S + 1) == 100


def test_debts_of_keys_without_end_are_not_remembered_without_end() -> None:
    """While they take from others, they are bounded by what newcomers share."""
    node = Node()
    for number in range(MAX_UNSIGNED + 2):
        client = Debtor(key(number), own=True)
        node.leave(client, 1, left(1))
    node.budget.forget(NOW)
    taken = [node.budget.is_taken(contract(number)) for number in (1, 2, 3, MAX_UNSIGNED + 2)]
    assert taken == [False, False, True, True]


def test_work_that_nothing_proves_to_its_client_is_held_against_it_no_longer_than_against_all() -> None:
    node = Node()
    node.leave(new(1), 100, left(100, lasting=False))
    node.budget.forget(NOW + RELEASE_S + 1)
    assert node.budget.room(new(1), NOW + RELEASE_S + 1) == 100


def test_a_debt_lowers_the_credit_it_was_made_on() -> None:
    node = Node()
    node.leave(known(1, 300), 150, left(100))
    assert node.open(known(1, 300), 50) is Code.NONE
    assert not node.budget.is_newcomer(contract(2))
    node.open(known(1, 300), 50)
    assert node.budget.is_newcomer(contract(3))


def test_what_an_earlier_process_left_unpaid_counts_whatever_the_limit() -> None:
    node = Node()
    node.budget.recall(contract(1), new(1), left(1_580))
    assert (node.budget.room(new(1), NOW), node.budget.room(new(2), NOW)) == (0, 20)


def test_the_owners_own_clients_are_trusted() -> None:
    node = Node()
    own = Debtor(key(1), own=True)
    assert node.open(own, RISK.cap, life_s=86_400) is Code.NONE
    assert not node.budget.is_newcomer(contract(1))
    assert node.budget.is_own(contract(1))


OPENS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3), st.integers(1, 300)), max_size=60)


@given(OPENS, st.integers(0, 2_000))
def test_whatever_clients_ask_for_the_risk_is_bounded(opens: list[tuple[int, int, int]], signed: int) -> None:
    node, on_credit, as_newcomer = Node(), dict.fromkeys(range(10), 0), dict.fromkeys(range(10), 0)
    for number, network, work in opens:
        if node.open(Debtor(key(number), str(network), signed if number < 3 else 0), work) is Code.NONE:
            taken = as_newcomer if node.budget.is_newcomer(contract(node.last)) else on_credit
            taken[number] += work
    assert all(taken <= min(RISK.cap, signed) for taken in on_credit.values())
    assert all(taken <= RISK.base for taken in as_newcomer.values())
    assert sum(as_newcomer.values()) <= RISK.newcomers
