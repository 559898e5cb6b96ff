"""A statement from the journal: two files that leave the machine, one to prove, one to read (protocols/receipts.md).

FILE is the signed statement; FILE.csv is the same receipts as a table, unsigned. A node may be writing to the journal
meanwhile. The statement's number is durable before the files appear, so that no number is ever given twice.
"""

import csv
import io
import os
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from p2pinfer.core.money.ledger import By, Earned, fold, fold_all
from p2pinfer.core.records.certificate import NodeCert
from p2pinfer.core.records.pricing import Prices, Usage
from p2pinfer.core.records.records import ZEROS, SignedRecord
from p2pinfer.core.records.statement import (
    MAGIC,
    MAX_AMOUNT,
    MAX_RECEIPTS,
    NO_PAYER,
    Header,
    Paid,
    Stated,
    next_number,
    write_statement,
)
from p2pinfer.core.records.statement_check import verify_statement
from p2pinfer.core.values.errors import JournalError, RemoteProtocolError, UsageError
from p2pinfer.core.values.keys import PrivateKey, peer_name
from p2pinfer.core.values.units import OwnerKey, PeerKey, RecordId
from p2pinfer.disk.atomic import new_file, place
from p2pinfer.disk.journal import open_journal
from p2pinfer.disk.journal_check import Progress, no_progress
from p2pinfer.disk.journal_reader import JournalReader, read_journal
from p2pinfer.disk.key_files import load_key
from p2pinfer.disk.target import FileKind, cannot_write, check_target

MODE: Final = 0o600  # receipts tell who used whom; whom to give them to is the owner's choice
TABLE_SUFFIX: Final = ".csv"


@dataclass(frozen=True, slots=True)
class Wanted:
    """The receipts to state. since, until: Unix seconds, both included; payer: of all, where None."""

    since: int
    until: int
    created: int
    payer: PeerKey | None = None


@dataclass(frozen=True, slots=True)
class Exported:
    """The files written. left_out: receipts wanted, but earned under another node key, or for another owner."""

    file: Path
    table: Path
    statement: SignedRecord[Header]
    entries: list[Earned]
    left_out: int


async def export_statement(
    folder: Path,
    journal: Path,
    file: Path,
    wanted: Wanted,
    progress: Progress = no_progress,
    *,
    replace: bool = False,
) -> Exported:
    """Write FILE and FILE.csv, whole or not at all.

    folder:   of the node's key
    progress: told how far the journal is read, where it was not closed well
    replace:  whether files of those names may go

    Raises UsageError for names that cannot be used or a folder without journal or key; and, in a group since the
    journal's task runs meanwhile, JournalError where a record does not verify, or the disk refuses.
    """
    table = file.parent / (file.name + TABLE_SUFFIX)
    if file.suffix == TABLE_SUFFIX:
        raise UsageError(f"{file} would be the signed statement, and no table: give a name without {TABLE_SUFFIX}")
    check_target(file, STATEMENT, folder, replace=replace)
    check_target(table, TABLE, folder, replace=replace)
    with read_journal(journal, progress) as reader:  # before the key: where neither is, no node has run
        key = load_key(folder / "node.key")
        newest = _newest(reader.certificates(), key)
        whose, period = (key.public, newest.record.owner), (wanted.since, wanted.until, wanted.payer)
        counts = reader.count_earned(*period)
        _check_count(counts[whose])  # a node may have earned more than there is memory for
        mine = reader.earned(*period, whose)
        certificates = reader.certificates()  # after the contracts that name them
    _check_count(len(mine))
    _check_amount(mine)
    async with open_journal(journal) as writer:
        last = await writer.read(JournalReader.last_statement)
        before, prev = last or (0, RecordId(ZEROS))
        number = next_number(before, wanted.created, int.from_bytes(os.urandom(2), "big"))
        payer = wanted.payer or NO_PAYER
        stated = Stated(OwnerKey(whose[1]), number, prev, wanted.since, wanted.until, wanted.created, payer)
        statement, data = _write(key, stated, mine, _named(certificates, mine, newest))
        try:
            with ExitStack() as drafts:
                ready = [
                    (_draft(drafts, path, content), path) for path, content in ((table, table_of(mine)), (file, data))
                ]
                await writer.add_statement(number, statement.id, wanted.created, before)
                for draft, path in ready:
                    place(draft, path)
        except OSError as error:
            raise cannot_write(file, error.strerror) from None
    return Exported(file, table, statement, mine, counts.total() - counts[whose])


def table_of(entries: Iterable[Earned]) -> bytes:
    """Receipts as CSV, in the order given; amounts in nano-credits, times in UTC."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(_row(entry) for entry in entries)
    return text.getvalue().encode()


COLUMNS: Final = (
    *("contract", "seq", "time", "final", "payer", "session", "model", "first_layer", "last_layer", "positions"),
    *(f"{item.name}_units" for item in fields(Usage)),
    *(f"{item.name}_price" for item in fields(Prices)),
    *("flat_ncr", "amount_ncr"),
)
STATEMENT: Final = FileKind("a statement of earnings", ((0, MAGIC),))
TABLE: Final = FileKind("a table of receipts", ((0, ",".join(COLUMNS[:3]).encode()),))


def _row(entry: Earned) -> list[object]:
    contract, receipt = entry.contract.record, entry.receipt.record
    return [
        entry.contract.id.hex(),
        receipt.seq,
        datetime.fromtimestamp(receipt.time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        receipt.state,
        peer_name(contract.client),
        entry.session.hex(),
        contract.model.hex(),
        contract.span.first,
        contract.span.last,
        receipt.usage.positions(len(contract.span)),
        *(getattr(receipt.usage, item.name) for item in fields(Usage)),
        *(getattr(contract.prices, item.name) for item in fields(Prices)),
        contract.flat,
        receipt.amount,
    ]


def _newest(certificates: list[SignedRecord[NodeCert]], key: PrivateKey) -> SignedRecord[NodeCert]:
    """The newest certificate of the present key: it names the present owner, whose work a statement is about."""
    own = [certificate for certificate in certificates if certificate.record.node == key.public]
    if not own:
        raise UsageError("the journal has no certificate of this node's key: start the node once with this folder")
    return max(own, key=lambda certificate: (certificate.record.not_before, certificate.record.serial))


def _check_count(count: int) -> None:
    if count > MAX_RECEIPTS:
        raise UsageError(f"{count} receipts, a statement holds {MAX_RECEIPTS}: state shorter periods, one by one")


def _check_amount(entries: list[Earned]) -> None:
    """Refuse a statement whose sum is too large, and name the client that promises most."""
    parts = [entry.part for entry in entries]
    if (amount := fold_all(parts).unbacked) > MAX_AMOUNT:
        payer = max(fold(parts, By.PAYER), key=lambda total: total.unbacked)
        raise UsageError(
            f"these receipts come to {amount:,} nano-credits, and a statement holds {MAX_AMOUNT:,}: "
            f"{payer.heading} alone promises {payer.unbacked:,}; state other payers one by one (--payer), or shorter "
            "periods"
        )


def _named(
    certificates: list[SignedRecord[NodeCert]], entries: list[Earned], newest: SignedRecord[NodeCert]
) -> list[SignedRecord[NodeCert]]:
    """The certificates that the contracts name; where there are none, the newest."""
    named = {entry.contract.record.cert for entry in entries} or {newest.id}
    return [certificate for certificate in certificates if certificate.id in named]


def _write(
    key: PrivateKey, stated: Stated, entries: list[Earned], certificates: list[SignedRecord[NodeCert]]
) -> tuple[SignedRecord[Header], bytes]:
    """The statement, checked as its readers will: a journal that was tampered with is found out here, not there."""
    paid = [Paid(entry.contract, entry.receipt) for entry in entries]
    statement, data = write_statement(key, stated, certificates, paid)
    try:
        verify_statement(data)
    except RemoteProtocolError as error:
        raise JournalError(f"the journal holds what does not verify: {error}") from None
    return statement, data


def _draft(drafts: ExitStack, path: Path, data: bytes) -> Path:
    draft = drafts.enter_context(new_file(path.parent, MODE))
    draft.write_bytes(data)
    return draft
