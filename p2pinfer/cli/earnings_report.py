"""Earnings by a node's journal: rows for `p2pinfer earnings`, printed for people or for programs.

Amounts are summed in core/money/ledger.py. What strangers owe is in a column of its own, and is added to nothing else.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table

from p2pinfer.cli.journal_bar import CheckBar
from p2pinfer.cli.screen import Terminal
from p2pinfer.cli.words import SHORT_ID, Unit, many, time_words, unit_for
from p2pinfer.core.money.ledger import By, Subtotal, Total, add_up, fold_all, group
from p2pinfer.core.values.errors import UsageError
from p2pinfer.core.values.keys import parse_peer_name, short_name
from p2pinfer.core.values.units import ModelId, PeerKey, RecordId
from p2pinfer.disk.journal_reader import JournalReader, read_journal
from p2pinfer.disk.key_files import own_keys
from p2pinfer.disk.places import node_journal

BAR_WIDTH: Final = 16
MONEY: Final = "ncr: nano-credits, 1,000,000,000 of them are one credit."
UNBACKED: Final = (
    "unbacked: promises to pay, signed by those who asked. Each payer owes you that much on its word alone, and "
    "nothing guarantees that it will pay."
)
OWN: Final = "self: owed by your own keys, so the money stays yours. It is never added to what others owe."
HEADINGS: Final = {
    By.DAY: ("day (UTC)",),
    By.MODEL: ("model", "id"),
    By.PAYER: ("payer",),
    By.NODE: ("node",),
    By.SESSION: ("last receipt (UTC)", "contract"),
}
BARS: Final = (By.DAY, By.PAYER, By.NODE)  # models and sessions leave no room for them

Names = Mapping[ModelId, str]


@dataclass(frozen=True, slots=True)
class Report:
    """The journal's receipts, under headings. own: keys of the owner; unsigned: contracts with work not signed for."""

    parts: list[Subtotal]
    by: By
    own: frozenset[PeerKey]
    unsigned: int


@dataclass(frozen=True, slots=True)
class ReportRow:
    """A heading's total, and what leads on from it where that is one session.

    time: of the latest receipt, Unix seconds
    """

    total: Total
    time: int
    contracts: list[RecordId]


def read_report(folders: Iterable[Path], by: By, since: int = 0) -> Report:
    """The receipts that the nodes of data folders earned since the beginning of a day (Unix seconds).

    Raises UsageError where no node has run with one of them, or two are the same node's; JournalError where a journal
    cannot be trusted.
    """
    parts: list[Subtotal] = []
    own: set[PeerKey] = set()
    unsigned, earner = 0, dict[PeerKey, Path]()
    for folder in folders:
        with read_journal(node_journal(folder), CheckBar()) as reader:
            found = read_parts(reader, by, since)
            unsigned += reader.count_proposed()
        for node in {part.node for part in found}:
            if (other := earner.setdefault(node, folder)) is not folder:
                raise UsageError(
                    f"{folder} and {other} hold earnings of the same node: one is a copy, so name one only"
                )
        parts += found
        own |= own_payers(found, folder)
    return Report(parts, by, frozenset(own), unsigned)


def read_parts(reader: JournalReader, by: By, since: int) -> list[Subtotal]:
    """The sums under such headings: receipts one by one only where each is shown."""
    return reader.parts(since) if by is By.SESSION else reader.totals(since)


def own_payers(parts: Iterable[Subtotal], data: Path) -> frozenset[PeerKey]:
    """Keys with which the owner would pay itself: those in the folder, and the owner's own, kept elsewhere perhaps."""
    return own_keys(data) | {PeerKey(part.owner) for part in parts}


def summary(report: Report, names: Names) -> dict[str, object]:
    """Earnings as `--json` prints them."""
    return {
        "by": report.by.value,
        "rows": [_plain(row, report.by, names) for row in rows(report)],
        "total": _amounts(fold_all(report.parts, report.own)),
        "unsigned": report.unsigned,
    }


def print_report(report: Report, names: Names, console: Terminal) -> None:
    """Earnings as a table, and what its columns mean."""
    if report.parts:
        console.print(_table(report, names))
        console.print(f"\n{MONEY}", highlight=False)
        console.print(UNBACKED, highlight=False)
        if any(part.client in report.own for part in report.parts):
            console.print(OWN, highlight=False)
    else:
        console.print("nothing earned: no client has signed a receipt in this time", highlight=False)
    if report.unsigned:
        console.print(
            f"Not signed yet, so not earned: work under {many(report.unsigned, 'contract')}.", highlight=False
        )


def rows(report: Report) -> list[ReportRow]:
    """In the order in which people look: what has a time by time, else by amount."""
    found = [
        ReportRow(
            add_up(heading, parts, report.own),
            max(part.time for part in parts),
            [part.contract for part in parts if part.contract is not None],
        )
        for heading, parts in sorted(group(report.parts, report.by).items())
    ]
    if report.by in (By.DAY, By.SESSION):
        return sorted(found, key=lambda row: row.time)
    return sorted(found, key=lambda row: (-row.total.unbacked, -row.total.own, row.total.heading))


def _plain(row: ReportRow, by: By, names: Names) -> dict[str, object]:
    heading: dict[str, object] = {by.value: row.total.heading}
    if by is By.MODEL:
        heading["name"] = names.get(_model(row), "")
    if by is By.SESSION:
        heading |= {"time": row.time, "contracts": [id_.hex() for id_ in row.contracts]}
    return heading | _amounts(row.total)


def _amounts(total: Total) -> dict[str, object]:
    return {
        "receipts": total.receipts,
        "positions": total.positions,
        "sampled": total.sampled,
        "unbacked_ncr": total.unbacked,
        "self_ncr": total.own,
    }


def _table(report: Report, names: Names) -> Table:
    found, by, whole = rows(report), report.by, fold_all(report.parts, report.own)
    unit = unit_for(max(row.total.unbacked, row.total.own) for row in found)
    several = len(found) > 1
    table = Table(box=None, pad_edge=False, show_footer=several)
    first, *others = HEADINGS[by]
    table.add_column(first, footer="total", vertical="bottom", overflow="fold")
    for heading in others:
        table.add_column(heading, no_wrap=True)
    for heading, footer in zip(("receipts", "positions", *_money(unit)), _numbers(whole, unit), strict=True):
        table.add_column(heading, footer=footer, justify="right", no_wrap=True)
    bars = several and by in BARS
    if bars:
        table.add_column("unbacked")
    most = max(row.total.unbacked for row in found)
    for row in found:
        bar = [_bar(row.total.unbacked, most)] if bars else []
        table.add_row(*heading_cells(row, by, names), *_numbers(row.total, unit), *bar)
    return table


def _money(unit: Unit) -> tuple[str, str]:
    return f"unbacked, {unit.short}", f"self, {unit.short}"


def heading_cells(row: ReportRow, by: By, names: Names) -> list[RenderableType]:
    """The first cells of a row."""
    match by:
        case By.DAY:
            return [row.total.heading]
        case By.MODEL:
            return [names.get(_model(row), "not in the store"), row.total.heading[:SHORT_ID]]
        case By.PAYER | By.OWNER | By.NODE:
            return [short_name(parse_peer_name(row.total.heading))]
        case By.SESSION:
            more = f" +{len(row.contracts) - 1}" if len(row.contracts) > 1 else ""
            return [time_words(row.time).removesuffix(" UTC"), row.contracts[0].hex()[:SHORT_ID] + more]


def _model(row: ReportRow) -> ModelId:
    return ModelId(bytes.fromhex(row.total.heading))


def _numbers(total: Total, unit: Unit) -> list[str]:
    amounts = (unit.write(amount) for amount in (total.unbacked, total.own))
    return [f"{total.receipts:,}", f"{total.positions:,}", *amounts]


def _bar(amount: int, most: int) -> ProgressBar:
    return ProgressBar(total=max(1, most), completed=amount, width=BAR_WIDTH)
