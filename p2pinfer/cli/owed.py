"""`p2pinfer owed`: what this machine's clients signed for, as their journal says."""

import json
from pathlib import Path
from typing import Final

import click
from rich.table import Table

from p2pinfer.cli.earnings import pass_on, since_option
from p2pinfer.cli.earnings_report import MONEY, Report, ReportRow, heading_cells, read_parts, rows
from p2pinfer.cli.journal_bar import CheckBar
from p2pinfer.cli.options import data_option, json_option
from p2pinfer.cli.screen import Terminal
from p2pinfer.cli.settle import settle
from p2pinfer.cli.terminal import say
from p2pinfer.cli.unsigned import plain, print_unsigned, read_unsigned
from p2pinfer.cli.words import Unit, many, unit_for
from p2pinfer.core.money.ledger import By, Total, fold_all
from p2pinfer.disk.journal_reader import read_journal
from p2pinfer.disk.key_files import own_keys
from p2pinfer.disk.places import client_journal

OWED: Final = (
    "owed: your promises to pay, signed with this machine's keys. This release pays nobody: settle with the owners."
)
OWN: Final = "self: owed to your own nodes, so the money stays yours."
HEADINGS: Final = {
    By.OWNER: ("owner",),
    By.NODE: ("node",),
    By.DAY: ("day (UTC)",),
    By.SESSION: ("last receipt (UTC)", "contract"),
}


@click.group(invoke_without_command=True, subcommand_metavar="[settle]")
@click.option(
    "--by",
    type=click.Choice([by.value for by in HEADINGS]),
    default=By.OWNER.value,
    show_default=True,
    help="One row for each.",
)
@since_option
@data_option
@json_option
@click.pass_context
def owed(ctx: click.Context, by: str, since: int | None, data: Path, as_json: bool) -> None:
    """Show what this machine's clients owe, and to whom.

    Every row adds up receipts that both sides signed: the owners hold the same ones, and can prove them to anyone. What
    a lost link or a killed client left unsigned stands below, node by node; `p2pinfer owed settle` mends it.

    \b
    This week, node by node:   p2pinfer owed --by node --since 7d
    One receipt in full:       p2pinfer owed --by session
                               p2pinfer receipt show CONTRACT
    """
    if ctx.invoked_subcommand is not None:
        pass_on(ctx, ctx.invoked_subcommand, ("by", "since"), "settling is about all that is unsigned")
        return
    report, unsigned = _read(data, By(by), since or 0), read_unsigned(data)
    if as_json:
        say(json.dumps(summary(report) | {"unsigned": [plain(one) for one in unsigned]}))
        return
    terminal = Terminal()
    _print(report, terminal)
    if unsigned:
        terminal.print()
        print_unsigned(unsigned, terminal)
        terminal.print("Have it signed: p2pinfer owed settle --bootstrap MULTIADDR", highlight=False)


owed.add_command(settle)


def _read(data: Path, by: By, since: int) -> Report:
    """The receipts that a data folder's clients signed since then. unsigned: those that no node has confirmed."""
    with read_journal(client_journal(data), CheckBar()) as reader:
        return Report(read_parts(reader, by, since), by, own_keys(data), reader.count_unstored())


def summary(report: Report) -> dict[str, object]:
    """Debts, as `--json` prints them."""
    return {
        "by": report.by.value,
        "rows": [_plain(row, report.by) for row in rows(report)],
        "total": _amounts(fold_all(report.parts, report.own)),
        "unconfirmed": report.unsigned,
    }


def _plain(row: ReportRow, by: By) -> dict[str, object]:
    heading: dict[str, object] = {by.value: row.total.heading}
    if by is By.SESSION:
        heading |= {"time": row.time, "contracts": [id_.hex() for id_ in row.contracts]}
    return heading | _amounts(row.total)


def _amounts(total: Total) -> dict[str, object]:
    return {
        "receipts": total.receipts,
        "positions": total.positions,
        "owed_ncr": total.unbacked,
        "self_ncr": total.own,
    }


def _print(report: Report, console: Terminal) -> None:
    if not report.parts:
        console.print("nothing owed: no receipt was signed in this time", highlight=False)
        return
    console.print(_table(report))
    console.print(f"\n{MONEY}", highlight=False)
    console.print(OWED, highlight=False)
    if fold_all(report.parts, report.own).own:
        console.print(OWN, highlight=False)
    if report.unsigned:
        text = f"Not confirmed yet: {many(report.unsigned, 'receipt')}, sent again when their node is met."
        console.print(text, highlight=False)


def _table(report: Report) -> Table:
    found, by, whole = rows(report), report.by, fold_all(report.parts, report.own)
    unit = unit_for(max(row.total.unbacked, row.total.own) for row in found)
    table = Table(box=None, pad_edge=False, show_footer=len(found) > 1)
    first, *others = HEADINGS[by]
    table.add_column(first, footer="total", no_wrap=True)
    for heading in others:
        table.add_column(heading, no_wrap=True)
    headings = ("receipts", "positions", f"owed, {unit.short}", f"self, {unit.short}")
    for heading, footer in zip(headings, _numbers(whole, unit), strict=True):
        table.add_column(heading, footer=footer, justify="right", no_wrap=True)
    for row in found:
        table.add_row(*heading_cells(row, by, {}), *_numbers(row.total, unit))
    return table


def _numbers(total: Total, unit: Unit) -> list[str]:
    amounts = (unit.write(amount) for amount in (total.unbacked, total.own))
    return [f"{total.receipts:,}", f"{total.positions:,}", *amounts]
