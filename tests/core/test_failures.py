"""Who failed is remembered, with its owner; not for ever, and not without bound."""

from p2pinfer.core.routes.failures import FAILURE_WORTH, FORGET_S, MAX_COUNTED, MAX_FAILURES, Failures
from p2pinfer.core.values.units import OwnerKey, PeerKey

ALICE, BOB = OwnerKey(b"a" * 32), OwnerKey(b"b" * 32)


def node(number: int) -> PeerKey:
    return PeerKey(number.to_bytes(32, "big"))


def test_a_failure_counts_for_the_node_and_for_its_owners_others() -> None:
    failures = Failures()
    failures.note(node(1), ALICE, 0.0)
    assert failures.risk(node(1), ALICE, 1.0) == 2 * FAILURE_WORTH
    assert failures.risk(node(2), ALICE, 1.0) == FAILURE_WORTH
    assert failures.risk(node(3), BOB, 1.0) == 0


def test_what_lies_far_back_is_forgotten() -> None:
    failures = Failures()
    failures.note(node(1), ALICE, 0.0)
    assert failures.risk(node(1), ALICE, FORGET_S - 1) > 0
    assert failures.risk(node(1), ALICE, FORGET_S + 1) == 0


def test_one_that_keeps_its_promise_is_forgiven() -> None:
    failures = Failures()
    failures.note(node(1), ALICE, 0.0)
    failures.forgive(node(1), ALICE, 0.5)
    assert failures.risk(node(1), ALICE, 1.0) == 0


def test_one_that_was_paid_and_brought_nothing_comes_behind_all_that_failed_until_it_answers() -> None:
    failures = Failures()
    for at in range(100):
        failures.note(node(1), ALICE, at)
    failures.note_taken([frozenset({node(2)})])
    assert failures.risk(node(2), BOB, 100.0 + FORGET_S) > failures.risk(node(1), ALICE, 100.0) > 0
    failures.forgive(node(2), BOB, 100.0)
    assert failures.risk(node(2), BOB, 100.0) == 0


def test_who_was_paid_for_nothing_is_remembered_up_to_a_bound() -> None:
    failures = Failures()
    failures.note_taken(frozenset({node(number)}) for number in range(MAX_FAILURES + 1))
    assert failures.risk(node(0), ALICE, 0.0) == 0
    assert failures.risk(node(1), ALICE, 0.0) > 0


def test_of_several_that_were_paid_for_nothing_the_company_is_remembered_and_no_node() -> None:
    failures = Failures()
    pair, other = frozenset({node(1), node(2)}), frozenset({node(1), node(3)})
    failures.note_taken([pair, other])
    assert failures.risk(node(1), ALICE, 0.0) == failures.risk(node(2), BOB, 0.0) == 0
    assert failures.taken_together == [pair, other]
    failures.forgive_together(pair | {node(4)})
    assert failures.taken_together == [other]


def test_memory_is_bounded() -> None:
    failures = Failures()
    for at in range(100):
        failures.note(node(1), ALICE, at)
    assert failures.risk(node(1), ALICE, 100.0) == 2 * MAX_COUNTED * FAILURE_WORTH
    for number in range(2, MAX_FAILURES + 2):
        failures.note(node(number), OwnerKey(node(number)), 100.0)
    assert failures.risk(node(1), ALICE, 100.0) == 0
