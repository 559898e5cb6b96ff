"""Statements: a file that proves what a node earned to anyone, without network, manifest or clock (receipts.md).

    p2pinfer statement 1\\n
    [header, node's signature]
    [0, certificate, owner's signature]                     one or more, by id
    [1, contract, client's and node's signatures,
        receipt, node's and client's signatures]            any number, by contract id

Every array is canonical and has its length before it, u32be. The header's root covers all frames after the first. The
caller chooses the receipts; `statement_check.py` reads a statement.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

from p2pinfer.core.records.canonical import pack_array
from p2pinfer.core.records.certificate import NodeCert
from p2pinfer.core.records.contract import Contract
from p2pinfer.core.records.receipt import Receipt
from p2pinfer.core.records.records import ZEROS, Record, SignedRecord, sign
from p2pinfer.core.records.tree import Tree, leaf_of
from p2pinfer.core.values.fields import Bin, UInt, UInts, Zero
from p2pinfer.core.values.keys import PrivateKey
from p2pinfer.core.values.units import OwnerKey, PeerKey, RecordId

MAGIC: Final = b"p2pinfer statement 1\n"
MAX_STATEMENT_FRAME: Final = 4096  # bytes
MAX_RECEIPTS: Final = 65_536  # half a minute of a verifier's time
MAX_CERTIFICATES: Final = 64  # ten years of them
MAX_AMOUNT: Final = (1 << 53) - 1  # nano-credits that a header can state
MAX_STATEMENT: Final = 67_108_864  # bytes; a statement of so many receipts is shorter, whatever is in them
CERTIFICATE: Final = 0
RECEIPT: Final = 1
NO_PAYER: Final = PeerKey(ZEROS)


@dataclass(frozen=True, slots=True)
class Header(Record):
    """Signed by the node."""

    TYPE: ClassVar = "statement"
    node: Annotated[PeerKey, Bin(32)]
    owner: Annotated[OwnerKey, Bin(32)]
    payer: Annotated[PeerKey, Bin(32)]  # zeros for all
    number: Annotated[int, UInt()]
    prev: Annotated[RecordId, Bin(32)]  # id of the node's previous statement; zeros for none
    since: Annotated[int, UInt()]  # Unix seconds of the earliest and the latest receipt that may be in it
    until: Annotated[int, UInt()]
    created: Annotated[int, UInt()]
    count: Annotated[int, UInt()]  # receipts
    amount: Annotated[int, UInt()]  # nano-credits, their sum
    root: Annotated[bytes, Bin(32)]
    log: Annotated[tuple[int, int], Zero(UInts(2))] = (0, 0)  # reserved
    log_root: Annotated[bytes, Zero(Bin(32))] = ZEROS  # reserved

    def contradiction(self) -> str | None:
        if self.since > self.until:
            return f"a period from {self.since} to {self.until}"
        if self.count > MAX_RECEIPTS:
            return f"{self.count} receipts, limit {MAX_RECEIPTS}"
        return None


@dataclass(frozen=True, slots=True)
class Paid:
    """A contract and its highest complete receipt, as a statement holds them."""

    contract: SignedRecord[Contract]
    receipt: SignedRecord[Receipt]


@dataclass(frozen=True, slots=True)
class Stated:
    """The word of a statement on itself. prev: of the node's one before; since, until: Unix seconds, of its receipts"""

    owner: OwnerKey
    number: int
    prev: RecordId
    since: int
    until: int
    created: int
    payer: PeerKey = NO_PAYER


def next_number(last: int, created: int, draw: int) -> int:
    """The number of a node's next statement.

    It follows from the time, with 16 random bits in `draw`, so that a journal that was copied, or restored from an
    older copy, signs no second statement of a number.

    last: of the one before, 0 for none; created: Unix seconds
    """
    return max(last + 1, (created << 16) + draw)


def write_statement(
    key: PrivateKey, stated: Stated, certificates: Sequence[SignedRecord[NodeCert]], entries: Iterable[Paid]
) -> tuple[SignedRecord[Header], bytes]:
    """The file's bytes, and the header as it was signed.

    certificates: at least all that the contracts name
    entries:      their amounts come to MAX_AMOUNT at most
    """
    frames = [
        pack_array([CERTIFICATE, certificate.body, certificate.signatures[0]])
        for certificate in sorted(certificates, key=lambda certificate: certificate.id)
    ]
    count = amount = 0
    for entry in sorted(entries, key=lambda entry: entry.contract.id):
        frames.append(_receipt_frame(entry))
        count, amount = count + 1, amount + entry.receipt.record.amount
    root = Tree(map(leaf_of, frames)).root()
    whose, number, period = (key.public, stated.owner, stated.payer), stated.number, (stated.since, stated.until)
    header = sign(Header(*whose, number, stated.prev, *period, stated.created, count, amount, root), key)
    first = pack_array([header.body, header.signatures[0]])
    return header, MAGIC + b"".join(len(frame).to_bytes(4, "big") + frame for frame in (first, *frames))


def _receipt_frame(entry: Paid) -> bytes:
    """Each record with its signatures in the order of signing: a contract's client before its node."""
    contract, receipt = entry.contract, entry.receipt
    return pack_array([RECEIPT, contract.body, *contract.signatures, receipt.body, *receipt.signatures])
