"""Reading the journal: what was earned and paid, what is still to settle (see journal.py for writing).

Values are built from the bytes as they were stored; the signatures were checked before that. A statement made from
them is checked whole by whoever reads it.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Concatenate, Final, ParamSpec, TypeVar

from p2pinfer.core.certificate import NodeCert
from p2pinfer.core.contract import Contract
from p2pinfer.core.errors import JournalError, RemoteProtocolError
from p2pinfer.core.ledger import Earned
from p2pinfer.core.receipt import Receipt
from p2pinfer.core.records import R, SignedRecord, decode, record_id
from p2pinfer.core.units import PeerKey, RecordId, SessionId
from p2pinfer.disk.journal_file import connect_reader

CONTRACT: Final = "contract.id, contract.body, contract.client_signature, contract.node_signature"
RECEIPT: Final = "receipt.body, receipt.node_signature, receipt.client_signature"
EARNED: Final = f"SELECT {CONTRACT}, {RECEIPT}, contract.session FROM receipt JOIN contract ON contract = id"
P = ParamSpec("P")
T = TypeVar("T")


@contextmanager
def read_journal(path: Path) -> Iterator["JournalReader"]:
    """The journal for reading, also while a node writes to it.

    Raises UsageError where there is none, JournalError where it cannot be trusted.
    """
    connection = connect_reader(path)
    try:
        yield JournalReader(connection, path)
    finally:
        connection.close()


def _query(
    query: Callable[Concatenate["JournalReader", P], T],
) -> Callable[Concatenate["JournalReader", P], T]:
    """A query that raises JournalError, naming the file, where the file turns out to be unsound."""

    @wraps(query)
    def asked(reader: "JournalReader", /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return query(reader, *args, **kwargs)
        except sqlite3.Error as error:  # it was sound when it was opened: a passing fault perhaps
            why = (
                f"cannot read the journal {reader.path} ({error}): try again, and if that fails restore it from a copy"
            )
            raise JournalError(why) from None
        except RemoteProtocolError as error:
            raise JournalError(f"the journal {reader.path} is damaged ({error}): restore it from a copy") from None

    return asked


class JournalReader:
    """Queries, each over one moment of the journal. They raise JournalError where it cannot be trusted."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self.path: Final = path
        self._connection = connection

    @_query
    def certificates(self) -> list[SignedRecord[NodeCert]]:
        """Every certificate this node has had, in order of their ids."""
        rows = self._connection.execute("SELECT id, body, owner_signature FROM certificate ORDER BY id")
        return [_signed(NodeCert, *row) for row in rows]

    @_query
    def contract(self, id_: RecordId) -> tuple[SignedRecord[Contract], SessionId] | None:
        """A contract and its session."""
        rows = self._connection.execute(f"SELECT {CONTRACT}, session FROM contract WHERE id = ?", (id_,))
        for *contract, session in rows:
            return _signed(Contract, *contract), SessionId(session)
        return None

    @_query
    def earned(self, since: int = 0, until: int = (1 << 53) - 1, payer: PeerKey | None = None) -> list[Earned]:
        """The highest complete receipts whose time is in [since, until], in order of their contracts' ids."""
        query = f"{EARNED} WHERE time BETWEEN ? AND ? AND (? IS NULL OR client = ?) ORDER BY id"
        return [_earned(row) for row in self._connection.execute(query, (since, until, payer, payer))]

    @_query
    def complete(self, contract: RecordId) -> Earned | None:
        """The highest complete receipt of a contract."""
        for row in self._connection.execute(f"{EARNED} WHERE id = ?", (contract,)):
            return _earned(row)
        return None

    @_query
    def find_receipts(self, prefix: str) -> list[Earned]:
        """Receipts whose contract's id begins with these hex digits."""
        query = f"{EARNED} WHERE substr(lower(hex(id)), 1, ?) = ? ORDER BY id"
        return [_earned(row) for row in self._connection.execute(query, (len(prefix), prefix.lower()))]

    @_query
    def pending(self, client: PeerKey | None = None) -> list[tuple[SignedRecord[Contract], SignedRecord[Receipt]]]:
        """Proposals that were never completed, with their contracts; of one client, or of all."""
        query = f"""SELECT {CONTRACT}, proposal.body, proposal.node_signature FROM proposal JOIN contract
                    ON contract = id WHERE ? IS NULL OR client = ? ORDER BY id, seq"""
        found = []
        for *contract, body, signature in self._connection.execute(query, (client, client)):
            receipt = decode(Receipt, body)
            found.append((_signed(Contract, *contract), _with_id(receipt, body, (signature,))))
        return found

    @_query
    def unstored(self) -> list[Earned]:
        """Receipts we signed as a client whose node has not said yet that it has them."""
        return [_earned(row) for row in self._connection.execute(f"{EARNED} WHERE NOT stored ORDER BY id")]

    @_query
    def signed(self, client: PeerKey) -> int:
        """Work, in layer-tokens, under the contracts of a client whose final receipt is complete."""
        query = "SELECT coalesce(sum(work), 0) FROM signed WHERE client = ?"
        return int(self._connection.execute(query, (client,)).fetchone()[0])

    @_query
    def known_nodes(self, client: PeerKey) -> frozenset[PeerKey]:
        """Nodes for which a client of ours has signed something in full."""
        rows = self._connection.execute("SELECT node FROM signed WHERE client = ?", (client,))
        return frozenset(PeerKey(node) for (node,) in rows)

    @_query
    def last_statement(self) -> tuple[int, RecordId] | None:
        """Number and id of the newest statement."""
        rows = self._connection.execute("SELECT number, id FROM statement ORDER BY number DESC LIMIT 1")
        return next(((number, RecordId(id_)) for number, id_ in rows), None)


def _signed(shape: type[R], id_: bytes, body: bytes, *signatures: bytes) -> SignedRecord[R]:
    return SignedRecord(decode(shape, body), RecordId(id_), body, signatures)


def _with_id(receipt: Receipt, body: bytes, signatures: tuple[bytes, ...]) -> SignedRecord[Receipt]:
    return SignedRecord(receipt, record_id(Receipt, body), body, signatures)


def _earned(row: tuple[bytes, ...]) -> Earned:
    *contract, body, node, client, session = row
    receipt = _with_id(decode(Receipt, body), body, (node, client))
    return Earned(_signed(Contract, *contract), receipt, SessionId(session))
