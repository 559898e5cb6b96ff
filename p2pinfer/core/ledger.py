"""Earnings and debts, folded from complete receipts (protocols/receipts.md, "Worth").

A receipt is a debt of its client. Debts of strangers are never added to anything better: in this release every debt is
`unbacked`, or `own` where both ends are keys of one owner and the money goes in a circle.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Final

from p2pinfer.core.contract import Contract
from p2pinfer.core.keys import peer_name
from p2pinfer.core.receipt import Receipt
from p2pinfer.core.records import SignedRecord
from p2pinfer.core.units import Nanocredits, PeerKey, SessionId


@dataclass(frozen=True, slots=True)
class Earned:
    """A contract and its highest complete receipt."""

    contract: SignedRecord[Contract]
    receipt: SignedRecord[Receipt]
    session: SessionId


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


def fold(earned: Iterable[Earned], by: By, own: Collection[PeerKey] = ()) -> list[Total]:
    """Totals for each heading, in order of the headings. own: keys of whoever asks."""
    groups: dict[str, list[Earned]] = {}
    for one in earned:
        groups.setdefault(HEADINGS[by](one), []).append(one)
    return [_total(heading, groups[heading], own) for heading in sorted(groups)]


def fold_all(earned: Iterable[Earned], own: Collection[PeerKey] = ()) -> Total:
    """One total for everything."""
    return _total("total", list(earned), own)


HEADINGS: Final[dict[By, Callable[[Earned], str]]] = {
    By.DAY: lambda one: datetime.fromtimestamp(one.receipt.record.time, UTC).strftime("%Y-%m-%d"),
    By.MODEL: lambda one: one.contract.record.model.hex(),
    By.PAYER: lambda one: peer_name(one.contract.record.client),
    By.OWNER: lambda one: peer_name(one.contract.record.owner),
    By.NODE: lambda one: peer_name(one.contract.record.node),
    By.SESSION: lambda one: one.session.hex(),
}


def _total(heading: str, group: list[Earned], own: Collection[PeerKey]) -> Total:
    return Total(
        heading=heading,
        receipts=len(group),
        positions=sum(one.receipt.record.usage.positions(len(one.contract.record.span)) for one in group),
        sampled=sum(one.receipt.record.usage.sampled for one in group),
        unbacked=_sum(one for one in group if not goes_in_a_circle(one.contract.record, own)),
        own=_sum(one for one in group if goes_in_a_circle(one.contract.record, own)),
    )


def goes_in_a_circle(contract: Contract, own: Collection[PeerKey]) -> bool:
    """Both ends of a contract are keys of `own`, so that somebody owes it to itself."""
    return contract.client in own and (PeerKey(contract.owner) in own or contract.node in own)


def _sum(group: Iterable[Earned]) -> Nanocredits:
    return Nanocredits(sum(one.receipt.record.amount for one in group))
