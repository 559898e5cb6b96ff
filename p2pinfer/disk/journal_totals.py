"""The sums of receipts that are complete, kept with the receipts themselves (see `total` in journal_tables.py)."""

import sqlite3
from dataclasses import dataclass
from typing import Final

from p2pinfer.core.records.receipt import FINAL, Receipt
from p2pinfer.core.values.units import PeerKey, RecordId
from p2pinfer.disk.journal_tables import DAY_S, LOW_BITS

LOW: Final = (1 << LOW_BITS) - 1
ADD: Final = """INSERT INTO total VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10,
        row_digest(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10))
    ON CONFLICT DO UPDATE SET receipts = receipts + excluded.receipts, positions = positions + excluded.positions,
    sampled = sampled + excluded.sampled, high = high + excluded.high, low = low + excluded.low,
    digest = row_digest(day, client, node, owner, model, receipts + excluded.receipts, positions + excluded.positions,
        sampled + excluded.sampled, high + excluded.high, low + excluded.low)"""
CLEAR: Final = """DELETE FROM total
    WHERE day = ? AND client = ? AND node = ? AND owner = ? AND model = ? AND receipts = 0"""


@dataclass(frozen=True, slots=True)
class Parties:
    """The fields of a contract that the sums need."""

    client: PeerKey
    node: PeerKey
    owner: bytes
    model: bytes
    layers: int


@dataclass(frozen=True, slots=True)
class Counted:
    """The fields of a receipt that the sums need. work: layer-tokens."""

    seq: int
    final: int
    time: int
    work: int
    positions: int
    sampled: int
    amount: int

    @property
    def day(self) -> int:
        return self.time // DAY_S

    @property
    def signed(self) -> int:
        """Work that is signed for in full."""
        return self.work * self.final

    @property
    def sums(self) -> tuple[int, ...]:
        return 1, self.positions, self.sampled, self.amount >> LOW_BITS, self.amount & LOW


def parties_of(db: sqlite3.Connection, contract: RecordId) -> Parties | None:
    """The parties of a contract; None where it is not known."""
    query = "SELECT client, node, owner, model, layers FROM contract WHERE id = ?"
    found = db.execute(query, (contract,)).fetchone()
    return Parties(*found) if found is not None else None


def counted(receipt: Receipt, parties: Parties) -> Counted:
    usage = receipt.usage
    positions = usage.positions(parties.layers)
    end = int(receipt.state == FINAL)
    return Counted(
        receipt.seq, end, receipt.time, usage.prefill + usage.decode, positions, usage.sampled, receipt.amount
    )


def counted_before(db: sqlite3.Connection, contract: RecordId) -> Counted | None:
    """The highest complete receipt of a contract, as it stands in the sums."""
    query = "SELECT seq, final, time, work, positions, sampled, amount FROM receipt WHERE contract = ?"
    found = db.execute(query, (contract,)).fetchone()
    return Counted(*found) if found is not None else None


def count(db: sqlite3.Connection, parties: Parties, now: Counted, before: Counted | None) -> None:
    """A receipt takes the place of the one before of its contract."""
    key = parties.client, parties.node, parties.owner, parties.model
    if before is not None and before.day == now.day:
        changes = tuple(new - old for new, old in zip(now.sums, before.sums, strict=True))
        db.execute(ADD, (now.day, *key, *changes))
    else:
        db.execute(ADD, (now.day, *key, *now.sums))
        if before is not None:
            db.execute(ADD, (before.day, *key, *(-one for one in before.sums)))
            db.execute(CLEAR, (before.day, *key))
    if work := now.signed - (before.signed if before is not None else 0):
        add = "INSERT INTO signed VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET work = work + excluded.work"
        db.execute(add, (parties.client, parties.node, work))
