"""The money side of a route: two kinds of account, back to back."""

from dataclasses import replace

import pytest

from p2pinfer.core.money.client_account import AHEAD_S, ClientAccount, Refuse, Repeat, Sign
from p2pinfer.core.money.proposals import Agreement
from p2pinfer.core.money.stage_account import Proposal, StageAccount
from p2pinfer.core.records.pricing import amount_of
from p2pinfer.core.records.receipt import FINAL, Receipt
from p2pinfer.core.records.records import MAX_SKEW_S, countersign, encode, sign
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import Disputed, LocalProtocolError, RemoteProtocolError
from p2pinfer.core.values.keys import domain
from tests.core.paid_route import (
    CLIENT,
    NODES,
    NOW,
    PRICES,
    SECRET,
    SMALL,
    STRANGER,
    PaidRoute,
    agreed,
    paid_route,
    route_offers,
    signed_stages,
)

LONG = 22  # ids of a prompt: six more than the window holds


def small(stages: int = 3, prompt: int = 6) -> PaidRoute:
    return paid_route(stages, prompt, layers=6, limits=SMALL)


def ended(route: PaidRoute, count: int, reason: Code = Code.END) -> None:
    """Everything computed, delivered and closed, nothing proposed yet."""
    route.compute(len(route.prompt) + count - 1)
    route.deliver(count)
    for stage in route.stages:
        stage.close(reason)


def refused(route: PaidRoute, place: int, receipt: Receipt) -> Code:
    """The code with which the client refuses a proposal that the node has signed."""
    with pytest.raises(RemoteProtocolError) as error:
        route.hand_over(place, Proposal(0, sign(receipt, NODES[place])))
    return error.value.code


def first_due(route: PaidRoute, place: int) -> Receipt:
    return route.stages[place].due(NOW)[0].signed.record


# The example of the specification


def test_the_example_of_the_specification_costs_500_nanocredits() -> None:
    route = paid_route(stages=3, prompt=512)
    ended(route, 64)
    route.settle(route.propose_all())
    receipts = [stage.complete.record for stage in route.stages if stage.complete is not None]
    assert [receipt.amount for receipt in receipts] == [153, 153, 194]
    assert [(receipt.usage.prefill, receipt.usage.decode) for receipt in receipts] == [(5_120, 630)] * 3
    assert [receipt.usage.sampled for receipt in receipts] == [0, 0, 64]
    assert route.client.closed and all(stage.closed for stage in route.stages)


def test_neighbours_state_equal_roots_at_equal_positions() -> None:
    route = small()
    ended(route, 4)
    finals = [stage.due(NOW)[-1].signed.record for stage in route.stages]
    assert finals[0].out_root == finals[1].in_root
    assert finals[1].out_root == finals[2].in_root


# What a node proposes


def test_a_proposal_is_due_at_every_multiple_of_the_cadence() -> None:
    """RCT-19"""
    route = small()
    route.compute(11)
    due = route.head.due(NOW)
    assert [(proposal.seq, proposal.committed) for proposal in due] == [(1, 4), (2, 8)]


def test_a_chunk_that_jumps_over_multiples_states_each_as_it_was_there() -> None:
    """RCT-19"""
    at_once, step_by_step = small(), small()
    at_once.compute(11)
    step_by_step.compute(4)
    first = step_by_step.head.due(NOW)
    step_by_step.compute(8)
    assert at_once.head.due(NOW) == [*first, *step_by_step.head.due(NOW)]


def test_nothing_is_proposed_twice() -> None:
    route = small()
    route.compute(11)
    route.head.due(NOW)
    assert route.head.due(NOW) == []


def test_the_final_proposal_follows_the_last_multiple() -> None:
    route = small()
    ended(route, 3)
    assert [(p.seq, p.committed, p.signed.record.state) for p in route.tail.due(NOW)] == [
        (1, 4, 0),
        (2, 8, 0),
        (3, 8, 1),
    ]


def test_after_the_final_nothing_is_due() -> None:
    route = small()
    ended(route, 3)
    route.head.due(NOW)
    assert route.head.due(NOW) == []


def test_a_stage_that_did_nothing_closes_without_a_receipt() -> None:
    route = small()
    route.head.close(Code.CANCELLED)
    assert (route.head.due(NOW), route.head.closed) == ([], True)


def test_the_client_caps_what_has_not_been_proposed() -> None:
    route = small()
    route.compute(11)
    route.head.due(NOW)
    route.head.close(Code.CANCELLED, upto=9)
    assert route.head.due(NOW)[-1].committed == 9


def test_what_was_proposed_is_not_taken_back_by_a_cap() -> None:
    """RCT-24"""
    route = small()
    route.compute(11)
    route.head.due(NOW)
    route.head.close(Code.CANCELLED, upto=5)
    assert route.head.due(NOW)[-1].committed == 8


def test_the_time_in_receipts_never_goes_back() -> None:
    route = small()
    route.compute(4)
    first = route.head.due(NOW)[0]
    route.compute(8)
    second = route.head.due(NOW - 100)[0]
    assert second.signed.record.time == first.signed.record.time == NOW


def test_pending_proposals_are_the_same_bytes() -> None:
    """RCT-20"""
    route = small()
    route.compute(8)
    due = route.head.due(NOW)
    assert route.head.pending == tuple(due)


def test_a_contract_of_another_node_is_our_bug() -> None:
    with pytest.raises(LocalProtocolError):
        StageAccount(small().contracts[0], SECRET, NODES[1])


# The window


def test_a_stage_stops_at_the_window() -> None:
    """RCT-21"""
    account = small().head
    assert account.may_compute(16)
    assert not account.may_compute(17)


def test_a_signature_moves_the_window_by_what_it_covers() -> None:
    route = small(prompt=LONG)
    route.compute(4)
    route.settle(route.propose_all())
    assert route.head.may_compute(20)
    assert not route.head.may_compute(21)


def test_the_window_never_passes_the_longest_session() -> None:
    route = small(prompt=60)
    for upto in range(4, 60, 4):
        route.compute(upto)
        route.settle(route.propose_all())
    assert route.head.limit == 60  # up to the first id, no more than the prompt
    route.compute(60)
    route.propose_all()
    route.settle(route.deliver(1))
    assert route.head.limit == 64


def test_a_closed_contract_computes_nothing_more() -> None:
    route = small()
    route.compute(5)
    route.head.close(Code.CANCELLED)
    assert not route.head.may_compute(6)


def test_positions_that_were_not_computed_cannot_be_committed() -> None:
    route = small()
    route.compute(5)
    with pytest.raises(RemoteProtocolError) as error:
        route.head.commit(6)
    assert error.value.code is Code.BAD_POSITION


def test_the_tail_commits_the_end_of_the_prompt_with_the_first_id() -> None:
    route = small()
    route.tail.add_inputs(0, bytes(6 * 8), 6)
    route.tail.commit(5)
    with pytest.raises(RemoteProtocolError):
        route.tail.commit(6)


# Rollback


def test_rows_after_a_rollback_replace_the_earlier_ones() -> None:
    straight, bent = small(), small()
    straight.compute(8)
    bent.compute(6)
    bent.head.add_inputs(6, b"draft..." * 3, 6)
    bent.head.add_outputs(6, b"draft..." * 3, 3)
    bent.compute(8)
    assert bent.head.due(NOW)[-1].signed.body == straight.head.due(NOW)[-1].signed.body


def test_committed_rows_cannot_be_replaced() -> None:
    route = small()
    route.compute(6)
    with pytest.raises(LocalProtocolError):
        route.head.add_outputs(5, bytes(8), 1)


@pytest.mark.parametrize("position", [5, 8, 10])  # before the first id, committed, after a gap
def test_ids_out_of_turn_are_our_bug(position: int) -> None:
    route = small()
    route.compute(8)
    with pytest.raises(LocalProtocolError):
        route.tail.add_outputs(position, bytes(4), 1)


def test_a_gap_between_rows_is_our_bug() -> None:
    with pytest.raises(LocalProtocolError):
        small().head.add_inputs(1, bytes(4), 1)


# What a client signs (RCT-9)


def test_prefill_is_signed_when_every_stage_has_proposed_it() -> None:
    route = small(prompt=LONG)
    route.compute(4)
    assert route.propose(0) == []
    assert route.propose(1) == []
    assert signed_stages(route.propose(2)) == [(0, 1), (1, 1), (2, 1)]


def test_prefill_is_not_signed_on_the_word_of_some_stages() -> None:
    route = small(prompt=LONG)
    route.compute(8, stages=[0, 1])
    route.compute(4, stages=[2])
    route.propose(0)
    route.propose(1)
    assert signed_stages(route.propose(2)) == [(0, 1), (1, 1), (2, 1)]
    assert not route.client.closed


def test_one_signature_stands_for_all_before_it() -> None:
    route = small(prompt=LONG)
    route.compute(8)
    route.propose(0)
    route.propose(1)
    last = [route.hand_over(2, proposal) for proposal in reversed(route.tail.due(NOW)[1:])]
    assert signed_stages(last[0]) == [(0, 2), (1, 2), (2, 2)]


def test_the_whole_prompt_waits_for_its_first_id() -> None:
    route = small(prompt=8)
    route.compute(8)
    assert route.propose_all() == []
    assert signed_stages(route.deliver(1)) == [(0, 2), (1, 2), (2, 2)]


@pytest.mark.parametrize("stages", [1, 2, 3])
def test_a_route_that_delivers_no_id_is_signed_for_what_lies_beyond_the_window(stages: int) -> None:
    """All stages may be one liar, so no number of them proves anything."""
    for prompt, positions in ((6, 0), (16, 0), (17, 4), (20, 4), (21, 8), (60, 44)):
        route = small(stages, prompt)
        for upto in range(4, prompt, 4):
            route.compute(upto)
            route.settle(route.propose_all())
        for stage in route.stages:
            stage.close(Code.ENGINE)
        assert route.propose_all() == []
        assert [stage.paid for stage in route.stages] == [positions] * stages


@pytest.mark.parametrize("windows", [(16, 16, 16), (16, 32, 60), (60, 16, 32), (32, 60, 16)])
@pytest.mark.parametrize("prompt", [15, 16, 17, 29, 60])
def test_honest_stages_of_any_windows_get_to_the_end_of_a_prompt(windows: tuple[int, ...], prompt: int) -> None:
    route = paid_route(3, prompt, 6, *[replace(SMALL, window=window) for window in windows])
    while any(stage.committed < prompt for stage in route.stages):
        before = [stage.committed for stage in route.stages]
        for place, stage in enumerate(route.stages):
            came = route.stages[place - 1].committed if place else prompt
            if (upto := min(came, stage.limit, prompt)) > stage.committed:
                route.compute(upto, [place])
            route.settle(route.propose(place))
        assert [stage.committed for stage in route.stages] != before
    assert signed_stages(route.deliver(1))


def test_a_stage_that_ends_before_the_first_id_leaves_the_prompt_unsigned() -> None:
    route = small(prompt=LONG)
    route.compute(8)
    route.propose(0)
    route.propose(1)
    route.tail.close(Code.ENGINE)
    final = [proposal for proposal in route.tail.due(NOW) if proposal.signed.record.state == FINAL]
    assert [decision for proposal in final for decision in route.hand_over(2, proposal)] == []


def test_once_the_client_has_given_up_nothing_more_of_a_prompt_is_signed() -> None:
    route = small(prompt=LONG)
    route.client.give_up()
    route.compute(8)
    assert route.propose_all() == []


def test_a_stage_waits_for_its_neighbours_roots() -> None:
    route = small()
    route.deliver(3)
    route.compute(8)
    assert route.propose(1) == []
    assert signed_stages(route.propose(0)) == [(0, 2)]
    assert signed_stages(route.propose(2)) == [(1, 1), (2, 1), (1, 2), (2, 2)]


def test_neighbours_of_a_lost_stage_are_still_paid() -> None:
    route = small()
    ended(route, 4, Code.LOST)
    route.propose(0)
    route.propose(2)
    assert signed_stages(route.client.lost(1)) == [(0, 3), (2, 3)]


def test_a_lost_stage_before_the_first_id_pays_nobody_for_the_prompt() -> None:
    route = small(prompt=LONG)
    route.compute(4)
    route.propose(0)
    route.propose(2)
    assert route.client.lost(1) == []


def test_finals_at_different_positions_are_signed_within_the_count() -> None:
    route = small()
    route.deliver(6)
    for place, upto in enumerate((11, 10, 9)):
        route.compute(upto, stages=[place])
        route.stages[place].close(Code.CANCELLED)
    decisions = route.propose_all()
    assert dict(signed_stages(decisions)) == {0: 3, 1: 3, 2: 3}
    assert route.client.closed


def test_a_proposal_ahead_of_the_count_waits_for_its_ids() -> None:
    route = small(stages=1)
    route.compute(8)
    route.deliver(2)
    assert signed_stages(route.propose(0)) == [(0, 1)]
    assert signed_stages(route.deliver(1)) == [(0, 2)]


def test_a_proposal_ahead_of_the_count_is_refused_after_two_seconds() -> None:
    route = small(stages=1)
    route.compute(8)
    route.deliver(2)
    route.propose(0, at=50.0)
    assert route.client.deadline == 50.0 + AHEAD_S
    assert route.client.late(51.9) == []
    (refusal,) = route.client.late(52.0)
    assert (refusal.stage, refusal.seq, refusal.code) == (0, 2, Code.RECEIPT_AHEAD)
    assert route.client.deadline is None


def test_prefill_that_waits_for_other_stages_is_not_ahead() -> None:
    route = small(prompt=10)
    route.compute(8, stages=[0])
    route.propose(0, at=50.0)
    assert route.client.deadline is None


def test_ids_in_time_stop_the_clock() -> None:
    route = small(stages=1)
    route.compute(8)
    route.deliver(2)
    route.propose(0, at=50.0)
    route.deliver(1)
    assert route.client.late(99.0) == []


def test_an_old_number_is_answered_with_the_highest_complete_receipt() -> None:
    route = small(stages=1)
    route.compute(8)
    due = route.head.due(NOW)
    route.deliver(3)
    for proposal in due:
        route.hand_over(0, proposal)
    (answer,) = route.hand_over(0, due[0])
    assert isinstance(answer, Repeat)
    assert answer.receipt.record.seq == 2


def test_a_proposal_sent_twice_while_it_waits_changes_nothing() -> None:
    route = small(prompt=10)
    route.compute(4)
    (proposal,) = route.head.due(NOW)
    route.hand_over(0, proposal)
    assert route.hand_over(0, proposal) == []


def test_a_second_body_under_one_number_is_a_conflict() -> None:
    route = small(stages=1)
    route.compute(4)
    route.deliver(1)
    receipt = first_due(route, 0)
    route.hand_over(0, Proposal(4, sign(receipt, NODES[0])))
    assert refused(route, 0, replace(receipt, time=NOW + 1)) is Code.RECEIPT_CONFLICT


@pytest.mark.parametrize(
    "change",
    [
        {"amount": 10**6},
        {"amount": 0},
        {"time": NOW + 7200},
        {"time": NOW - 7200},
        {"in_root": bytes(32)},
        {"out_root": bytes(32)},
    ],
)
def test_a_receipt_that_differs_from_the_count_is_refused(change: dict[str, int]) -> None:
    route = small(stages=1)
    route.compute(8)
    route.deliver(3)
    assert refused(route, 0, replace(first_due(route, 0), **change)) is Code.RECEIPT_MISMATCH


@pytest.mark.parametrize("field", ["prefill", "decode", "sampled"])
def test_usage_beyond_the_count_is_refused(field: str) -> None:
    route = small(stages=1)
    route.compute(8)
    route.deliver(3)
    receipt = first_due(route, 0)
    usage = replace(receipt.usage, **{field: getattr(receipt.usage, field) + 6})
    amount = amount_of(PRICES, 0, usage)
    assert refused(route, 0, replace(receipt, usage=usage, amount=amount)) is Code.RECEIPT_MISMATCH


def test_a_proposal_beyond_the_window_of_what_was_signed_is_refused() -> None:
    route = small(stages=1)
    route.compute(SMALL.window + SMALL.cadence)
    receipts = [proposal.signed.record for proposal in route.head.due(NOW)]
    for receipt in receipts[:-1]:
        route.hand_over(0, Proposal(0, sign(receipt, NODES[0])))
    assert refused(route, 0, receipts[-1]) is Code.RECEIPT_MISMATCH


def test_what_waits_is_looked_at_again_only_where_something_new_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    look = ClientAccount._agreement

    def count(account: ClientAccount, place: int, committed: int) -> Agreement:
        looks.append(committed)
        return look(account, place, committed)

    monkeypatch.setattr(ClientAccount, "_agreement", count)
    route = small(stages=1, prompt=16)
    route.compute(16)
    proposals = route.head.due(NOW)
    for proposal in proposals:
        route.hand_over(0, proposal)
    assert looks == [4, 4, 8, 8, 12, 12, 16, 16]  # when it comes, and when what may be signed is sought
    looks.clear()
    route.deliver(1)
    assert set(looks) == {16}


def test_a_running_receipt_off_the_cadence_is_refused() -> None:
    route = small(stages=1)
    ended(route, 2)
    final = route.head.due(NOW)[-1].signed.record
    assert refused(route, 0, replace(final, state=0, reason=0)) is Code.RECEIPT_MISMATCH


def test_a_higher_number_may_not_take_work_back() -> None:
    route = small(stages=1)
    route.compute(8)
    route.deliver(3)
    first, second = (proposal.signed.record for proposal in route.head.due(NOW))
    route.hand_over(0, Proposal(8, sign(second, NODES[0])))
    assert refused(route, 0, replace(first, seq=3)) is Code.RECEIPT_MISMATCH


def test_nothing_follows_a_final() -> None:
    route = small(stages=1)
    ended(route, 3)
    final = route.head.due(NOW)[-1].signed.record
    route.hand_over(0, Proposal(8, sign(final, NODES[0])))
    assert refused(route, 0, replace(final, seq=4)) is Code.RECEIPT_MISMATCH


def test_a_receipt_of_another_contract_is_refused() -> None:
    route = small()
    route.compute(4)
    receipt = first_due(route, 1)
    assert refused(route, 1, replace(receipt, contract=route.contracts[0].id)) is Code.RECEIPT_MISMATCH


def test_a_receipt_the_node_did_not_sign_is_refused() -> None:
    route = small()
    route.compute(4)
    with pytest.raises(RemoteProtocolError) as error:
        route.hand_over(0, Proposal(4, sign(first_due(route, 0), STRANGER)))
    assert error.value.code is Code.BAD_SIGNATURE


def test_every_bit_of_a_receipt_is_signed() -> None:
    route = small(stages=1)
    route.compute(4)
    route.deliver(1)
    signed = route.head.due(NOW)[0].signed
    for bit in range(8 * len(signed.body)):
        altered = bytearray(signed.body)
        altered[bit // 8] ^= 1 << bit % 8
        with pytest.raises(RemoteProtocolError):
            route.client.propose(0, bytes(altered), signed.signatures[0], 0.0)


def test_neighbours_whose_roots_differ_are_both_refused() -> None:
    route = small()
    route.compute(8)
    route.deliver(3)
    route.propose(0)
    lie = replace(first_due(route, 1), in_root=bytes(32))
    assert refused(route, 1, lie) is Code.RECEIPT_MISMATCH
    refusals = [decision for decision in route.client.lost(1) if isinstance(decision, Refuse)]
    assert [(refusal.stage, refusal.seq, refusal.code) for refusal in refusals] == [(0, 1, Code.RECEIPT_MISMATCH)]


def disputed(route: PaidRoute, place: int, receipt: Receipt) -> bool:
    with pytest.raises(RemoteProtocolError) as error:
        route.hand_over(place, Proposal(0, sign(receipt, NODES[place])))
    assert error.value.code is Code.RECEIPT_MISMATCH
    return isinstance(error.value, Disputed)


@pytest.mark.parametrize(("liar", "honest", "root"), [(0, 1, "out_root"), (1, 0, "in_root"), (2, 1, "in_root")])
def test_of_two_stages_whose_roots_differ_nobody_can_say_who_lies(liar: int, honest: int, root: str) -> None:
    route = small()
    route.compute(4)
    lie = replace(first_due(route, liar), **{root: bytes(32)})
    route.hand_over(liar, Proposal(0, sign(lie, NODES[liar])))
    assert disputed(route, honest, first_due(route, honest))


def test_a_head_lies_about_the_prompt_alone_and_a_tail_about_ids() -> None:
    route = small()
    route.compute(8)
    route.deliver(3)
    assert not disputed(route, 0, replace(first_due(route, 0), in_root=bytes(32)))
    assert not disputed(route, 2, replace(first_due(route, 2), out_root=bytes(32)))
    again = small()
    again.compute(8)
    again.deliver(3)
    [_, later] = again.head.due(NOW)
    assert disputed(again, 0, replace(later.signed.record, in_root=bytes(32)))  # the tail may have sent it other ids


def test_a_root_over_other_ids_than_were_delivered_is_refused_when_they_come() -> None:
    route = small(stages=1)
    route.compute(8)
    due = route.head.due(NOW)
    for proposal in due:
        route.hand_over(0, proposal)
    decisions = route.client.add_ids([1, 2, 3])
    assert [decision.seq for decision in decisions if isinstance(decision, Refuse)] == [2]
    assert signed_stages(decisions) == [(0, 1)]  # of the prompt it says what is true


def test_contracts_that_do_not_join_make_no_route() -> None:
    first, second, third = small().contracts
    for contracts in ([], [first, third], [second, third], [first, second]):
        with pytest.raises(LocalProtocolError):
            ClientAccount(contracts, [1], SECRET, CLIENT)


# What a node takes back


def signature_of(route: PaidRoute) -> Sign:
    route.compute(4)
    route.deliver(1)
    (decision,) = route.propose(0)
    assert isinstance(decision, Sign)
    return decision


def test_a_signature_completes_the_receipt() -> None:
    route = small(stages=1)
    decision = signature_of(route)
    complete = route.head.sign(decision.receipt.body, decision.receipt.signatures[1])
    assert complete == decision.receipt
    assert (route.head.paid, route.head.pending) == (4, ())


def test_a_signature_that_comes_twice_is_no_news() -> None:
    route = small(stages=1)
    decision = signature_of(route)
    route.settle([decision])
    assert route.head.sign(decision.receipt.body, decision.receipt.signatures[1]) is None


def proposed_and_signed() -> tuple[StageAccount, list[Proposal]]:
    """Two proposals of a stage, of which the client has signed both."""
    route = small(stages=1)
    route.compute(8)
    first, second = proposals = route.head.due(NOW)
    for proposal in proposals:
        route.head.sign(proposal.signed.body, client_signature(proposal))
    assert (route.head.paid, route.head.pending) == (second.committed, ())
    assert first.committed < second.committed
    return route.head, proposals


def client_signature(proposal: Proposal) -> bytes:
    return CLIENT.sign(domain(Receipt.TYPE), proposal.signed.body)


def test_what_could_not_be_stored_is_not_paid_and_may_be_signed_again() -> None:
    """RCT-25"""
    account, proposals = proposed_and_signed()
    account.withdraw()
    assert (account.paid, account.complete, list(account.pending)) == (0, None, proposals)
    assert account.sign(proposals[1].signed.body, client_signature(proposals[1])) == account.complete
    assert account.paid == proposals[1].committed


def test_what_was_stored_before_stays_paid() -> None:
    account, (first, second) = proposed_and_signed()
    account.note_stored(countersign(first.signed, CLIENT))
    account.withdraw()
    assert (account.paid, account.complete, account.pending) == (first.committed, account.stored, (second,))


def test_what_is_stored_later_counts_again() -> None:
    account, (first, second) = proposed_and_signed()
    account.withdraw()
    account.note_stored(countersign(second.signed, CLIENT))
    account.note_stored(countersign(first.signed, CLIENT))
    assert (account.paid, account.complete, account.pending) == (second.committed, account.stored, ())
    account.withdraw()
    assert (account.paid, account.pending) == (second.committed, ())


def test_a_signature_by_somebody_else_is_refused() -> None:
    route = small(stages=1)
    body = signature_of(route).receipt.body
    with pytest.raises(RemoteProtocolError) as error:
        route.head.sign(body, STRANGER.sign(domain("receipt"), body))
    assert error.value.code is Code.BAD_SIGNATURE
    assert route.head.paid == 0


def test_a_proposal_that_does_not_fit_the_contract_earns_nothing_though_it_is_signed() -> None:
    route = small(stages=1)
    route.compute(4)
    (early,) = route.head.due(route.contracts[0].record.issued - MAX_SKEW_S - 1)
    with pytest.raises(RemoteProtocolError) as error:
        route.head.sign(early.signed.body, CLIENT.sign(domain("receipt"), early.signed.body))
    assert error.value.code is Code.RECEIPT_MISMATCH
    assert (route.head.paid, route.head.complete) == (0, None)


def test_bytes_that_are_no_receipt_are_a_bad_record() -> None:
    with pytest.raises(RemoteProtocolError) as error:
        small().head.sign(b"\x90", bytes(64))
    assert error.value.code is Code.BAD_RECORD


@pytest.mark.parametrize("settled", [False, True])
def test_the_clients_own_body_under_our_number_is_a_conflict(settled: bool) -> None:
    route = small(stages=1)
    decision = signature_of(route)
    if settled:
        route.settle([decision])
    body = encode(replace(decision.receipt.record, amount=0))
    with pytest.raises(RemoteProtocolError) as error:
        route.head.sign(body, CLIENT.sign(domain("receipt"), body))
    assert error.value.code is Code.RECEIPT_CONFLICT


def test_a_number_that_was_never_proposed_is_refused() -> None:
    route = small(stages=1)
    body = encode(replace(signature_of(route).receipt.record, seq=9))
    with pytest.raises(RemoteProtocolError) as error:
        route.head.sign(body, CLIENT.sign(domain("receipt"), body))
    assert error.value.code is Code.RECEIPT_MISMATCH


def test_accounts_of_one_stage_agree_with_offers_of_one_stage() -> None:
    (offer,) = route_offers(1)
    assert agreed(offer, NODES[0]).record.offer == offer.id
