"""Reading a statement: every byte is checked, and the verdict says what that does not prove (receipts.md, "Statement").

Needs no network, no manifest and no clock: times are compared inside the records. `statement.py` writes one.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count, groupby
from typing import Final

from p2pinfer.core.canonical import unpack_array
from p2pinfer.core.certificate import NodeCert, verify_certificate
from p2pinfer.core.codes import Code
from p2pinfer.core.contract import verify_contract
from p2pinfer.core.errors import RemoteProtocolError
from p2pinfer.core.keys import check_key
from p2pinfer.core.receipt import Receipt, verify_receipt
from p2pinfer.core.records import SignedRecord, verify_record
from p2pinfer.core.statement import CERTIFICATE, MAGIC, MAX_FRAME, NO_PAYER, RECEIPT, Header, Paid
from p2pinfer.core.tree import Tree, leaf_of
from p2pinfer.core.units import Nanocredits, PeerKey, RecordId

HEADER_FRAME: Final = 1
LENGTH: Final = 4  # bytes of the length before each frame

NOT_PROVEN: Final = (
    "that the work was correct: only a replay by somebody who holds the layers shows that",
    "that the payers can or will pay: every receipt is its payer's word",
    "that payers and owner are different people",
    "that the owner has not revoked a certificate",
    "that nothing was left out, or that the receipts were not paid before",
)


@dataclass(frozen=True, slots=True)
class Share:
    """What one payer owes by a statement."""

    payer: PeerKey
    count: int
    amount: Nanocredits


@dataclass(frozen=True, slots=True)
class Verdict:
    """A statement whose every byte was checked."""

    header: SignedRecord[Header]
    certificates: tuple[SignedRecord[NodeCert], ...]
    entries: tuple[Paid, ...]
    by_payer: tuple[Share, ...]  # most first
    not_proven: tuple[str, ...] = NOT_PROVEN


@dataclass(frozen=True, slots=True)
class Overlap:
    """A contract that two statements hold. extra: what the second says beyond the first; it alone is still to pay.

    contradiction: why both receipts cannot be true, which is evidence against their signers
    """

    contract: RecordId
    payer: PeerKey
    first: Nanocredits
    second: Nanocredits
    contradiction: str | None = None

    @property
    def extra(self) -> Nanocredits:
        return Nanocredits(max(0, self.second - self.first))


def verify_statement(data: bytes) -> Verdict:
    """Check every byte of a statement file.

    Raises RemoteProtocolError naming the frame, counted from 1, and what is wrong with it.
    """
    first, *frames = list(_frames(data)) or [b""]
    with _naming(HEADER_FRAME):
        header = _read_header(first)
    reading = _Reading(header.record)
    for number, frame in enumerate(frames, HEADER_FRAME + 1):
        with _naming(number):
            reading.take(frame)
    with _naming(HEADER_FRAME):  # it claims what the others hold
        reading.finish(frames)
    return Verdict(header, tuple(reading.certificates.values()), tuple(reading.entries), _shares(reading.entries))


def compare_statements(first: Verdict, second: Verdict) -> list[Overlap]:
    """Contracts that both hold, by id: a payer pays for each what exceeds what it has paid for it already."""
    known = {entry.contract.id: entry for entry in first.entries}
    both = [(known[entry.contract.id], entry) for entry in second.entries if entry.contract.id in known]
    return [
        Overlap(
            contract=b.contract.id,
            payer=b.contract.record.client,
            first=Nanocredits(a.receipt.record.amount),
            second=Nanocredits(b.receipt.record.amount),
            contradiction=_contradiction(a.receipt, b.receipt),
        )
        for a, b in both
    ]


@dataclass(slots=True)
class _Reading:
    """What has been read of a statement's frames."""

    header: Header
    certificates: dict[RecordId, SignedRecord[NodeCert]] = field(default_factory=dict)
    entries: list[Paid] = field(default_factory=list)

    def take(self, frame: bytes) -> None:
        match unpack_array(frame, MAX_FRAME):
            case [int(kind), bytes(body), bytes(owner)] if kind == CERTIFICATE:
                self._take_certificate(verify_certificate(body, owner))
            case [
                int(kind),
                bytes(contract),
                bytes(client),
                bytes(node),
                bytes(body),
                bytes(r_node),
                bytes(r_client),
            ] if kind == RECEIPT:
                signed = verify_contract(contract, client, node)
                self._take_entry(Paid(signed, verify_receipt(body, r_node, r_client, signed)))
            case _:
                raise _bad("neither a certificate nor a receipt")

    def _take_certificate(self, certificate: SignedRecord[NodeCert]) -> None:
        if self.entries:
            raise _bad("a certificate after a receipt")
        if self.certificates and certificate.id <= next(reversed(self.certificates)):
            raise _bad("certificates are not in order")
        if (certificate.record.owner, certificate.record.node) != (self.header.owner, self.header.node):
            raise _bad("a certificate of another node or owner")
        self.certificates[certificate.id] = certificate

    def _take_entry(self, entry: Paid) -> None:
        contract, receipt = entry.contract.record, entry.receipt.record
        if self.entries and entry.contract.id <= self.entries[-1].contract.id:
            raise _bad("contracts are not in order, or one stands twice")
        if (contract.node, contract.owner) != (self.header.node, self.header.owner):
            raise _bad("a contract of another node or owner")
        if self.header.payer not in (NO_PAYER, contract.client):
            raise _bad("a contract of another payer")
        if (certificate := self.certificates.get(contract.cert)) is None:
            raise _bad("the contract's certificate is missing")
        if not certificate.record.covers(contract.issued, contract.expires):
            raise _bad("the certificate does not cover the contract")
        if not self.header.since <= receipt.time <= self.header.until:
            raise _bad(f"a receipt of {receipt.time}, outside the period")
        self.entries.append(entry)

    def finish(self, frames: Sequence[bytes]) -> None:
        """Hold all of it to the header."""
        if not self.certificates:
            raise _bad("no certificate follows the header")
        amount = sum(entry.receipt.record.amount for entry in self.entries)
        if (len(self.entries), amount) != (self.header.count, self.header.amount):
            raise _bad(
                f"the header says {self.header.count} receipts of {self.header.amount} ncr, "
                f"there are {len(self.entries)} of {amount} ncr"
            )
        if Tree(map(leaf_of, frames)).root() != self.header.root:
            raise _bad("the header's root is another")


@contextmanager
def _naming(number: int) -> Iterator[None]:
    """Name the frame in what is raised."""
    try:
        yield
    except RemoteProtocolError as error:
        raise RemoteProtocolError(f"frame {number} of the statement: {error}", error.code) from None


def _frames(data: bytes) -> Iterator[bytes]:
    if not data.startswith(MAGIC):
        raise _bad("it does not begin as a statement")
    at = len(MAGIC)
    for number in count(HEADER_FRAME):
        if at == len(data):
            return
        with _naming(number):
            end = _end(data, at)
        yield data[at + LENGTH : end]
        at = end


def _end(data: bytes, at: int) -> int:
    """Where the frame ends whose length stands at `at`."""
    size, left = int.from_bytes(data[at : at + LENGTH], "big"), len(data) - at - LENGTH
    if left < 0:
        raise _bad(f"{len(data) - at} bytes are left where a length of {LENGTH} should stand")
    if size > MAX_FRAME:
        raise _bad(f"its length is {size} bytes, limit {MAX_FRAME}")
    if size > left:
        raise _bad(f"its length is {size} bytes, and {left} are left")
    return at + LENGTH + size


def _read_header(frame: bytes) -> SignedRecord[Header]:
    match unpack_array(frame, MAX_FRAME):
        case [bytes(body), bytes(signature)]:
            header = verify_record(Header, body, (signature,), lambda header: (header.node,))
            if header.record.payer != NO_PAYER:
                check_key(header.record.payer)
            return header
        case _:
            raise _bad("no header")


def _shares(entries: Sequence[Paid]) -> tuple[Share, ...]:
    def payer(entry: Paid) -> PeerKey:
        return entry.contract.record.client

    shares = []
    for key, group in groupby(sorted(entries, key=payer), payer):
        amounts = [entry.receipt.record.amount for entry in group]
        shares.append(Share(key, len(amounts), Nanocredits(sum(amounts))))
    return tuple(sorted(shares, key=lambda share: (-share.amount, share.payer)))


def _contradiction(a: SignedRecord[Receipt], b: SignedRecord[Receipt]) -> str | None:
    if a.body == b.body:
        return None
    if a.record.seq == b.record.seq:
        return f"two bodies under number {a.record.seq}"
    earlier, later = sorted((a.record, b.record), key=lambda receipt: receipt.seq)
    return later.follows(earlier)


def _bad(why: str) -> RemoteProtocolError:
    return RemoteProtocolError(f"bad statement: {why}", Code.BAD_RECORD)
