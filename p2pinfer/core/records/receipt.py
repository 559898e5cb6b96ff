"""Receipts: a cumulative total of one contract's work, signed by the node, then by the client (protocols/receipts.md).

The highest number that both signed is the whole truth of a contract. `core/money/stage_account.py` says when one is
due, `core/money/client_account.py` when it may be signed.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

from p2pinfer.core.records.contract import Contract
from p2pinfer.core.records.pricing import Usage, amount_of
from p2pinfer.core.records.records import MAX_SKEW_S, Record, SignedRecord, verify_record
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import RemoteProtocolError
from p2pinfer.core.values.fields import Bin, Struct, UInt
from p2pinfer.core.values.units import RecordId

RUNNING: Final = 0
FINAL: Final = 1


@dataclass(frozen=True, slots=True)
class Receipt(Record):
    """Signatures: the node's, then the client's."""

    TYPE: ClassVar = "receipt"
    contract: Annotated[RecordId, Bin(32)]
    seq: Annotated[int, UInt(32)]
    usage: Annotated[Usage, Struct(Usage)]
    amount: Annotated[int, UInt()]  # nano-credits, cumulative
    in_root: Annotated[bytes, Bin(32)]
    out_root: Annotated[bytes, Bin(32)]
    time: Annotated[int, UInt()]  # the node's clock, Unix seconds
    state: Annotated[int, UInt(1)]
    reason: Annotated[int, UInt(8)]

    def contradiction(self) -> str | None:
        if self.seq < 1:
            return "numbers begin at 1"
        if (self.state == FINAL) != (self.reason != Code.NONE):
            return f"state {self.state} with reason {self.reason}"
        return None

    def follows(self, earlier: "Receipt") -> str | None:
        """The reason for which this cannot come after `earlier` of its contract, or None; signing both is cheating."""
        if self.seq == earlier.seq:
            return f"two bodies under number {self.seq}"
        if self.seq < earlier.seq:
            return f"number {self.seq} after number {earlier.seq}"
        if earlier.state == FINAL:
            return f"number {self.seq} after the final {earlier.seq}"
        if not earlier.usage <= self.usage or self.amount < earlier.amount or self.time < earlier.time:
            return f"number {self.seq} takes back what {earlier.seq} stated"
        if self.usage == earlier.usage and (self.in_root, self.out_root) != (earlier.in_root, earlier.out_root):
            return f"numbers {earlier.seq} and {self.seq} state other roots at one position"
        return None


def contradiction_of(a: SignedRecord[Receipt], b: SignedRecord[Receipt]) -> str | None:
    """The reason for which two receipts of one contract cannot both be true, or None."""
    if a.body == b.body:
        return None
    earlier, later = sorted((a.record, b.record), key=lambda receipt: receipt.seq)
    return later.follows(earlier)


def check_receipt(receipt: Receipt, contract: SignedRecord[Contract]) -> None:
    """Hold a receipt to its contract: formula, reserve, limits, times.

    Raises RemoteProtocolError (RECEIPT_MISMATCH).
    """
    terms = contract.record
    if why := _misfit(receipt, contract.id, terms):
        raise RemoteProtocolError(f"receipt {receipt.seq}: {why}", Code.RECEIPT_MISMATCH)


def _misfit(receipt: Receipt, contract_id: RecordId, terms: Contract) -> str | None:
    amount = amount_of(terms.prices, terms.flat, receipt.usage)
    if receipt.contract != contract_id:
        return "it names another contract"
    if receipt.amount != amount:
        return f"amount {receipt.amount} ncr, usage and prices give {amount} ncr"
    if receipt.amount > terms.reserve:
        return f"amount {receipt.amount} ncr, the reserve is {terms.reserve} ncr"
    if not terms.issued - MAX_SKEW_S <= receipt.time <= terms.expires:
        return f"time {receipt.time}, the contract runs from {terms.issued} to {terms.expires}"
    try:
        committed = terms.work.committed(receipt.usage)
    except ValueError as error:
        return str(error)
    if committed > terms.limits.max_positions:
        return f"{committed} positions, limit {terms.limits.max_positions}"
    return None


def verify_proposal(body: bytes, signature: bytes, contract: SignedRecord[Contract]) -> SignedRecord[Receipt]:
    """A receipt with the node's signature alone: nothing earned, but evidence against the node.

    Raises RemoteProtocolError: BAD_RECORD, BAD_SIGNATURE or RECEIPT_MISMATCH.
    """
    signed = verify_record(Receipt, body, (signature,), lambda _: (contract.record.node,))
    check_receipt(signed.record, contract)
    return signed


def verify_receipt(body: bytes, node: bytes, client: bytes, contract: SignedRecord[Contract]) -> SignedRecord[Receipt]:
    """The way from bytes to a complete receipt, which is a debt of the client.

    Raises RemoteProtocolError: BAD_RECORD, BAD_SIGNATURE or RECEIPT_MISMATCH.
    """
    signers = (contract.record.node, contract.record.client)
    signed = verify_record(Receipt, body, (node, client), lambda _: signers)
    check_receipt(signed.record, contract)
    return signed
