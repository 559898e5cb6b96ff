"""Reading the journal: what was earned and paid, what is still to settle (see journal.py for writing).

Values are built from the bytes as they were stored; the signatures were checked before that. A statement made from
them is checked whole by whoever reads it.
"""

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from p2pinfer.core.certificate import NodeCert
from p2pinfer.core.contract import Contract
from p2pinfer.core.delivered import Delivered, decode_delivered
from p2pinfer.core.errors import JournalError, RemoteProtocolError
from p2pinfer.core.ledger import Earned
from p2pinfer.core.receipt import Receipt
from p2pinfer.core.records import R, SignedRecord, decode, record_id
from p2pinfer.core.units import PeerKey, RecordId, SessionId
from p2pinfer.disk.journal_file import FAULTS, connect_reader, damaged, restoring, row_digest

CONTRACT: Final = """contract.id, contract.body, contract.client_signature, contract.node_signature, contract.client,
    contract.node, contract.session, contract.expires, contract.digest"""
RECEIPT: Final = """receipt.contract, receipt.seq, receipt.body, receipt.node_signature, receipt.client_signature,
    receipt.final, receipt.time, receipt.digest"""
PROPOSAL: Final = """proposal.contract, proposal.seq, proposal.body, proposal.node_signature, proposal.generated,
    proposal.digest"""
RECEIPT_COLUMNS: Final = 8
PROPOSAL_COLUMNS: Final = 6
# An outer join: a receipt whose contract is lost is damage, not nothing
EARNED: Final = f"SELECT {RECEIPT}, {CONTRACT} FROM receipt LEFT JOIN contract ON contract.id = receipt.contract"

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Unpaid:
    """A generation that a client has not paid for in full.

    delivered: what it was given; None where nobody knows that any more
    contracts: of the stages, head first
    complete:  the highest receipt signed, by contract
    """

    session: SessionId
    client: PeerKey
    contracts: tuple[SignedRecord[Contract], ...]
    complete: Mapping[RecordId, SignedRecord[Receipt]]
    delivered: Delivered | None


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
        except FAULTS as error:  # it was sound when it was opened: a passing fault perhaps
            again = f"try again, and if that fails {restoring(reader.path)}"
            raise JournalError(f"cannot read the journal {reader.path} ({error}): {again}") from None
        except (_Damaged, RemoteProtocolError) as error:
            raise damaged(reader.path, str(error)) from None

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
        for row in self._connection.execute(f"SELECT {CONTRACT} FROM contract WHERE id = ?", (id_,)):
            return _contract(_whole(row))
        return None

    @_query
    def earned(self, since: int = 0, until: int = (1 << 53) - 1, payer: PeerKey | None = None) -> list[Earned]:
        """The highest complete receipts whose time is in [since, until], in order of their contracts' ids."""
        found = []
        for row in self._connection.execute(f"{EARNED} ORDER BY receipt.contract"):
            receipt, contract = _halves(row)
            if since <= receipt[6] <= until and payer in (None, contract[4]):
                found.append(_earned(receipt, contract))
        return found

    @_query
    def settled(self, after: RecordId, since: int, until: int, count: int) -> list[Earned]:
        """Highest complete receipts whose time is in [since, until) and above which nothing is proposed.

        So many of them, those whose contracts' ids come next after `after`, in order of these.
        """
        query = f"""{EARNED} WHERE receipt.contract > ? AND receipt.time >= ? AND receipt.time < ?
                    AND NOT EXISTS (SELECT * FROM proposal WHERE proposal.contract = receipt.contract)
                    ORDER BY receipt.contract LIMIT ?"""
        return [_earned(*_halves(row)) for row in self._connection.execute(query, (after, since, until, count))]

    @_query
    def complete(self, contract: RecordId) -> Earned | None:
        """The highest complete receipt of a contract."""
        for row in self._connection.execute(f"{EARNED} WHERE receipt.contract = ?", (contract,)):
            return _earned(*_halves(row))
        return None

    @_query
    def find_receipts(self, prefix: str) -> list[Earned]:
        """Receipts whose contract's id begins with these hex digits."""
        query = f"{EARNED} WHERE substr(lower(hex(receipt.contract)), 1, ?) = ? ORDER BY receipt.contract"
        return [_earned(*_halves(row)) for row in self._connection.execute(query, (len(prefix), prefix.lower()))]

    @_query
    def pending(self, client: PeerKey | None = None) -> list[tuple[SignedRecord[Contract], SignedRecord[Receipt]]]:
        """Proposals that were never completed, with their contracts; of one client, or of all."""
        query = f"""SELECT {PROPOSAL}, {CONTRACT} FROM proposal LEFT JOIN contract ON contract.id = proposal.contract
                    {"" if client is None else "WHERE client = ?"} ORDER BY proposal.contract, proposal.seq"""
        found = []
        for row in self._connection.execute(query, () if client is None else (client,)):
            _, _, body, signature, _ = _whole(row[:PROPOSAL_COLUMNS])
            contract, _ = _contract(_whole(row[PROPOSAL_COLUMNS:]))
            found.append((contract, _with_id(decode(Receipt, body), body, (signature,))))
        return found

    @_query
    def unstored(self, node: PeerKey | None = None) -> list[Earned]:
        """Receipts we signed as a client whose node has not said yet that it has them; of one node, or of all."""
        query = f"{EARNED} WHERE NOT stored AND (? IS NULL OR node = ?) ORDER BY receipt.contract"
        return [_earned(*_halves(row)) for row in self._connection.execute(query, (node, node))]

    @_query
    def signed(self, client: PeerKey) -> int:
        """Work, in layer-tokens, under the contracts of a client whose final receipt is complete."""
        query = "SELECT coalesce(sum(work), 0) FROM signed WHERE client = ?"
        return int(self._connection.execute(query, (client,)).fetchone()[0])

    @_query
    def known_nodes(self, client: PeerKey) -> frozenset[PeerKey]:
        """Nodes that know a client of ours: it has signed something in full, and they said that they have all of it."""
        query = """SELECT node FROM signed WHERE client = :client
                   EXCEPT SELECT node FROM receipt JOIN contract ON id = receipt.contract
                          WHERE NOT stored AND final AND client = :client"""
        rows = self._connection.execute(query, {"client": client})
        return frozenset(PeerKey(node) for (node,) in rows)

    @_query
    def paid_in_vain(self, client: PeerKey) -> list[frozenset[bytes]]:
        """The nodes of each session in which a client of ours signed something, and nothing in full.

        Where no id came no final is signed; so one that stands says that the session brought something, and that only
        a link was lost. Without those of which each has brought an answer to its end, in whatever session.
        """
        paid = """SELECT session FROM receipt JOIN contract ON id = receipt.contract WHERE client = ?
                  GROUP BY session HAVING NOT max(final)"""
        query = f"SELECT session, node FROM contract WHERE session IN ({paid})"
        routes: dict[bytes, set[bytes]] = {}
        for session, node in self._connection.execute(query, (client,)):
            routes.setdefault(session, set()).add(node)
        proven = {node for (node,) in self._connection.execute("SELECT node FROM signed WHERE client = ?", (client,))}
        return [frozenset(nodes) for nodes in routes.values() if not nodes <= proven]

    @_query
    def unpaid(self, session: SessionId) -> Unpaid | None:
        """A session that this machine's client opened, as far as it is known; None where it is not."""
        contracts: list[SignedRecord[Contract]] = []
        complete: dict[RecordId, SignedRecord[Receipt]] = {}
        query = f"""SELECT {CONTRACT}, {RECEIPT} FROM contract LEFT JOIN receipt ON receipt.contract = id
                    WHERE session = ?"""
        for row in self._connection.execute(query, (session,)):
            contract, _ = _contract(_whole(row[:-RECEIPT_COLUMNS]))
            contracts.append(contract)
            if row[-1] is not None:
                complete[contract.id] = _receipt(_whole(row[-RECEIPT_COLUMNS:]))
        if not contracts:
            return None
        contracts.sort(key=lambda contract: contract.record.span)
        found = self._connection.execute("SELECT body FROM delivered WHERE session = ?", (session,)).fetchone()
        delivered = decode_delivered(found[0]) if found is not None else None
        return Unpaid(session, contracts[0].record.client, tuple(contracts), complete, delivered)

    @_query
    def unpaid_sessions(self) -> list[SessionId]:
        """Sessions of which something is delivered and unpaid, the oldest first."""
        rows = self._connection.execute("SELECT session FROM delivered ORDER BY time, session")
        return [SessionId(session) for (session,) in rows]

    @_query
    def unfinished(self, since: int) -> list[SignedRecord[Contract]]:
        """Contracts without a final receipt that expire after `since` (Unix seconds), in order of their ids."""
        query = f"""SELECT {CONTRACT} FROM contract LEFT JOIN receipt ON receipt.contract = id
                    WHERE NOT coalesce(final, 0) AND expires > ? ORDER BY id"""
        return [_contract(_whole(row))[0] for row in self._connection.execute(query, (since,))]

    @_query
    def last_statement(self) -> tuple[int, RecordId] | None:
        """Number and id of the newest statement."""
        rows = self._connection.execute("SELECT number, id FROM statement ORDER BY number DESC LIMIT 1")
        return next(((number, RecordId(id_)) for number, id_ in rows), None)


class _Damaged(Exception):
    """A row is not what was written."""


def _whole(row: Sequence[Any]) -> Sequence[Any]:
    """The columns of a row, without the digest at its end, to which they come."""
    *values, digest = row
    if digest != row_digest(values):
        raise _Damaged("a row is not what was written, or lacks the contract it belongs to")
    return values


def _halves(row: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any]]:
    """The columns of a receipt and those of its contract."""
    return _whole(row[:RECEIPT_COLUMNS]), _whole(row[RECEIPT_COLUMNS:])


def _signed(shape: type[R], id_: bytes, body: bytes, *signatures: bytes) -> SignedRecord[R]:
    if record_id(shape, body) != id_:
        raise _Damaged("a record is not what was written")
    return SignedRecord(decode(shape, body), RecordId(id_), body, signatures)


def _contract(columns: Sequence[Any]) -> tuple[SignedRecord[Contract], SessionId]:
    *contract, _client, _node, session, _expires = columns
    return _signed(Contract, *contract), SessionId(session)


def _with_id(receipt: Receipt, body: bytes, signatures: tuple[bytes, ...]) -> SignedRecord[Receipt]:
    return SignedRecord(receipt, record_id(Receipt, body), body, signatures)


def _earned(receipt: Sequence[Any], contract: Sequence[Any]) -> Earned:
    agreed, session = _contract(contract)
    return Earned(agreed, _receipt(receipt), session)


def _receipt(columns: Sequence[Any]) -> SignedRecord[Receipt]:
    _, _, body, node, client, *_ = columns
    return _with_id(decode(Receipt, body), body, (node, client))
