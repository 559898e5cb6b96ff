"""Rows of the journal as values: what was written, or damage.

Values are built from the bytes as they were stored; the signatures were checked before that.
"""

from collections.abc import Sequence
from typing import Any, Final

from p2pinfer.core.money.ledger import Earned, Subtotal
from p2pinfer.core.records.contract import Contract
from p2pinfer.core.records.receipt import Receipt
from p2pinfer.core.records.records import R, SignedRecord, decode, record_id
from p2pinfer.core.values.units import Nanocredits, RecordId, SessionId
from p2pinfer.disk.journal_tables import DAY_S, LOW_BITS, RECEIPT_COLUMNS, row_digest

ID_DIGITS: Final = 64


class DamagedRow(Exception):
    """A row is not what was written."""


def whole(row: Sequence[Any]) -> Sequence[Any]:
    """The columns of a row, without the digest at its end, to which they come."""
    *values, digest = row
    if digest != row_digest(values):
        raise DamagedRow("a row is not what was written, or lacks the contract it belongs to")
    return values


def halves_of(row: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any]]:
    """The columns of a receipt and those of its contract."""
    return whole(row[:RECEIPT_COLUMNS]), whole(row[RECEIPT_COLUMNS:])


def signed_of(shape: type[R], id_: bytes, body: bytes, *signatures: bytes) -> SignedRecord[R]:
    if record_id(shape, body) != id_:
        raise DamagedRow("a record is not what was written")
    return SignedRecord(decode(shape, body), RecordId(id_), body, signatures)


def contract_of(columns: Sequence[Any]) -> tuple[SignedRecord[Contract], SessionId]:
    id_, body, client, node, *_, session, _expires = columns
    return signed_of(Contract, id_, body, client, node), SessionId(session)


def with_id(receipt: Receipt, body: bytes, signatures: tuple[bytes, ...]) -> SignedRecord[Receipt]:
    return SignedRecord(receipt, record_id(Receipt, body), body, signatures)


def earned_of(receipt: Sequence[Any], contract: Sequence[Any]) -> Earned:
    agreed, session = contract_of(contract)
    return Earned(agreed, receipt_of(receipt), session)


def receipt_of(columns: Sequence[Any]) -> SignedRecord[Receipt]:
    _, _, body, node, client, *_ = columns
    return with_id(decode(Receipt, body), body, (node, client))


def part_of(receipt: Sequence[Any], contract: Sequence[Any]) -> Subtotal:
    *_, time, client, node, _work, positions, sampled, amount = receipt
    id_, _, _, _, _, _, owner, model, _layers, session, _expires = contract
    return Subtotal(time, client, node, owner, model, 1, positions, sampled, amount, session, id_)


def total_of(columns: Sequence[Any]) -> Subtotal:
    day, client, node, owner, model, receipts, positions, sampled, high, low = columns
    return Subtotal(
        day * DAY_S, client, node, owner, model, receipts, positions, sampled, Nanocredits((high << LOW_BITS) + low)
    )


def between(prefix: str) -> tuple[bytes, bytes]:
    """The lowest and the highest id that begin with these hex digits."""
    return bytes.fromhex(prefix.ljust(ID_DIGITS, "0")), bytes.fromhex(prefix.ljust(ID_DIGITS, "f"))
