"""`p2pinfer statement verify`: what a statement proves, and what it does not.

No network, no journal, no engine: whoever is shown a statement checks it on any machine.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Final

import click
from rich.table import Table

from p2pinfer.cli.options import json_option
from p2pinfer.cli.terminal import Terminal, say
from p2pinfer.cli.words import SHORT_ID, amount_words, lined, many, period_words, time_words, unit_for
from p2pinfer.core.errors import P2pinferError, RemoteProtocolError, UsageError
from p2pinfer.core.keys import peer_name
from p2pinfer.core.statement import MAX_STATEMENT, NO_PAYER
from p2pinfer.core.statement_check import Comparison, Overlap, Verdict, compare_statements, verify_statement
from p2pinfer.core.units import RecordId

LABEL: Final = 12  # characters of what a line is about


@dataclass(frozen=True, slots=True)
class Checked:
    """A file, and its verdict or why there is none."""

    file: Path
    verdict: Verdict | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Common:
    """Two files that hold contracts together, or that one node cannot have made both."""

    first: Path
    second: Path
    found: Comparison

    @property
    def contradicts(self) -> bool:
        return self.found.fork is not None or any(overlap.contradiction for overlap in self.found.overlaps)


@click.group()
def statement() -> None:
    """Check statements of earnings, offline."""


@statement.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(dir_okay=False, path_type=Path), metavar="FILE...")
@json_option
def verify(files: tuple[Path, ...], as_json: bool) -> None:
    """Check every byte of statements, and say what they prove and what they do not.

    Needs no network and trusts nobody: keys, signatures, amounts and times are checked from the file alone. Of several
    files it names the contracts that stand in more than one: a payer pays for each contract once. The exit code is 1 if
    a file does not verify, or two of them contradict each other.

    \b
    p2pinfer earnings export november.statement     (who earned)
    p2pinfer statement verify november.statement    (anyone)
    """
    checked = [_check(file) for file in files]
    sound = [(one.file, one.verdict) for one in checked if one.verdict]
    common = [
        Common(first, second, found)
        for (first, a), (second, b) in combinations(sound, 2)
        if (found := compare_statements(a, b)).overlaps or found.fork
    ]
    if as_json:
        say(json.dumps(summary(checked, common)))
    else:
        _print(checked, common)
    if why := _failure(checked, common):
        raise P2pinferError(why)


def _check(file: Path) -> Checked:
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_STATEMENT + 1)  # one byte past the limit is enough to refuse the rest
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from None
    try:
        return Checked(file, verify_statement(data))
    except RemoteProtocolError as error:
        return Checked(file, None, str(error))


def _failure(checked: Sequence[Checked], common: Sequence[Common]) -> str | None:
    """Why the command fails, in one sentence."""
    if bad := [f"{one.file} does not verify: {one.why}" for one in checked if one.verdict is None]:
        return "; ".join(bad)
    if any(pair.contradicts for pair in common):
        return "two of the files contradict each other: at least one of those who signed them cheated"
    return None


def once(checked: Sequence[Checked]) -> tuple[int, int]:
    """How many contracts the files hold together, and for how much, each counted once at its highest amount."""
    amounts: dict[RecordId, int] = {}
    for one in checked:
        for entry in one.verdict.entries if one.verdict else ():
            amounts[entry.contract.id] = max(amounts.get(entry.contract.id, 0), entry.receipt.record.amount)
    return len(amounts), sum(amounts.values())


# For programs


def summary(checked: Sequence[Checked], common: Sequence[Common]) -> dict[str, object]:
    """The verdicts as `--json` prints them."""
    count, amount = once(checked)
    return {
        "verified": _failure(checked, common) is None,
        "statements": [_plain(one) for one in checked],
        "overlaps": [_plain_overlap(pair, overlap) for pair in common for overlap in pair.found.overlaps],
        "forks": [
            {"first": str(pair.first), "second": str(pair.second), "why": pair.found.fork}
            for pair in common
            if pair.found.fork
        ],
        "together": {"contracts": count, "amount_ncr": amount},
    }


def _plain(checked: Checked) -> dict[str, object]:
    if (verdict := checked.verdict) is None:
        return {"file": str(checked.file), "verified": False, "why": checked.why}
    header = verdict.header.record
    return {
        "file": str(checked.file),
        "verified": True,
        "id": verdict.header.id.hex(),
        "number": header.number,
        "prev": header.prev.hex(),
        "node": peer_name(header.node),
        "owner": peer_name(header.owner),
        "payer": None if header.payer == NO_PAYER else peer_name(header.payer),
        "since": header.since,
        "until": header.until,
        "created": header.created,
        "receipts": header.count,
        "amount_ncr": header.amount,
        "by_payer": [
            {"payer": peer_name(share.payer), "receipts": share.count, "amount_ncr": share.amount}
            for share in verdict.by_payer
        ],
        "not_proven": list(verdict.not_proven),
    }


def _plain_overlap(pair: Common, overlap: Overlap) -> dict[str, object]:
    return {
        "first": str(pair.first),
        "second": str(pair.second),
        "contract": overlap.contract.hex(),
        "payer": peer_name(overlap.payer),
        "first_ncr": overlap.first,
        "second_ncr": overlap.second,
        "extra_ncr": overlap.extra,
        "contradiction": overlap.contradiction,
    }


# For people


def _print(checked: Sequence[Checked], common: Sequence[Common]) -> None:
    for one in checked:
        if one.verdict is not None:
            _print_verdict(one.file, one.verdict)
        else:
            say(f"{one.file}: DOES NOT VERIFY\n")
    for pair in common:
        _print_common(pair)
    if sum(one.verdict is not None for one in checked) > 1:
        count, amount = once(checked)
        say("all together, each contract once:")
        say(f"  {many(count, 'contract')}, {amount_words(amount)}\n")
    if verdict := next((one.verdict for one in checked if one.verdict), None):
        say("Not proven:")
        for what in verdict.not_proven:
            say(lined("-", what, 2))


def _print_verdict(file: Path, verdict: Verdict) -> None:
    header = verdict.header.record
    say(f"{file}: verifies")
    for what, value in (
        ("statement", f"{header.number:,}"),
        ("id", verdict.header.id.hex()),
        ("node", peer_name(header.node)),
        ("owner", peer_name(header.owner)),
        ("period", period_words(header.since, header.until)),
        ("made", time_words(header.created)),
        ("payer", "all" if header.payer == NO_PAYER else peer_name(header.payer)),
        ("holds", f"{many(header.count, 'receipt')}, {amount_words(header.amount)}"),
    ):
        say(lined(what, value, LABEL))
    say()
    if verdict.by_payer:
        _print_shares(verdict)


def _print_shares(verdict: Verdict) -> None:
    unit = unit_for(share.amount for share in verdict.by_payer)
    table = Table(box=None, pad_edge=False)
    table.add_column("payer", no_wrap=True)
    table.add_column("receipts", justify="right")
    table.add_column(f"owes, {unit.short}", justify="right")
    for share in verdict.by_payer:
        table.add_row(peer_name(share.payer), f"{share.count:,}", unit.write(share.amount))
    Terminal().print(table)
    say()


def _print_common(pair: Common) -> None:
    overlaps, fork = pair.found.overlaps, pair.found.fork
    extra = sum(overlap.extra for overlap in overlaps)
    say(f"{pair.first} and {pair.second} both hold {many(len(overlaps), 'contract')}")
    if overlaps:
        say(f"  beyond the first, the second adds {amount_words(extra)} to them")
    if fork:
        say(lined("", f"CONTRADICTION between the two: {fork}", 0))
    for overlap in overlaps:
        if overlap.contradiction:
            contract = overlap.contract.hex()[:SHORT_ID]
            say(lined("", f"CONTRADICTION in contract {contract}: {overlap.contradiction}", 0))
    say()
