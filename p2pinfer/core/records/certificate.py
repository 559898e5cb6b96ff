"""Certificates: an owner's key speaks for a node's (protocols/identity.md, "Certificate" and "Revocation")."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

from p2pinfer.core.records.records import Record, SignedRecord, verify_record
from p2pinfer.core.values.fields import Bin, UInt, Zero
from p2pinfer.core.values.keys import check_key
from p2pinfer.core.values.units import OwnerKey, PeerKey

MAX_CERTIFICATE_S: Final = 7_776_000  # 90 days: then a lost machine signs nothing in its owner's name any more


@dataclass(frozen=True, slots=True)
class NodeCert(Record):
    """`node` earns for `owner`; signed by the owner."""

    TYPE: ClassVar = "node-cert"
    owner: Annotated[OwnerKey, Bin(32)]
    node: Annotated[PeerKey, Bin(32)]
    serial: Annotated[int, UInt()]
    not_before: Annotated[int, UInt()]  # Unix seconds
    not_after: Annotated[int, UInt()]
    caps: Annotated[int, Zero(UInt())] = 0  # reserved

    def contradiction(self) -> str | None:
        if not 0 < self.not_after - self.not_before <= MAX_CERTIFICATE_S:
            return f"valid for {self.not_after - self.not_before} s, limit {MAX_CERTIFICATE_S} s"
        return None

    def covers(self, issued: int, expires: int) -> bool:
        """A contract of these times falls within the certificate."""
        return self.not_before <= issued and expires <= self.not_after


@dataclass(frozen=True, slots=True)
class NodeRevoke(Record):
    """Certificates of `node` up to `serial` cover no contract issued at or after `time`; signed by the owner."""

    TYPE: ClassVar = "node-revoke"
    owner: Annotated[OwnerKey, Bin(32)]
    node: Annotated[PeerKey, Bin(32)]
    serial: Annotated[int, UInt()]
    time: Annotated[int, UInt()]

    def voids(self, certificate: NodeCert, issued: int) -> bool:
        """A contract issued then may no longer rest on `certificate`."""
        same = (certificate.owner, certificate.node) == (self.owner, self.node)
        return same and certificate.serial <= self.serial and issued >= self.time


def is_void(certificate: NodeCert, issued: int, revocations: Iterable[NodeRevoke]) -> bool:
    """One of them, any, voids the certificate for a contract issued then; none revives what another voids."""
    return any(revocation.voids(certificate, issued) for revocation in revocations)


def verify_certificate(body: bytes, signature: bytes) -> SignedRecord[NodeCert]:
    """Raises RemoteProtocolError: BAD_RECORD, BAD_KEY (owner's or node's) or BAD_SIGNATURE."""
    signed = verify_record(NodeCert, body, (signature,), lambda record: (record.owner,))
    check_key(signed.record.node)
    return signed


def verify_revocation(body: bytes, signature: bytes) -> SignedRecord[NodeRevoke]:
    """Raises RemoteProtocolError: BAD_RECORD, BAD_KEY or BAD_SIGNATURE."""
    signed = verify_record(NodeRevoke, body, (signature,), lambda record: (record.owner,))
    check_key(signed.record.node)
    return signed
