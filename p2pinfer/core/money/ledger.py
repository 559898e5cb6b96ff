"""Earnings and debts, folded from complete receipts (protocols/receipts.md, "Worth").

A receipt is a debt of its client. Debts of strangers are never added to anything better: in this release every debt is
`unbacked`, or `own` where both ends are keys of one owner and the money goes in a circle.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Final

from p2pinfer.core.records.contract import Contract
from p2pinfer.core.records.receipt import Receipt
from p2pinfer.core.records.records import SignedRecord
from p2pinfer.core.values.keys import peer_name
from p2pinfer.core.values.units import ModelId, Nanocredits, OwnerKey, PeerKey, RecordId, SessionId

DAY_S: Final = 86_400


@dataclass(frozen=True, slots=True)
class Subtotal:
    """Receipts that are added up: one, or all of one day between the same parties.

    time:              of the receipt, or when the day began, Unix seconds
    positions:         computed, prompt included; sampled: ids, at the tail
    session, contract: of one receipt
    """

    time: int
    client: PeerKey
    node: PeerKey
    owner: OwnerKey
    model: ModelId
    receipts: int
    positions: int
    sampled: int
    amount: Nanocredits
    session: SessionId | None = None
    contract: RecordId | None = None

    @property
    def day(self) -> int:
        """In days since 1970, UTC."""
        return self.time // DAY_S


@dataclass(frozen=True, slots=True)
class Earned:
    """A contract and its highest complete receipt."""

    contract: SignedRecord[Contract]
    receipt: SignedRecord[Receipt]
    session: SessionId

    @property
    def part(self) -> Subtotal:
        terms, total = self.contract.record, self.receipt.record
        parties = terms.client, terms.node, terms.owner, terms.model
        sums = 1, total.usage.positions(len(terms.span)), total.usage.sampled, Nanocredits(total.amount)
        return Subtotal(total.time, *parties, *sums, self.session, self.contract.id)


@dataclass(frozen=True, slots=True)
class Total:
    """The earnings under one heading. positions: computed, prompt included; sampled: ids, at the tail."""

    heading: str
    receipts: int
    positions: int
    sampled: int
    unbacked: Nanocredits  # owed by others, or to others, on the client's word alone
    own: Nanocredits  # owed by one's own keys to one's own


class By(Enum):
    """Headings."""

    DAY = "day"  # of the receipt, UTC
    MODEL = "model"
    PAYER = "payer"
    OWNER = "owner"
    NODE = "node"
    SESSION = "session"


def fold(parts: Iterable[Subtotal], by: By, own: Collection[PeerKey] = ()) -> list[Total]:
    """Totals for each heading, in order of the headings. own: keys of whoever asks."""
    groups = group(parts, by)
    return [add_up(heading, groups[heading], own) for heading in sorted(groups)]


def fold_all(parts: Iterable[Subtotal], own: Collection[PeerKey] = ()) -> Total:
    """One total for everything."""
    return add_up("total", list(parts), own)


def group(parts: Iterable[Subtotal], by: By) -> dict[str, list[Subtotal]]:
    """The parts under each heading."""
    key, heading = HEADINGS[by]
    groups: dict[Any, list[Subtotal]] = {}
    for part in parts:
        groups.setdefault(key(part), []).append(part)
    return {heading(one): group for one, group in groups.items()}


def add_up(heading: str, parts: Sequence[Subtotal], own: Collection[PeerKey]) -> Total:
    """The total of all parts under a heading."""
    return Total(
        heading=heading,
        receipts=sum(part.receipts for part in parts),
        positions=sum(part.positions for part in parts),
        sampled=sum(part.sampled for part in parts),
        unbacked=Nanocredits(sum(part.amount for part in parts if not goes_in_a_circle(part, own))),
        own=Nanocredits(sum(part.amount for part in parts if goes_in_a_circle(part, own))),
    )


def _day_name(day: int) -> str:
    return datetime.fromtimestamp(day * DAY_S, UTC).strftime("%Y-%m-%d")


# What the parts under one heading have in common, and how that is written
HEADINGS: Final[dict[By, tuple[Callable[[Subtotal], Any], Callable[[Any], str]]]] = {
    By.DAY: (lambda part: part.day, _day_name),
    By.MODEL: (lambda part: part.model, bytes.hex),
    By.PAYER: (lambda part: part.client, peer_name),
    By.OWNER: (lambda part: part.owner, peer_name),
    By.NODE: (lambda part: part.node, peer_name),
    By.SESSION: (lambda part: part.session, bytes.hex),
}


def goes_in_a_circle(parties: Subtotal | Contract, own: Collection[PeerKey]) -> bool:
    """Both ends are keys of `own`, so that somebody owes it to itself."""
    return parties.client in own and (PeerKey(parties.owner) in own or parties.node in own)
