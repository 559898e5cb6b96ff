"""The journal's tables: what is in a row, how it is known that a row is what was written, and which sums are kept.

Every row that a query reads has a digest of its columns, but for those that change by themselves. Sums that grow with
history are never added up when they are asked for: `total` and `signed` hold the sums, changed in the transaction that
changes the rows they are of. `journal_check.py` proves that they agree.
"""

import sqlite3
from collections.abc import Iterable
from hashlib import sha256
from typing import Final

import msgpack

APPLICATION: Final = 0x70327069  # "p2pi", in the file's header
VERSION: Final = 2
DIGEST_BYTES: Final = 8
SEALED: Final = ("certificate", "contract", "receipt", "statement")  # tables whose rows are counted
DAY_S: Final = 86_400
LOW_BITS: Final = 32  # an amount is summed in two parts: promises without sense come to more than a column holds

# The columns that a digest is of, and the digest; those of a receipt and its contract are read together
CONTRACT: Final = """contract.id, contract.body, contract.client_signature, contract.node_signature, contract.client,
    contract.node, contract.owner, contract.model, contract.layers, contract.session, contract.expires,
    contract.digest"""
RECEIPT: Final = """receipt.contract, receipt.seq, receipt.body, receipt.node_signature, receipt.client_signature,
    receipt.final, receipt.time, receipt.client, receipt.node, receipt.work, receipt.positions, receipt.sampled,
    receipt.amount, receipt.digest"""
PROPOSAL: Final = """proposal.contract, proposal.seq, proposal.body, proposal.node_signature, proposal.generated,
    proposal.client, proposal.digest"""
TOTAL: Final = "day, client, node, owner, model, receipts, positions, sampled, high, low, digest"
RECEIPT_COLUMNS: Final = 14
RECEIPT_TIME: Final = 6  # among them
NODE_AND_OWNER: Final = slice(5, 7)  # among those of a contract
PROPOSAL_COLUMNS: Final = 7

TABLES: Final = (
    """CREATE TABLE certificate (
        id BLOB PRIMARY KEY, body BLOB NOT NULL, owner_signature BLOB NOT NULL
    ) STRICT, WITHOUT ROWID""",
    # `finished` once a final receipt is complete
    """CREATE TABLE contract (
        id BLOB PRIMARY KEY, body BLOB NOT NULL, client_signature BLOB NOT NULL, node_signature BLOB NOT NULL,
        client BLOB NOT NULL, node BLOB NOT NULL, owner BLOB NOT NULL, model BLOB NOT NULL, layers INTEGER NOT NULL,
        session BLOB NOT NULL, expires INTEGER NOT NULL, finished INTEGER NOT NULL, digest BLOB NOT NULL
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX contract_session ON contract (session)",
    "CREATE INDEX contract_expires ON contract (finished, expires)",
    # Proposals above the highest complete receipt; `generated` if they claim work beyond the prompt
    """CREATE TABLE proposal (
        contract BLOB NOT NULL REFERENCES contract, seq INTEGER NOT NULL, body BLOB NOT NULL,
        node_signature BLOB NOT NULL, generated INTEGER NOT NULL, client BLOB NOT NULL, digest BLOB NOT NULL,
        PRIMARY KEY (contract, seq)
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX proposal_client ON proposal (client)",
    # The highest complete receipt of a contract; `stored` once the node has it, as far as is known here
    """CREATE TABLE receipt (
        contract BLOB PRIMARY KEY REFERENCES contract, seq INTEGER NOT NULL, body BLOB NOT NULL,
        node_signature BLOB NOT NULL, client_signature BLOB NOT NULL, final INTEGER NOT NULL, time INTEGER NOT NULL,
        client BLOB NOT NULL, node BLOB NOT NULL, work INTEGER NOT NULL, positions INTEGER NOT NULL,
        sampled INTEGER NOT NULL, amount INTEGER NOT NULL, stored INTEGER NOT NULL, digest BLOB NOT NULL
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX receipt_time ON receipt (time)",
    "CREATE INDEX receipt_unstored ON receipt (client, node) WHERE NOT stored",
    "CREATE INDEX receipt_broken ON receipt (client, time) WHERE NOT final",
    # Sums of the receipts of a day (UTC), in days since 1970, between the same parties
    """CREATE TABLE total (
        day INTEGER NOT NULL, client BLOB NOT NULL, node BLOB NOT NULL, owner BLOB NOT NULL, model BLOB NOT NULL,
        receipts INTEGER NOT NULL, positions INTEGER NOT NULL, sampled INTEGER NOT NULL, high INTEGER NOT NULL,
        low INTEGER NOT NULL, digest BLOB NOT NULL,
        PRIMARY KEY (day, client, node, owner, model)
    ) STRICT, WITHOUT ROWID""",
    # Work, in layer-tokens, under the contracts of client and node whose final receipt is complete
    """CREATE TABLE signed (
        client BLOB NOT NULL, node BLOB NOT NULL, work INTEGER NOT NULL,
        PRIMARY KEY (client, node)
    ) STRICT, WITHOUT ROWID""",
    # What a client was given and has not paid for in full (core/records/delivered.py)
    """CREATE TABLE delivered (
        session BLOB PRIMARY KEY, client BLOB NOT NULL, body BLOB NOT NULL, time INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX delivered_time ON delivered (time)",
    """CREATE TABLE statement (
        number INTEGER PRIMARY KEY, id BLOB NOT NULL, created INTEGER NOT NULL
    ) STRICT""",
    # One row: how many commits there were, and how many rows the tables have
    f"CREATE TABLE seal ({', '.join(f'{name} INTEGER NOT NULL' for name in ('commits', *SEALED))}) STRICT",
    *(
        f"""CREATE TRIGGER {table}_{name} AFTER {event} ON {table}
            BEGIN UPDATE seal SET {table} = {table} {sign} 1; END"""
        for table in SEALED
        for name, event, sign in (("added", "INSERT", "+"), ("removed", "DELETE", "-"))
    ),
)


def create_tables(connection: sqlite3.Connection) -> None:
    """Make a journal of an empty file."""
    for statement in TABLES:
        connection.execute(statement)
    connection.execute(f"INSERT INTO seal VALUES (0{', 0' * len(SEALED)})")
    connection.execute(f"PRAGMA application_id = {APPLICATION}")
    connection.execute(f"PRAGMA user_version = {VERSION}")


def row_digest(values: Iterable[object]) -> bytes:
    """The digest of a row, of all its columns but those that may change by themselves."""
    data: bytes = msgpack.packb(list(values))
    return sha256(data).digest()[:DIGEST_BYTES]


def digest_in_sql(*values: object) -> bytes:
    """`row_digest`, as SQL calls it."""
    return row_digest(values)
