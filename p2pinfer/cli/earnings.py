"""`p2pinfer earnings`: what this machine's node earned, as its journal says; `earnings export` proves it to others."""

import json
import time
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
from click.core import ParameterSource

from p2pinfer.cli.earnings_report import HEADINGS, own_payers, print_report, read_report, summary
from p2pinfer.cli.journal_bar import CheckBar
from p2pinfer.cli.options import as_value, data_folders_option, data_option, json_option, store_option
from p2pinfer.cli.screen import Terminal
from p2pinfer.cli.terminal import say
from p2pinfer.cli.words import amount_words, many, period_words
from p2pinfer.core.money.ledger import By, Total, fold_all
from p2pinfer.core.values.errors import UsageError
from p2pinfer.core.values.keys import parse_peer_name, peer_name
from p2pinfer.core.values.units import PeerKey
from p2pinfer.disk.journal_reader import read_journal
from p2pinfer.disk.places import node_journal
from p2pinfer.disk.store import Store

if TYPE_CHECKING:
    from p2pinfer.disk.statement_export import Exported

DAY_S: Final = 86_400
MIN_PEER_END: Final = 4  # characters of a peer's name that may stand for it
LONG_PEER_END: Final = 12  # more are meant as a whole name


def day(value: str | int) -> int:
    """A day of UTC, as Unix seconds of its beginning: a date, or `7d` for the first of the last seven days."""
    if isinstance(value, int):
        return value  # read before
    try:
        if value.endswith("d") and value[:-1].isdecimal() and int(value[:-1]):
            first = datetime.now(UTC) - timedelta(days=int(value[:-1]) - 1)
        else:
            first = datetime.strptime(value, "%Y-%m-%d").replace(tzinfo=UTC)
        return max(0, int(first.timestamp()) // DAY_S * DAY_S)
    except (ValueError, OverflowError):
        message = f"{value!r:.80} is not a day: write 2026-11-30, or 7d for the last seven days, today included"
        raise click.BadParameter(message) from None


@dataclass(frozen=True, slots=True)
class _Period:
    """Days, as Unix seconds of their beginnings."""

    since: int | None
    until: int | None


since_option = click.option("--since", type=day, metavar="DAY", help="From this day on: 2026-11-30, or 7d; in UTC.")


@click.group(invoke_without_command=True, subcommand_metavar="[export FILE]")
@click.option(
    "--by",
    type=click.Choice([by.value for by in HEADINGS]),
    default=By.DAY.value,
    show_default=True,
    help="One row for each.",
)
@since_option
@data_folders_option
@store_option
@json_option
@click.pass_context
def earnings(
    ctx: click.Context, by: str, since: int | None, data: tuple[Path, ...], store: Path, as_json: bool
) -> None:
    """Show what this machine's nodes earned, while they run or not.

    Every row adds up receipts that both sides signed. What strangers owe (unbacked) and what your own keys owe (self)
    stand apart, and are never one sum.

    \b
    The last month by payer:   p2pinfer earnings --by payer --since 30d
    Several nodes together:    p2pinfer earnings --data FOLDER --data FOLDER --by node
    For other programs:        p2pinfer earnings --json
    To prove it to others:     p2pinfer earnings export november.statement
    One receipt in full:       p2pinfer earnings --by session
                               p2pinfer receipt show CONTRACT
    """
    if ctx.invoked_subcommand is not None:
        if len(data) > 1:
            raise UsageError("a statement is one node's: export one for each data folder")
        ctx.params["data"] = data[0]
        pass_on(ctx, ctx.invoked_subcommand, ("by", "store"), "a statement holds every receipt by itself")
        return
    report = read_report(data, By(by), since or 0)
    names = {model.id: model.name for model in Store(store).models()}
    if as_json:
        say(json.dumps(summary(report, names)))
    else:
        print_report(report, names, Terminal())


@earnings.command(short_help="Write a signed statement, and a table.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--payer", default="", metavar="KEY", help="Of this payer alone: its name, or the end that tables show.")
@since_option
@click.option("--until", type=day, metavar="DAY", help="Up to the end of this day.  [default: now]")
@click.option("--force", is_flag=True, help="Replace an earlier statement and its table.")
@data_option
@json_option
@as_value("period", _Period, "since", "until")
def export(file: Path, payer: str, period: _Period, force: bool, data: Path, as_json: bool) -> None:
    """Write what was earned to FILE, signed, so that anyone can verify it offline; and to FILE.csv, for a spreadsheet.

    Whoever gets FILE sees every payer in it: for a payer, export its own receipts with --payer.

    \b
    p2pinfer earnings export november.statement --since 2026-11-01 --until 2026-11-30
    p2pinfer statement verify november.statement
    """
    import trio  # also by the journal's writer, which the table above does not need

    from p2pinfer.disk.statement_export import Wanted, export_statement

    now = int(time.time())
    journal = node_journal(data)
    since, last = period.since or 0, now if period.until is None else period.until + DAY_S - 1
    if since > last:
        raise UsageError(f"the period ends before it begins: {period_words(since, last)}")
    wanted = Wanted(since, last, now, find_payer(payer, journal) if payer else None)

    async def write() -> "Exported":
        return await export_statement(data, journal, file, wanted, CheckBar(), replace=force)

    exported = trio.run(write)
    parts = [entry.part for entry in exported.entries]
    total = fold_all(parts, own_payers(parts, data))
    if as_json:
        say(json.dumps(_exported_summary(exported, total)))
    else:
        _print_exported(exported, total)


def find_payer(text: str, journal: Path) -> PeerKey:
    """The payer of that name; or, of those in the journal, the one whose name ends so.

    Raises UsageError where none does, or several do.
    """
    end = text.lstrip("….")
    with read_journal(journal, CheckBar()) as reader:
        names = {peer_name(client) for client in {total.client for total in reader.totals()}}
    hits = sorted(name for name in names if name.endswith(end)) if len(end) >= MIN_PEER_END else []
    if len(hits) == 1:
        return parse_peer_name(hits[0])
    if hits:
        raise UsageError(f"{len(hits)} payers end with {end}; say which: {', '.join(hits)}")
    if len(end) > LONG_PEER_END:
        return parse_peer_name(end)
    raise UsageError(f"no payer in the journal ends with {end!r}; see who paid: p2pinfer earnings --by payer --json")


def pass_on(ctx: click.Context, command: str, but: Collection[str], why: str) -> None:
    """Options may stand before the subcommand as well as after it; none is dropped silently, and some are refused."""
    given = {name: ctx.params[name] for name in ctx.params if _is_given(ctx, name)}
    for name in given.keys() & set(but):
        raise click.UsageError(f"--{name} is for the table: {why}", ctx)
    ctx.default_map = {command: given}


def _is_given(ctx: click.Context, name: str) -> bool:
    return ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE


def _exported_summary(exported: "Exported", total: Total) -> dict[str, object]:
    header = exported.statement.record
    return {
        "file": str(exported.file),
        "table": str(exported.table),
        "id": exported.statement.id.hex(),
        "number": header.number,
        "since": header.since,
        "until": header.until,
        "receipts": header.count,
        "unbacked_ncr": total.unbacked,
        "self_ncr": total.own,
        "left_out": exported.left_out,
    }


def _print_exported(exported: "Exported", total: Total) -> None:
    header = exported.statement.record
    say(
        f"statement {header.number}: {many(header.count, 'receipt')}, {period_words(header.since, header.until)}; "
        f"{amount_words(total.unbacked)} unbacked, {amount_words(total.own)} self"
    )
    say(f"{exported.file}  signed; anyone can check it: p2pinfer statement verify {exported.file}")
    say(f"{exported.table}  the same as a table")
    if exported.left_out:
        say(f"left out: {many(exported.left_out, 'receipt')} earned under another node key or for another owner")
