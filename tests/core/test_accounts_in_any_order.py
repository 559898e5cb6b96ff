"""Receipts in any order, of any numbers, signed by anybody: accounts refuse what is wrong and keep their laws."""

from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pinfer.core.money.client_account import Refuse, Sign
from p2pinfer.core.records.pricing import Usage, amount_of
from p2pinfer.core.records.receipt import FINAL, RUNNING, Receipt
from p2pinfer.core.records.records import sign
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import RemoteProtocolError
from p2pinfer.core.values.keys import PrivateKey, domain
from tests.core.paid_route import CLIENT, NODES, NOW, SMALL, STRANGER, PaidRoute, paid_route

PROMPT = 6
LAYERS = 4
EDGE = (1 << 28) - 1
COUNTS = st.one_of(st.integers(0, 20), st.sampled_from([EDGE, EDGE - 1]))
SEQS = st.one_of(st.integers(1, 6), st.just((1 << 32) - 1))
ROOTS = st.sampled_from([bytes(32), bytes([7]) * 32])


def a_receipt(draw: st.DrawFn, route: PaidRoute, place: int) -> Receipt:
    """One that keeps the form, of a usage that may be anything, or what the work comes to."""
    contract = route.contracts[place]
    terms = contract.record
    if draw(st.booleans()):
        usage = terms.work.usage(draw(st.integers(0, terms.limits.max_positions)))
    else:
        usage = Usage(draw(COUNTS), draw(COUNTS), draw(COUNTS), draw(COUNTS))
    final = draw(st.booleans())
    return Receipt(
        contract=contract.id,
        seq=draw(SEQS),
        usage=usage,
        amount=min((1 << 53) - 1, amount_of(terms.prices, terms.flat, usage)),
        in_root=draw(ROOTS),
        out_root=draw(ROOTS),
        time=NOW + draw(st.integers(0, 9)),
        state=FINAL if final else RUNNING,
        reason=draw(st.sampled_from([Code.LENGTH, Code.CANCELLED, Code.LOST])) if final else Code.NONE,
    )


receipts = st.composite(a_receipt)


def signature(key: PrivateKey, receipt: bytes) -> bytes:
    return key.sign(domain(Receipt.TYPE), receipt)


@pytest.mark.parametrize("stages", [1, 2])
@settings(max_examples=30)  # each checks many signatures
@given(data=st.data())
def test_a_stage_takes_any_signature_and_any_end(stages: int, data: st.DataObject) -> None:
    route = paid_route(stages, PROMPT, LAYERS, SMALL)
    account, computed = route.tail, 0
    for _ in range(data.draw(st.integers(1, 10))):
        match data.draw(st.sampled_from(["compute", "due", "sign", "forge", "close"])):
            case "compute" if not account.closed and computed < account.limit:
                computed = data.draw(st.integers(computed + 1, account.limit))
                route.compute(computed, [stages - 1])
            case "due":
                account.due(NOW)
            case "sign" if account.pending:
                proposal = data.draw(st.sampled_from(account.pending)).signed
                key = data.draw(st.sampled_from([CLIENT, CLIENT, CLIENT, STRANGER]))
                try_to_sign(route, proposal.body, signature(key, proposal.body))
            case "forge":
                body = sign(data.draw(receipts(route, stages - 1)), NODES[stages - 1]).body
                try_to_sign(route, body, signature(CLIENT, body))
            case "close":
                account.close(Code.CANCELLED, data.draw(st.sampled_from([0, 1, 7, (1 << 32) - 1])))
        assert account.paid <= account.committed <= computed <= SMALL.max_positions
        assert account.limit - account.paid <= SMALL.window
        seqs = [proposal.seq for proposal in account.pending]
        assert seqs == sorted(set(seqs))


def try_to_sign(route: PaidRoute, body: bytes, by: bytes) -> None:
    account, before = route.tail, route.tail.paid
    try:
        account.sign(body, by)
    except RemoteProtocolError:
        assert account.paid == before
    assert account.paid >= before


@pytest.mark.parametrize("stages", [1, 2])
@settings(max_examples=30)  # each checks many signatures
@given(data=st.data())
def test_a_client_takes_any_proposal(stages: int, data: st.DataObject) -> None:
    route = paid_route(stages, PROMPT, LAYERS, SMALL)
    now = 0.0
    for _ in range(data.draw(st.integers(1, 10))):
        place = data.draw(st.integers(0, stages - 1))
        now += data.draw(st.sampled_from([0.0, 0.1, 2.5]))
        match data.draw(st.sampled_from(["propose", "propose", "honest", "deliver", "lose", "late"])):
            case "propose":
                propose(route, place, data.draw(receipts(route, place)), now)
            case "honest":
                upto = data.draw(st.integers(0, 12))
                if upto > route.stages[place].committed:
                    route.compute(upto, [place])
                with suppress(RemoteProtocolError):  # what it said before may speak against it
                    check(route, route.propose(place, at=now))
            case "deliver":
                check(route, route.deliver(data.draw(st.integers(1, 3))))
            case "lose":
                check(route, route.client.lost(place))
            case "late":
                check(route, route.client.late(now))


def propose(route: PaidRoute, place: int, receipt: Receipt, now: float) -> None:
    signed = sign(receipt, NODES[place])
    try:
        decisions = route.client.propose(place, signed.body, signed.signatures[0], now)
    except RemoteProtocolError:
        return
    check(route, decisions)
    again = sign(replace(receipt, time=receipt.time + 1), NODES[place])
    with pytest.raises(RemoteProtocolError):
        route.client.propose(place, again.body, again.signatures[0], now)


def check(route: PaidRoute, decisions: object) -> None:
    """What is signed lies within what the client counts."""
    assert isinstance(decisions, list)
    for decision in decisions:
        if isinstance(decision, Sign):
            terms = route.contracts[decision.stage].record
            committed = terms.work.committed(decision.receipt.record.usage)
            assert committed <= max(PROMPT, route.client.counted)
        elif isinstance(decision, Refuse):
            assert decision.code in (Code.RECEIPT_AHEAD, Code.RECEIPT_MISMATCH)
