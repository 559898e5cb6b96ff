"""Reading the journal: what was earned and paid, what is still to settle (see journal.py for writing).

A statement made from them is checked whole by whoever reads it. Nothing takes longer the longer the journal is, but for
the receipts of a period, the more there are, and for the sums of all days.
"""

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from p2pinfer.core.money.ledger import Earned, Subtotal
from p2pinfer.core.records.certificate import NodeCert
from p2pinfer.core.records.contract import Contract
from p2pinfer.core.records.delivered import Delivered, decode_delivered
from p2pinfer.core.records.receipt import Receipt
from p2pinfer.core.records.records import SignedRecord, decode
from p2pinfer.core.values.errors import JournalError, RemoteProtocolError
from p2pinfer.core.values.units import OwnerKey, PeerKey, RecordId, SessionId
from p2pinfer.disk.journal_check import Progress, damaged, no_progress, restoring
from p2pinfer.disk.journal_file import FAULTS, connect_reader
from p2pinfer.disk.journal_rows import (
    DamagedRow,
    between,
    contract_of,
    earned_of,
    halves_of,
    part_of,
    receipt_of,
    signed_of,
    total_of,
    whole,
    with_id,
)
from p2pinfer.disk.journal_tables import (
    CONTRACT,
    DAY_S,
    NODE_AND_OWNER,
    PROPOSAL,
    PROPOSAL_COLUMNS,
    RECEIPT,
    RECEIPT_COLUMNS,
    RECEIPT_TIME,
    TOTAL,
)

# An outer join: a receipt whose contract is lost is damage, not nothing
EARNED: Final = f"SELECT {RECEIPT}, {CONTRACT} FROM receipt LEFT JOIN contract ON contract.id = receipt.contract"
MAX_TIME: Final = (1 << 53) - 1
MAX_BROKEN: Final = 256  # receipts that are not final and are looked through at each start of a client, the newest
PERIOD: Final = "receipt.time BETWEEN ?1 AND ?2 AND receipt.client = coalesce(?3, receipt.client)"

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
def read_journal(path: Path, progress: Progress = no_progress) -> Iterator["JournalReader"]:
    """The journal for reading, also while a node writes to it.

    progress: told how far it is read, where it was not closed well

    Raises UsageError where there is none, JournalError where it cannot be trusted.
    """
    connection = connect_reader(path, progress)
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
            with reader.one_moment():
                return query(reader, *args, **kwargs)
        except FAULTS as error:  # it was sound when it was opened: a passing fault perhaps
            again = f"try again, and if that fails {restoring(reader.path)}"
            raise JournalError(f"cannot read the journal {reader.path} ({error}): {again}") from None
        except (DamagedRow, RemoteProtocolError) as error:
            raise damaged(reader.path, str(error)) from None

    return asked


class JournalReader:
    """Queries, each over one moment of the journal. They raise JournalError where it cannot be trusted."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self.path: Final = path
        self._connection = connection

    @contextmanager
    def one_moment(self) -> Iterator[None]:
        """Read everything in the block as of one moment, though a node writes meanwhile."""
        self._connection.execute("BEGIN")
        try:
            yield
        finally:
            if self._connection.in_transaction:
                self._connection.execute("COMMIT")

    @_query
    def certificates(self) -> list[SignedRecord[NodeCert]]:
        """Every certificate this node has had, in order of their ids."""
        rows = self._connection.execute("SELECT id, body, owner_signature FROM certificate ORDER BY id")
        found = [signed_of(NodeCert, *row) for row in rows]
        self._check_all("certificate", len(found))
        return found

    @_query
    def contract(self, id_: RecordId) -> tuple[SignedRecord[Contract], SessionId] | None:
        """A contract and its session."""
        for row in self._connection.execute(f"SELECT {CONTRACT} FROM contract WHERE id = ?", (id_,)):
            return contract_of(whole(row))
        return None

    @_query
    def earned(
        self,
        since: int = 0,
        until: int = MAX_TIME,
        payer: PeerKey | None = None,
        whose: tuple[PeerKey, OwnerKey] | None = None,
    ) -> list[Earned]:
        """The highest complete receipts whose time is in [since, until], in order of their contracts' ids.

        whose: of contracts with this node, for this owner
        """
        found = [
            earned_of(receipt, contract)
            for receipt, contract in self._in_period(since, until, payer)
            if whose in (None, tuple(contract[NODE_AND_OWNER]))
        ]
        return sorted(found, key=lambda earned: earned.contract.id)

    @_query
    def parts(self, since: int) -> list[Subtotal]:
        """Receipts one by one, as sums take them, in order of their contracts' ids. since: when a day begins (UTC)."""
        found = [part_of(*halves) for halves in self._in_period(since, MAX_TIME, None)]
        return sorted(found, key=lambda part: part.contract or b"")

    @_query
    def totals(self, since: int = 0) -> list[Subtotal]:
        """The sums of receipts for each day and all parties, from then on. since: when a day begins (UTC)."""
        found, receipts = [], 0
        for row in self._connection.execute(f"SELECT {TOTAL} FROM total ORDER BY day, client, node, owner, model"):
            total = total_of(whole(row))
            receipts += total.receipts
            if total.time >= since:
                found.append(total)
        self._check_all("receipt", receipts)
        return found

    @_query
    def newest(self) -> int | None:
        """Time of the newest receipt, Unix seconds."""
        found: int | None = self._connection.execute("SELECT max(time) FROM receipt").fetchone()[0]
        return found

    @_query
    def count_earned(self, since: int, until: int, payer: PeerKey | None) -> Counter[tuple[PeerKey, OwnerKey]]:
        """Receipts of the days (UTC) in which [since, until] lies, by the node and the owner who earned them."""
        query = """SELECT node, owner, sum(receipts) FROM total
                   WHERE day BETWEEN ? AND ? AND client = coalesce(?, client) GROUP BY node, owner"""
        rows = self._connection.execute(query, (since // DAY_S, until // DAY_S, payer))
        return Counter({(PeerKey(node), OwnerKey(owner)): count for node, owner, count in rows})

    @_query
    def settled(self, after: tuple[int, RecordId], until: int, count: int) -> list[Earned]:
        """Highest complete receipts of before `until` and above which nothing is proposed.

        So many of them, those that come next after this time and this contract, in order of these.
        """
        query = f"""{EARNED} WHERE (receipt.time, receipt.contract) > (?, ?) AND receipt.time < ?
                    AND NOT EXISTS (SELECT * FROM proposal WHERE proposal.contract = receipt.contract)
                    ORDER BY receipt.time, receipt.contract LIMIT ?"""
        return [earned_of(*halves_of(row)) for row in self._connection.execute(query, (*after, until, count))]

    @_query
    def complete(self, contract: RecordId) -> Earned | None:
        """The highest complete receipt of a contract."""
        for row in self._connection.execute(f"{EARNED} WHERE receipt.contract = ?", (contract,)):
            return earned_of(*halves_of(row))
        return None

    @_query
    def find_receipts(self, prefix: str) -> list[Earned]:
        """Receipts whose contract's id begins with these hex digits."""
        query = f"{EARNED} WHERE receipt.contract BETWEEN ? AND ? ORDER BY receipt.contract"
        return [earned_of(*halves_of(row)) for row in self._connection.execute(query, between(prefix))]

    @_query
    def find_proposed(self, prefix: str) -> list[RecordId]:
        """Contracts with proposals that were never completed, whose ids begin with these hex digits."""
        query = "SELECT DISTINCT contract FROM proposal WHERE contract BETWEEN ? AND ? ORDER BY contract"
        return [RecordId(id_) for (id_,) in self._connection.execute(query, between(prefix))]

    @_query
    def pending(self, client: PeerKey | None = None) -> list[tuple[SignedRecord[Contract], SignedRecord[Receipt]]]:
        """Proposals that were never completed, with their contracts; of one client, or of all."""
        query = f"""SELECT {PROPOSAL}, {CONTRACT} FROM proposal LEFT JOIN contract ON contract.id = proposal.contract
                    {"" if client is None else "WHERE proposal.client = ?"} ORDER BY proposal.contract, proposal.seq"""
        found = []
        for row in self._connection.execute(query, () if client is None else (client,)):
            _, _, body, signature, *_ = whole(row[:PROPOSAL_COLUMNS])
            contract, _ = contract_of(whole(row[PROPOSAL_COLUMNS:]))
            found.append((contract, with_id(decode(Receipt, body), body, (signature,))))
        return found

    @_query
    def count_proposed(self) -> int:
        """Contracts with proposals that were never completed."""
        return self._number("SELECT count(DISTINCT contract) FROM proposal")

    @_query
    def unstored(self, client: PeerKey, node: PeerKey) -> list[Earned]:
        """Receipts that a client of ours signed and whose node has not said yet that it has them."""
        query = f"""{EARNED} WHERE NOT stored AND receipt.client = ? AND receipt.node = ? ORDER BY receipt.contract"""
        return [earned_of(*halves_of(row)) for row in self._connection.execute(query, (client, node))]

    @_query
    def count_unstored(self) -> int:
        """Receipts that clients of ours signed and whose nodes have not said yet that they have them."""
        return self._number("SELECT count(*) FROM receipt WHERE NOT stored")

    @_query
    def signed(self, client: PeerKey) -> int:
        """Work, in layer-tokens, under the contracts of a client whose final receipt is complete."""
        return self._number("SELECT coalesce(sum(work), 0) FROM signed WHERE client = ?", client)

    @_query
    def known_nodes(self, client: PeerKey) -> frozenset[PeerKey]:
        """Nodes that know a client of ours: it has signed something in full, and they said that they have all of it."""
        query = """SELECT node FROM signed WHERE client = :client
                   EXCEPT SELECT node FROM receipt WHERE NOT stored AND final AND client = :client"""
        rows = self._connection.execute(query, {"client": client})
        return frozenset(PeerKey(node) for (node,) in rows)

    @_query
    def paid_in_vain(self, client: PeerKey) -> list[frozenset[bytes]]:
        """The nodes of each session in which a client of ours signed something, and nothing in full; the newest last.

        Where no id came no final is signed; so one that stands says that the session brought something, and that only
        a link was lost. Without those of which each has brought an answer to its end, in whatever session.
        """
        broken = """SELECT session FROM receipt JOIN contract ON id = receipt.contract
                    WHERE NOT receipt.final AND receipt.client = ? ORDER BY receipt.time DESC LIMIT ?"""
        query = "SELECT node, finished FROM contract WHERE session = ?"
        proven = {node for (node,) in self._connection.execute("SELECT node FROM signed WHERE client = ?", (client,))}
        routes = []
        for session in dict.fromkeys(self._connection.execute(broken, (client, MAX_BROKEN))):
            stages = self._connection.execute(query, session).fetchall()
            nodes = frozenset(node for node, _ in stages)
            if not any(finished for _, finished in stages) and not nodes <= proven:
                routes.append(nodes)
        return routes[::-1]

    @_query
    def unpaid(self, session: SessionId) -> Unpaid | None:
        """A session that this machine's client opened, as far as it is known; None where it is not."""
        contracts: list[SignedRecord[Contract]] = []
        complete: dict[RecordId, SignedRecord[Receipt]] = {}
        query = f"""SELECT {CONTRACT}, {RECEIPT} FROM contract LEFT JOIN receipt ON receipt.contract = id
                    WHERE session = ?"""
        for row in self._connection.execute(query, (session,)):
            contract, _ = contract_of(whole(row[:-RECEIPT_COLUMNS]))
            contracts.append(contract)
            if row[-1] is not None:
                complete[contract.id] = receipt_of(whole(row[-RECEIPT_COLUMNS:]))
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
        query = f"SELECT {CONTRACT} FROM contract WHERE finished = 0 AND expires > ? ORDER BY id"
        return [contract_of(whole(row))[0] for row in self._connection.execute(query, (since,))]

    @_query
    def last_statement(self) -> tuple[int, RecordId] | None:
        """Number and id of the newest statement."""
        self._check_all("statement", self._number("SELECT count(*) FROM statement"))
        rows = self._connection.execute("SELECT number, id FROM statement ORDER BY number DESC LIMIT 1")
        return next(((number, RecordId(id_)) for number, id_ in rows), None)

    def _in_period(
        self, since: int, until: int, payer: PeerKey | None
    ) -> Iterator[tuple[Sequence[Any], Sequence[Any]]]:
        """Receipts whose time is in [since, until], each with its contract, in any order.

        Of each day that lies in it as a whole there have to be as many as the sums are of.
        """
        first, last = -(-since // DAY_S), (until + 1) // DAY_S
        found = 0
        for row in self._connection.execute(f"{EARNED} WHERE {PERIOD}", (since, until, payer)):
            receipt, contract = halves_of(row)
            found += first <= receipt[RECEIPT_TIME] // DAY_S < last
            yield receipt, contract
        query = """SELECT coalesce(sum(receipts), 0) FROM total
                   WHERE day >= ? AND day < ? AND client = coalesce(?, client)"""
        if found != (wanted := self._number(query, first, last, payer)):
            raise DamagedRow(f"{found} of {wanted} rows of receipts are found")

    def _check_all(self, table: str, found: int) -> None:
        if found != (wanted := self._number(f"SELECT {table} FROM seal")):
            raise DamagedRow(f"it has {found} of {wanted} rows of {table}s")

    def _number(self, query: str, *values: object) -> int:
        return int(self._connection.execute(query, values).fetchone()[0])
