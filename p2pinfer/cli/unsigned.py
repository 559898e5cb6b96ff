"""Work delivered to clients and not signed for, by their journal: a lost link or a killed client leaves it."""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.table import Table

from p2pinfer.cli.journal_bar import CheckBar
from p2pinfer.cli.screen import Terminal
from p2pinfer.cli.words import time_words, unit_for
from p2pinfer.core.money.ledger import goes_in_a_circle
from p2pinfer.core.records.receipt import Receipt
from p2pinfer.core.records.records import SignedRecord
from p2pinfer.core.values.keys import peer_name, short_name
from p2pinfer.core.values.units import PeerKey, RecordId
from p2pinfer.disk.journal_reader import Unpaid, read_journal
from p2pinfer.disk.key_files import own_keys
from p2pinfer.disk.places import client_journal

MEANING: Final = (
    "Delivered to you, and not signed for: a link broke, or a client was killed. It is signed at the next contact with "
    "the node, as far as your own record goes; until then the node may give you less credit."
)


@dataclass(frozen=True, slots=True)
class Unsigned:
    """Of one node. owed, own: nano-credits, to others and to one's own; since: of the oldest contract, Unix seconds."""

    node: PeerKey
    contracts: tuple[RecordId, ...]
    positions: int
    owed: int
    own: int
    since: int


def forgotten_before() -> int:
    """Nodes have forgotten what was unsigned under contracts that expired until then, Unix seconds."""
    from p2pinfer.disk.journal_changes import UNSIGNED_S

    return int(time.time()) - UNSIGNED_S


def read_unsigned(data: Path) -> list[Unsigned]:
    """The work that a data folder's clients left unsigned, the node with most of it first.

    Without what no node asks for any more: there is no way to be rid of that debt, and no need.
    """
    own, forgotten = own_keys(data), forgotten_before()
    with read_journal(client_journal(data), CheckBar()) as reader:
        found = [unpaid for session in reader.unpaid_sessions() if (unpaid := reader.unpaid(session)) is not None]
    by_node: dict[PeerKey, Unsigned] = {}
    for one in (part for unpaid in found for part in _parts(unpaid, own, forgotten)):
        by_node[one.node] = _added(by_node[one.node], one) if one.node in by_node else one
    return sorted(by_node.values(), key=lambda one: (-one.owed, -one.own, peer_name(one.node)))


def plain(one: Unsigned) -> dict[str, object]:
    """As `--json` prints it."""
    return {
        "node": peer_name(one.node),
        "contracts": [id_.hex() for id_ in one.contracts],
        "positions": one.positions,
        "owed_ncr": one.owed,
        "self_ncr": one.own,
        "since": one.since,
    }


def print_unsigned(unsigned: Sequence[Unsigned], terminal: Terminal) -> None:
    """A table, and what it means."""
    unit = unit_for(max(one.owed, one.own) for one in unsigned)
    table = Table(box=None, pad_edge=False)
    table.add_column("left unsigned by", no_wrap=True)
    for heading in ("positions", f"owed, {unit.short}", f"self, {unit.short}"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("since (UTC)", no_wrap=True)
    for one in unsigned:
        amounts = (unit.write(one.owed), unit.write(one.own))
        since = time_words(one.since).removesuffix(" UTC")
        table.add_row(short_name(one.node), f"{one.positions:,}", *amounts, since)
    terminal.print(table)
    terminal.print(f"\n{MEANING}", highlight=False)


def _parts(unpaid: Unpaid, own: Iterable[PeerKey], forgotten: int) -> Iterator[Unsigned]:
    """The part that each stage of a generation is owed, by the count of ids that were delivered.

    forgotten: contracts that expired until then are left out
    """
    if unpaid.delivered is None:
        return
    for contract in unpaid.contracts:
        terms, receipt = contract.record, unpaid.complete.get(contract.id)
        if terms.expires <= forgotten:
            continue
        signed = terms.work.committed(receipt.record.usage) if receipt else 0
        if (positions := unpaid.delivered.counted - signed) > 0:
            amount = terms.amount(unpaid.delivered.counted) - _amount(receipt)
            circle = goes_in_a_circle(terms, frozenset(own))
            owed, mine = (0, amount) if circle else (amount, 0)
            yield Unsigned(terms.node, (contract.id,), positions, owed, mine, terms.issued)


def _amount(receipt: SignedRecord[Receipt] | None) -> int:
    return receipt.record.amount if receipt is not None else 0


def _added(one: Unsigned, other: Unsigned) -> Unsigned:
    return Unsigned(
        node=one.node,
        contracts=(*one.contracts, *other.contracts),
        positions=one.positions + other.positions,
        owed=one.owed + other.owed,
        own=one.own + other.own,
        since=min(one.since, other.since),
    )
