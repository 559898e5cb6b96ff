"""The identity of a node: its key, its owner's, and the owner's word for it, node.cert (protocols/identity.md).

Records are signed in `core`, the keys are in `key_files.py`.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from p2pinfer.core.records.canonical import pack_array, unpack_array
from p2pinfer.core.records.certificate import MAX_CERTIFICATE_S, NodeCert, verify_certificate
from p2pinfer.core.records.records import SignedRecord, sign
from p2pinfer.core.records.renewal import Standing, standing
from p2pinfer.core.values.errors import RemoteProtocolError, UsageError
from p2pinfer.core.values.keys import PrivateKey
from p2pinfer.core.values.units import OwnerKey
from p2pinfer.disk.atomic import write_atomic
from p2pinfer.disk.key_files import cannot_use, load_key, load_or_make_key, make_folder
from p2pinfer.disk.places import is_there
from p2pinfer.disk.plain import read_small

BACKDATE_S: Final = 600  # clients whose clocks are behind date contracts before our first start
MAX_CERTIFICATE: Final = 2048  # bytes


@dataclass(frozen=True, slots=True)
class Identity:
    """The keys of this node and of its owner, who earns by it."""

    key: PrivateKey
    certificate: SignedRecord[NodeCert]

    @property
    def owner(self) -> OwnerKey:
        return self.certificate.record.owner


def load_identity(folder: Path, now: int) -> Identity:
    """The node's identity, made on the first start; `now` is the wall clock in Unix seconds.

    Raises UsageError where a key is damaged or open to others, or the certificate is over and the owner's key is not
    here to renew it.
    """
    make_folder(folder)
    node_path, owner_path, cert_path = folder / "node.key", folder / "owner.key", folder / "node.cert"
    if not is_there(node_path) and not is_there(cert_path):
        load_or_make_key(owner_path)
    owner = load_key(owner_path) if is_there(owner_path) else None
    key = load_or_make_key(node_path)
    certificate = _load_certificate(cert_path, key) if is_there(cert_path) else None
    if owner is not None and _due(certificate, owner, now):
        certificate = _renew(folder, key, owner, certificate, now)
    if certificate is None:
        raise UsageError(f"{folder} has a node key but no certificate: put owner.key there once, or use a new folder")
    if not certificate.record.not_before <= now < certificate.record.not_after:
        first, last = (date_of(time) for time in (certificate.record.not_before, certificate.record.not_after))
        raise UsageError(
            f"the certificate in {folder} holds from {first} to {last}, and the clock says {date_of(now)}: "
            "set the clock, or put owner.key there to renew it"
        )
    return Identity(key, certificate)


@dataclass(frozen=True, slots=True)
class Seen:
    """The identity in a data folder, looked at and not used.

    owner_here: the owner's key is, and renews the certificate
    """

    certificate: SignedRecord[NodeCert] | None
    owner_here: bool


def renew_certificate(
    folder: Path, key: PrivateKey, certificate: SignedRecord[NodeCert], now: int
) -> SignedRecord[NodeCert] | None:
    """A new certificate by the same owner, or None where the owner's key is not here.

    Raises UsageError where it is damaged, or the certificate cannot be written.
    """
    path = folder / "owner.key"
    owner = load_key(path) if is_there(path) else None
    if owner is None or OwnerKey(owner.public) != certificate.record.owner:
        return None
    return _renew(folder, key, owner, certificate, now)


def see_identity(folder: Path) -> Seen | None:
    """The identity in a folder, or None where a first start would make one; nothing is made or renewed.

    Raises UsageError where a key or the certificate is damaged or open to others, or belongs elsewhere.
    """
    node_path, owner_path, cert_path = folder / "node.key", folder / "owner.key", folder / "node.cert"
    if not is_there(node_path):
        if is_there(cert_path):
            raise UsageError(f"{cert_path} is there without node.key: restore the key, or use a new folder")
        return None
    key = load_key(node_path)
    if owner_here := is_there(owner_path):
        load_key(owner_path)
    return Seen(_load_certificate(cert_path, key) if is_there(cert_path) else None, owner_here)


def _load_certificate(path: Path, key: PrivateKey) -> SignedRecord[NodeCert]:
    try:
        body, signature = unpack_array(read_small(path, MAX_CERTIFICATE), MAX_CERTIFICATE)
        if not isinstance(body, bytes) or not isinstance(signature, bytes):
            raise ValueError("not a record and a signature")
        certificate = verify_certificate(body, signature)
    except OSError as error:
        raise UsageError(f"cannot read the certificate {path}: {error.strerror}") from None
    except (ValueError, RemoteProtocolError) as error:
        raise UsageError(f"{path} is damaged ({error}): delete it where owner.key is at hand, or restore it") from None
    if certificate.record.node != key.public:
        raise UsageError(f"{path} is for another node than the key beside it")
    return certificate


def _due(certificate: SignedRecord[NodeCert] | None, owner: PrivateKey, now: int) -> bool:
    """A new certificate is wanted: there is none, it is another owner's, or it ends soon."""
    if certificate is None or certificate.record.owner != OwnerKey(owner.public):
        return True
    return standing(certificate.record, now) is not Standing.GOOD


def _renew(
    folder: Path, key: PrivateKey, owner: PrivateKey, earlier: SignedRecord[NodeCert] | None, now: int
) -> SignedRecord[NodeCert]:
    certificate = _certify(key, owner, earlier, now)
    try:
        write_atomic(folder / "node.cert", pack_array([certificate.body, certificate.signatures[0]]))
    except OSError as error:
        raise cannot_use(folder, error) from None
    return certificate


def _certify(
    key: PrivateKey, owner: PrivateKey, earlier: SignedRecord[NodeCert] | None, now: int
) -> SignedRecord[NodeCert]:
    serial = earlier.record.serial + 1 if earlier else 1
    start = max(0, now - BACKDATE_S)
    return sign(NodeCert(OwnerKey(owner.public), key.public, serial, start, start + MAX_CERTIFICATE_S), owner)


def date_of(time: int) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d")
