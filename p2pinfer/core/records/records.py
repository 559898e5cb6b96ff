"""Common to all signed records: one canonical form, an id, signatures over received bytes (protocols/receipts.md).

A record is a frozen dataclass of fields; its type stands in the domain, so that a signature on one kind never serves
another. The kinds are in `certificate.py`, `offer.py`, `contract.py`, `receipt.py` and `statement.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import ClassVar, Final, Generic, TypeVar

from p2pinfer.core.records.canonical import pack_array, unpack_array
from p2pinfer.core.values import fields
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import RemoteProtocolError
from p2pinfer.core.values.keys import PrivateKey, domain, verify
from p2pinfer.core.values.units import RecordId

VERSION: Final = 1
ZEROS: Final = bytes(32)  # an id or root that is absent or reserved
MAX_SKEW_S: Final = 300  # wall clocks of two honest peers differ by at most this


@dataclass(frozen=True, slots=True)
class Record:
    """A record of version 1. Its constructor checks every field, then what must hold between fields."""

    TYPE: ClassVar[str]

    def __post_init__(self) -> None:
        fields.check(self)
        if why := self.contradiction():
            raise ValueError(f"{self.TYPE}: {why}")

    def contradiction(self) -> str | None:
        """The rule between fields that does not hold, in words, or None."""
        return None


R = TypeVar("R", bound=Record)


@dataclass(frozen=True, slots=True)
class SignedRecord(Generic[R]):
    """A record as it came: the bytes that were signed stay with the value, and are never encoded again.

    signatures: in the order in which the parties sign; the kind's own file says which they are
    """

    record: R
    id: RecordId
    body: bytes
    signatures: tuple[bytes, ...]


def encode(record: Record) -> bytes:
    """The canonical body."""
    return pack_array([VERSION, *fields.to_list(record)])


def decode(shape: type[R], body: bytes) -> R:
    """The record a body stands for.

    Raises RemoteProtocolError (BAD_RECORD) for anything else, a version we do not know included.
    """
    version, *plain = unpack_array(body) or [0]
    if version != VERSION:
        raise RemoteProtocolError(f"{shape.TYPE} of version {version!r:.20}, known: {VERSION}", Code.BAD_RECORD)
    try:
        return fields.from_list(shape, plain)
    except ValueError as error:
        raise RemoteProtocolError(f"bad record: {error}", Code.BAD_RECORD) from None


def record_id(shape: type[Record], body: bytes) -> RecordId:
    """The id of a body: the same for any signatures."""
    return RecordId(sha256(domain(shape.TYPE) + body).digest())


def sign(record: R, key: PrivateKey) -> SignedRecord[R]:
    """`record` with its first signature."""
    body = encode(record)
    signature = key.sign(domain(record.TYPE), body)
    return SignedRecord(record, record_id(type(record), body), body, (signature,))


def countersign(signed: SignedRecord[R], key: PrivateKey) -> SignedRecord[R]:
    """`signed` with one more signature, over the bytes as they came."""
    signature = key.sign(domain(signed.record.TYPE), signed.body)
    return SignedRecord(signed.record, signed.id, signed.body, (*signed.signatures, signature))


def add_signature(signed: SignedRecord[R], signer: bytes, signature: bytes) -> SignedRecord[R]:
    """`signed` with one more signature, which `signer` made elsewhere.

    Raises RemoteProtocolError: BAD_KEY or BAD_SIGNATURE.
    """
    verify(signer, domain(signed.record.TYPE), signed.body, signature)
    return SignedRecord(signed.record, signed.id, signed.body, (*signed.signatures, signature))


def verify_record(
    shape: type[R], body: bytes, signatures: tuple[bytes, ...], signers: Callable[[R], tuple[bytes, ...]]
) -> SignedRecord[R]:
    """The way from bytes to a signed record; `signers` names who must have signed, one for each signature.

    Raises RemoteProtocolError: BAD_RECORD, BAD_KEY or BAD_SIGNATURE.
    """
    record = decode(shape, body)
    for key, signature in zip(signers(record), signatures, strict=True):
        verify(key, domain(shape.TYPE), body, signature)
    return SignedRecord(record, record_id(shape, body), body, signatures)
