"""Data folders as nodes and clients leave them: real journals, with real records in them."""

import sqlite3
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import trio

from p2pinfer.cli.main import run
from p2pinfer.core.records.certificate import NodeCert
from p2pinfer.core.records.contract import Contract
from p2pinfer.core.records.delivered import delivered as delivered_of
from p2pinfer.core.records.receipt import Receipt
from p2pinfer.core.records.records import SignedRecord, countersign, sign
from p2pinfer.core.records.statement import Paid
from p2pinfer.core.records.tree import Tree
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.keys import PrivateKey
from p2pinfer.core.values.units import Roles, SessionId, Span
from p2pinfer.disk.journal import Journal, open_journal
from p2pinfer.disk.journal_tables import CONTRACT, RECEIPT, row_digest
from p2pinfer.disk.places import client_journal, node_journal
from tests.core.paid_route import CLIENT, DAY_S, NODES, NOW, certificate_for, contract_on, offer_of

NODE = NODES[0]
PROMPT = 100
CERTIFICATE = certificate_for(NODE)
DAY = NOW // DAY_S * DAY_S  # the day of most receipts: 2026-09-21


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str


class Shell:
    """Runs `p2pinfer` as a shell would, within this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *words: str | Path) -> Ran:
        self._monkeypatch.setattr(sys, "argv", ["p2pinfer", *map(str, words)])
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            run()
        out, err = self._capsys.readouterr()
        assert "Traceback" not in err
        return Ran(int(exit_.value.code or 0), out, err)


def terms_of(
    number: int, client: PrivateKey = CLIENT, time: int = NOW, node: PrivateKey = NODE, **changes: object
) -> Contract:
    times = {"issued": time - 60, "expires": time + 3600}
    given = {"nonce": number.to_bytes(16, "big"), "client": client.public, "prompt": PROMPT, **times, **changes}
    return contract_on(offer_of(node, Span(0, 10), Roles.HEAD | Roles.TAIL), **given)


def paid(
    number: int,
    positions: int = 200,
    client: PrivateKey = CLIENT,
    time: int = NOW,
    final: bool = True,
    node: PrivateKey = NODE,
    **changes: object,
) -> Paid:
    """A contract and its first receipt, over `positions` of which PROMPT were the prompt's."""
    terms = terms_of(number, client, time, node, **changes)
    contract = countersign(sign(terms, client), node)
    usage, amount = terms.work.usage(positions), terms.amount(positions)
    end = Code.END if final else Code.NONE
    receipt = Receipt(contract.id, 1, usage, amount, b"i" * 32, b"o" * 32, time, int(final), end)
    return Paid(contract, countersign(sign(receipt, node), client))


def amount(entries: Sequence[Paid]) -> int:
    return sum(entry.receipt.record.amount for entry in entries)


def with_seq(entry: Paid, seq: int, positions: int) -> Paid:
    """Another receipt of the same contract."""
    terms = entry.contract.record
    receipt = replace(
        entry.receipt.record,
        seq=seq,
        usage=terms.work.usage(positions),
        amount=terms.amount(positions),
    )
    return Paid(entry.contract, countersign(sign(receipt, NODE), CLIENT))


def session_of(entry: Paid) -> SessionId:
    return SessionId(entry.contract.record.nonce)


def node_folder(
    folder: Path,
    entries: Sequence[Paid],
    certificates: Sequence[SignedRecord[NodeCert]] = (CERTIFICATE,),
    node: PrivateKey = NODE,
) -> Path:
    """A node's data folder after it earned these, its owner's key moved elsewhere."""
    folder.mkdir(parents=True)
    write_key(folder / "node.key", node)
    trio.run(_fill, node_journal(folder), entries, certificates)
    return folder


def client_folder(folder: Path, entries: Sequence[Paid]) -> Path:
    """A client's data folder after it paid these."""
    folder.mkdir(parents=True, exist_ok=True)
    write_key(folder / "client.key", CLIENT)
    trio.run(_fill, client_journal(folder), entries, [])
    return folder


def write_key(path: Path, key: PrivateKey) -> None:
    path.write_text(key.seed.hex() + "\n")
    path.chmod(0o600)


async def _fill(path: Path, entries: Sequence[Paid], certificates: Sequence[SignedRecord[NodeCert]]) -> None:
    async with open_journal(path) as journal:
        for certificate in certificates:
            await journal.certify(certificate)
        for entry in entries:
            await store(journal, entry)


def tamper(journal: Path, change: str) -> None:
    """Alter rows, and write the digests that fit: who tampers knows how."""
    rows = {
        "contract": CONTRACT,
        "receipt": RECEIPT,
    }
    with closing(sqlite3.connect(journal)) as db:
        db.create_function("digest_of", -1, lambda *values: row_digest(values))
        db.execute(change)
        for table, columns in rows.items():
            db.execute(f"UPDATE {table} SET digest = digest_of({columns.rpartition(',')[0]})")
        db.commit()


async def store(journal: Journal, entry: Paid) -> None:
    await journal.agree(entry.contract, session_of(entry))
    await journal.complete(entry.receipt)


async def leave_unsigned(path: Path, entry: Paid, delivered: int) -> None:
    """A client was given so many ids under a contract, beyond what it has signed."""
    tree = Tree(bytes([at % 256]) * 32 for at in range(PROMPT + delivered))
    outputs = Tree(tree.leaves(PROMPT))
    async with open_journal(path) as journal:
        kept = delivered_of(tree, outputs, PROMPT, 0)
        await journal.keep(session_of(entry), entry.contract.record.client, kept, entry.contract.record.issued)
