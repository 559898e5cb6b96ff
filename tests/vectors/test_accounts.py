"""The cases of receipts.md, 5.2 and 5.3, against the accounts of node and client."""

from typing import Any

from p2pinfer.core.money.budget import Left
from p2pinfer.core.money.client_account import ClientAccount, Decision, Refuse, Repeat, Sign
from p2pinfer.core.money.stage_account import StageAccount
from p2pinfer.core.records.contract import Contract
from p2pinfer.core.records.records import SignedRecord, decode, record_id
from p2pinfer.core.values.codes import ANSWERS, Code
from p2pinfer.core.values.errors import RemoteProtocolError
from p2pinfer.core.wire.session_messages import pack_ids
from tests.core.paid_route import CLIENT, NODES
from tests.vectors.test_records import Vector, hexed, vectors


def contract_of(body: str) -> SignedRecord[Contract]:
    data = bytes.fromhex(body)
    return SignedRecord(decode(Contract, data), record_id(Contract, data), data, ())


def code_of(name: str) -> Code:
    return next(code for code in Code if code.label == name)


@vectors("receipts.json", "signing")
def test_signing(vector: Vector) -> None:
    contracts = [contract_of(body) for body in vector["contracts"]]
    account = ClientAccount(contracts, vector["prompt"], *hexed(vector, "secret"), CLIENT)
    for step in vector["steps"]:
        assert outcome(account, step) == (step["expect"] if "expect" in step else in_order(step["then"]))


def outcome(account: ClientAccount, step: dict[str, Any]) -> object:
    """The client's decisions, or the code with which it refuses."""
    try:
        return in_order([told(decision) for decision in _decide(account, step)])
    except RemoteProtocolError as error:
        return error.code.label


def _decide(account: ClientAccount, step: dict[str, Any]) -> list[Decision]:
    if "ids" in step:
        return account.add_ids(step["ids"])
    if "lost" in step:
        return account.lost(step["lost"])
    if "closed" in step:
        account.give_up()
        return []
    if "back" in step:
        account.wait_anew(step["back"])
        return []
    if "late" in step:
        return [*account.late(step["late"])]
    return account.propose(step["stage"], *hexed(step, "receipt", "signature"), step["at"])


def told(decision: Decision) -> dict[str, Any]:
    match decision:
        case Sign(stage, receipt):
            return {"stage": stage, "signs": receipt.record.seq}
        case Repeat(stage, receipt):
            return {"stage": stage, "repeats": receipt.record.seq}
        case Refuse(stage, seq, code):
            return {"stage": stage, "refuses": seq, "code": code.label}


def in_order(decisions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """By stage: which is told first is left open."""
    return sorted(decisions, key=lambda decision: int(decision["stage"]))


@vectors("receipts.json", "proposing")
def test_proposing(vector: Vector) -> None:
    account = StageAccount(contract_of(vector["contract"]), *hexed(vector, "secret"), NODES[0])
    computed = 0
    for step in vector["steps"]:
        _take(account, step, computed)
        computed = step.get("computed", computed)


def _take(account: StageAccount, step: dict[str, Any], computed: int) -> None:
    if "computed" in step:
        account.add_inputs(computed, pack_ids(step["ids_in"]), len(step["ids_in"]))
        if "rows_out" in step:
            account.add_outputs(computed, b"".join(map(bytes.fromhex, step["rows_out"])), len(step["rows_out"]))
        elif step["ids_out"]:
            first = max(account.contract.record.prompt, computed + 1)
            account.add_outputs(first, pack_ids(step["ids_out"]), len(step["ids_out"]))
        account.commit_step(computed, step["computed"])
    elif "due" in step:
        assert [proposal.signed.body.hex() for proposal in account.due(step["now"])] == step["due"]
    elif "close" in step:
        _close(account, code_of(step["close"]), step.get("upto"), computed)
    elif "closed" in step:
        assert account.closed is step["closed"]
    elif "unsigned" in step:
        left = Left(account.contract.record, account.worked, account.proposed, account.paid, 0)
        assert (left.unsigned, left.given_up) == (step["unsigned"], step["given_up"])
    elif "counted" in step:
        assert _counted(account, step["counted"]) == step["expect"]
    elif "limit" in step:
        assert account.limit == step["limit"]
    else:
        assert _signed(account, step) == step["expect"]


def _close(account: StageAccount, reason: Code, upto: int | None, computed: int) -> None:
    if reason in ANSWERS:
        account.commit(computed)
        account.close(reason)
    elif upto is None:
        account.abandon(reason)
    else:
        account.close(reason, upto)


def _counted(account: StageAccount, positions: int) -> str:
    try:
        account.check_counted(positions)
    except RemoteProtocolError as error:
        return error.code.label
    return "ok"


def _signed(account: StageAccount, step: dict[str, Any]) -> object:
    try:
        complete = account.sign(*hexed(step, "receipt", "signature"))
    except RemoteProtocolError as error:
        return error.code.label
    return complete and complete.record.seq
