"""Reading a statement: every byte is checked, and the verdict says what that does not prove (receipts.md, "Statement").

Needs no network, no manifest and no clock: times are compared inside the records. `statement.py` writes one.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count, groupby
from typing import Final

from p2pinfer.core.records.canonical import unpack_array
from p2pinfer.core.records.certificate import NodeCert, verify_certificate
from p2pinfer.core.records.contract import verify_contract
from p2pinfer.core.records.receipt import contradiction_of, verify_receipt
from p2pinfer.core.records.records import SignedRecord, verify_record
from p2pinfer.core.records.statement import (
    CERTIFICATE,
    MAGIC,
    MAX_CERTIFICATES,
    MAX_STATEMENT_FRAME,
    NO_PAYER,
    RECEIPT,
    Header,
    Paid,
)
from p2pinfer.core.records.tree import Tree, leaf_of
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import RemoteProtocolError
from p2pinfer.core.values.keys import check_key
from p2pinfer.core.values.units import Nanocredits, PeerKey, RecordId

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
    """One payer's part of a statement."""

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


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two statements beside each other. fork: why one node cannot have made both, which is evidence against it"""

    overlaps: tuple[Overlap, ...]
    fork: str | None


def verify_statement(data: bytes) -> Verdict:
    """Check every byte of a statement file, in order: what stands after the first fault is not looked at.

    Raises RemoteProtocolError naming the frame, counted from 1, and what is wrong with it.
    """
    if not data.startswith(MAGIC):
        raise _bad("it does not begin as a statement")
    frames = _frames(data)
    with _naming(HEADER_FRAME):
        header = _read_header(next(frames, b""))
    reading = _Reading(header.record)
    for number, frame in enumerate(frames, HEADER_FRAME + 1):
        with _naming(number):
            reading.take(frame)
    with _naming(HEADER_FRAME):  # it claims what the others hold
        reading.finish()
    return Verdict(header, tuple(reading.certificates.values()), tuple(reading.entries), _shares(reading.entries))


def compare_statements(first: Verdict, second: Verdict) -> Comparison:
    """Contracts that both hold, by id: a payer pays for each what exceeds what it has paid for it already."""
    return Comparison(tuple(_overlaps(first, second)), _fork(first.header, second.header))


def _overlaps(first: Verdict, second: Verdict) -> list[Overlap]:
    known = {entry.contract.id: entry for entry in first.entries}
    both = [(known[entry.contract.id], entry) for entry in second.entries if entry.contract.id in known]
    return [
        Overlap(
            contract=b.contract.id,
            payer=b.contract.record.client,
            first=Nanocredits(a.receipt.record.amount),
            second=Nanocredits(b.receipt.record.amount),
            contradiction=contradiction_of(a.receipt, b.receipt),
        )
        for a, b in both
    ]


def _fork(a: SignedRecord[Header], b: SignedRecord[Header]) -> str | None:
    """The reason for which one node cannot have made both statements honestly, or None."""
    if a.id == b.id or a.record.node != b.record.node:
        return None
    if a.record.number == b.record.number:
        return f"two statements under number {a.record.number}"
    return None  # one `prev` is none: a folder that was restored goes on from an earlier statement


@dataclass(slots=True)
class _Reading:
    """The frames of a statement that have been read."""

    header: Header
    certificates: dict[RecordId, SignedRecord[NodeCert]] = field(default_factory=dict)
    entries: list[Paid] = field(default_factory=list)
    leaves: list[bytes] = field(default_factory=list)

    def take(self, frame: bytes) -> None:
        self.leaves.append(leaf_of(frame))
        match unpack_array(frame, MAX_STATEMENT_FRAME):
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
                if len(self.entries) == self.header.count:  # before its signatures cost anything
                    raise _bad(f"the header says {self.header.count} receipts, there are more")
                signed = verify_contract(contract, client, node)
                self._take_entry(Paid(signed, verify_receipt(body, r_node, r_client, signed)))
            case _:
                raise _bad("neither a certificate nor a receipt")

    def _take_certificate(self, certificate: SignedRecord[NodeCert]) -> None:
        if self.entries:
            raise _bad("a certificate after a receipt")
        if len(self.certificates) == MAX_CERTIFICATES:
            raise _bad(f"more than {MAX_CERTIFICATES} certificates")
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

    def finish(self) -> None:
        """Hold all of it to the header."""
        if not self.certificates:
            raise _bad("no certificate follows the header")
        if len(self.entries) < self.header.count:  # no more of them were taken
            raise _bad(f"the header says {self.header.count} receipts, there are {len(self.entries)}")
        if (amount := sum(entry.receipt.record.amount for entry in self.entries)) != self.header.amount:
            raise _bad(f"the header says {self.header.amount} ncr, the receipts come to {amount} ncr")
        if Tree(self.leaves).root() != self.header.root:
            raise _bad("the header's root is another")


@contextmanager
def _naming(number: int) -> Iterator[None]:
    """Name the frame in what is raised."""
    try:
        yield
    except RemoteProtocolError as error:
        raise RemoteProtocolError(f"frame {number} of the statement: {error}", error.code) from None


def _frames(data: bytes) -> Iterator[bytes]:
    at = len(MAGIC)
    for number in count(HEADER_FRAME):
        if at == len(data):
            return
        with _naming(number):
            end = _end(data, at)
        yield data[at + LENGTH : end]
        at = end


def _end(data: bytes, at: int) -> int:
    """The end of the frame whose length stands at `at`."""
    size, left = int.from_bytes(data[at : at + LENGTH], "big"), len(data) - at - LENGTH
    if size > MAX_STATEMENT_FRAME:
        raise _bad(f"its length is {size} bytes, limit {MAX_STATEMENT_FRAME}")
    if size > left:
        raise _bad(f"it is cut: {LENGTH} bytes of a length and {size} more, {len(data) - at} are left")
    return at + LENGTH + size


def _read_header(frame: bytes) -> SignedRecord[Header]:
    match unpack_array(frame, MAX_STATEMENT_FRAME):
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


def _bad(why: str) -> RemoteProtocolError:
    return RemoteProtocolError(f"bad statement: {why}", Code.BAD_RECORD)
