"""`p2pinfer statement verify`: what a statement proves, and what it does not.

No network, no journal, no engine: whoever is shown a statement checks it on any machine.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Final

import click
from rich.table import Table

from p2pinfer.cli.options import data_option, json_option
from p2pinfer.cli.screen import Terminal
from p2pinfer.cli.terminal import say
from p2pinfer.cli.words import SHORT_ID, amount_words, lined, many, period_words, time_words, unit_for
from p2pinfer.core.records.statement import MAX_STATEMENT, NO_PAYER
from p2pinfer.core.records.statement_check import Comparison, Overlap, Verdict, compare_statements, verify_statement
from p2pinfer.core.values.errors import P2pinferError, RemoteProtocolError, UsageError
from p2pinfer.core.values.keys import peer_name
from p2pinfer.core.values.units import PeerKey, RecordId
from p2pinfer.disk.key_files import own_keys

LABEL: Final = 12  # characters of what a line is about


@dataclass(frozen=True, slots=True)
class Owes:
    """Nano-credits that others owe, on their word alone, and that the owner owes itself: never one sum."""

    unbacked: int = 0
    own: int = 0

    @property
    def words(self) -> str:
        return f"{amount_words(self.unbacked)} unbacked, {amount_words(self.own)} self"

    @property
    def plain(self) -> dict[str, int]:
        return {"unbacked_ncr": self.unbacked, "self_ncr": self.own}


@dataclass(frozen=True, slots=True)
class Checked:
    """A file, and its verdict or why there is none. own: payers that are the owner itself, as far as is known here."""

    file: Path
    verdict: Verdict | None
    own: frozenset[PeerKey] = frozenset()
    why: str = ""

    def owes(self, amounts: Iterable[tuple[PeerKey, int]]) -> Owes:
        """Amounts of payers, apart."""
        sums = [0, 0]
        for payer, amount in amounts:
            sums[payer in self.own] += amount
        return Owes(*sums)

    @property
    def all_owe(self) -> Owes:
        shares = self.verdict.by_payer if self.verdict else ()
        return self.owes((share.payer, share.amount) for share in shares)


@dataclass(frozen=True, slots=True)
class Common:
    """Two files that hold contracts together, or that one node cannot have made both."""

    first: Checked
    second: Checked
    found: Comparison

    @property
    def extra(self) -> Owes:
        """The second's amounts beyond the first's."""
        return self.second.owes((overlap.payer, overlap.extra) for overlap in self.found.overlaps)

    @property
    def contradicts(self) -> bool:
        return self.found.fork is not None or any(overlap.contradiction for overlap in self.found.overlaps)


@click.group()
def statement() -> None:
    """Check statements of earnings, offline."""


@statement.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(dir_okay=False, path_type=Path), metavar="FILE...")
@data_option
@json_option
def verify(files: tuple[Path, ...], data: Path, as_json: bool) -> None:
    """Check every byte of statements, and say what they prove and what they do not.

    Needs no network and trusts nobody: keys, signatures, amounts and times are checked from the file alone. Of several
    files it names the contracts that stand in more than one: a payer pays for each contract once. The exit code is 1 if
    a file does not verify, or two of them contradict each other. What the owner owes itself (self) stands apart: by the
    keys in the file, and, on the owner's own machine, by those in its data folder.

    \b
    p2pinfer earnings export november.statement     (who earned)
    p2pinfer statement verify november.statement    (anyone)
    """
    keys = own_keys(data)
    checked = [_check(file, keys) for file in files]
    sound = [(one, one.verdict) for one in checked if one.verdict]
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


def _check(file: Path, keys: frozenset[PeerKey]) -> Checked:
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_STATEMENT + 1)  # one byte past the limit is enough to refuse the rest
    except FileNotFoundError as error:
        why = f"{error.strerror}; export one first: p2pinfer earnings export FILE"
        raise UsageError(f"cannot read {file}: {why}") from None
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from None
    try:
        verdict = verify_statement(data)
    except RemoteProtocolError as error:
        return Checked(file, None, why=str(error))
    header = verdict.header.record
    return Checked(file, verdict, keys | {PeerKey(header.owner), header.node})


def _failure(checked: Sequence[Checked], common: Sequence[Common]) -> str | None:
    """The reason for which the command fails, in one sentence."""
    if bad := [f"{one.file} does not verify: {one.why}" for one in checked if one.verdict is None]:
        return "; ".join(bad)
    if any(pair.contradicts for pair in common):
        return "two of the files contradict each other: at least one of those who signed them cheated"
    return None


def once(checked: Sequence[Checked]) -> tuple[int, Owes]:
    """The number of contracts in all files, and their amounts, each counted once at its highest."""
    amounts: dict[RecordId, tuple[PeerKey, int]] = {}
    for one in checked:
        for entry in one.verdict.entries if one.verdict else ():
            _, known = amounts.get(entry.contract.id, (None, 0))
            payer, amount = entry.contract.record.client, entry.receipt.record.amount
            amounts[entry.contract.id] = payer, max(known, amount)
    own: frozenset[PeerKey] = frozenset().union(*(one.own for one in checked))
    return len(amounts), Checked(Path(), None, own).owes(amounts.values())


# For programs


def summary(checked: Sequence[Checked], common: Sequence[Common]) -> dict[str, object]:
    """The verdicts as `--json` prints them."""
    count, owes = once(checked)
    return {
        "verified": _failure(checked, common) is None,
        "statements": [_plain(one) for one in checked],
        "overlaps": [_plain_overlap(pair, overlap) for pair in common for overlap in pair.found.overlaps],
        "forks": [
            {"first": str(pair.first.file), "second": str(pair.second.file), "why": pair.found.fork}
            for pair in common
            if pair.found.fork
        ],
        "together": {"contracts": count, **owes.plain},
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
        **checked.all_owe.plain,
        "by_payer": [
            {
                "payer": peer_name(share.payer),
                "receipts": share.count,
                **checked.owes([(share.payer, share.amount)]).plain,
            }
            for share in verdict.by_payer
        ],
        "not_proven": list(verdict.not_proven),
    }


def _plain_overlap(pair: Common, overlap: Overlap) -> dict[str, object]:
    return {
        "first": str(pair.first.file),
        "second": str(pair.second.file),
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
            _print_verdict(one, one.verdict)
        else:
            say(f"{one.file}: DOES NOT VERIFY\n")
    for pair in common:
        _print_common(pair)
    if sum(one.verdict is not None for one in checked) > 1:
        count, owes = once(checked)
        say("all together, each contract once:")
        say(lined("", f"{many(count, 'contract')}; {owes.words}", 0) + "\n")
    if verdict := next((one.verdict for one in checked if one.verdict), None):
        say("Not proven:")
        for what in verdict.not_proven:
            say(lined("-", what, 2))


def _print_verdict(checked: Checked, verdict: Verdict) -> None:
    header = verdict.header.record
    say(f"{checked.file}: verifies")
    for what, value in (
        ("statement", f"{header.number:,}"),
        ("id", verdict.header.id.hex()),
        ("node", peer_name(header.node)),
        ("owner", peer_name(header.owner)),
        ("period", period_words(header.since, header.until)),
        ("made", time_words(header.created)),
        ("payer", "all" if header.payer == NO_PAYER else peer_name(header.payer)),
        ("holds", f"{many(header.count, 'receipt')}; {checked.all_owe.words}"),
    ):
        say(lined(what, value, LABEL))
    say()
    if verdict.by_payer:
        _print_shares(checked, verdict)


def _print_shares(checked: Checked, verdict: Verdict) -> None:
    """Payers with what they owe; the owner's own keys in a table of their own."""
    unit = unit_for(share.amount for share in verdict.by_payer)
    for heading, own in (("payer", False), ("payer: self, the owner's own key", True)):
        table = Table(box=None, pad_edge=False)
        table.add_column(heading, no_wrap=True)
        table.add_column("receipts", justify="right")
        table.add_column(f"owes, {unit.short}", justify="right")
        for share in verdict.by_payer:
            if (share.payer in checked.own) is own:
                table.add_row(peer_name(share.payer), f"{share.count:,}", unit.write(share.amount))
        if table.rows:
            Terminal().print(table)
            say()


def _print_common(pair: Common) -> None:
    overlaps, fork = pair.found.overlaps, pair.found.fork
    say(f"{pair.first.file} and {pair.second.file} both hold {many(len(overlaps), 'contract')}")
    if overlaps:
        say(lined("", f"beyond the first, the second adds to them: {pair.extra.words}", 0))
    if fork:
        say(lined("", f"CONTRADICTION between the two: {fork}", 0))
    for overlap in overlaps:
        if overlap.contradiction:
            contract = overlap.contract.hex()[:SHORT_ID]
            say(lined("", f"CONTRADICTION in contract {contract}: {overlap.contradiction}", 0))
    say()
