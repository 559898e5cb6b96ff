"""Keys and certificate of a data folder, and the lock that one node holds on it (protocols/identity.md).

    owner.key   is paid; made on the first start, and may be moved off the machine afterwards
    node.key    is the peer
    node.cert   the owner's word for the node
    client.key  pays for what this machine asks; with client-2.key and so on for clients that run at the same time
    boots       the node's starts, and how many offers each made
    node.lock   names the process that uses the folder; client.lock, client-2.lock those that use a client's key

A key file is 64 hex digits of the seed, readable by its user alone. Records are signed in `core`.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Final

from p2pinfer.core.records.canonical import pack_array, unpack_array
from p2pinfer.core.records.certificate import MAX_CERTIFICATE_S, NodeCert, verify_certificate
from p2pinfer.core.records.records import SignedRecord, sign
from p2pinfer.core.records.renewal import Standing, standing
from p2pinfer.core.values.errors import P2pinferError, RemoteProtocolError, UsageError
from p2pinfer.core.values.keys import SEED_BYTES, PrivateKey, short_name
from p2pinfer.core.values.units import OwnerKey, PeerKey
from p2pinfer.disk.atomic import create_atomic, new_folder, write_atomic
from p2pinfer.disk.locks import LockHeld, hold_lock
from p2pinfer.disk.places import is_there, node_boots, node_journal, node_lock, node_network, node_ports
from p2pinfer.disk.plain import read_small
from p2pinfer.system import others_in

BACKDATE_S: Final = 600  # clients whose clocks are behind date contracts before our first start
KEY_MODE: Final = 0o600
FOLDER_MODE: Final = 0o700
OTHERS_WRITE: Final = 0o022
LOOKED_S: Final = 0.05  # after which nobody who only looked at the lock holds it, unless others look, too
LOOKS: Final = 3  # such waits
MAX_KEY: Final = 4096  # bytes of a key file; one with white space about it is one
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
    _make_folder(folder)
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


@contextmanager
def hold_client_key(folder: Path, public: PeerKey | None = None) -> Iterator[PrivateKey]:
    """A key that pays for what this machine asks, until the block ends or the process dies.

    A peer is one process, so clients that run at the same time have a key each: the first that nobody uses, or a new
    one; with `public`, that one. Raises UsageError where it is damaged, open to others, in use or not there.
    """
    _make_folder(folder)
    if public is not None:
        with _hold_this(folder, public) as key:
            yield key
        return
    for number in count(1):
        name = "client" if number == 1 else f"client-{number}"
        with ExitStack() as stack:
            try:
                stack.enter_context(hold_lock(folder / f"{name}.lock"))
            except LockHeld:
                continue
            yield load_or_make_key(folder / f"{name}.key")
            return


@contextmanager
def _hold_this(folder: Path, public: PeerKey) -> Iterator[PrivateKey]:
    for path in sorted(folder.glob("client*.key")):
        if (key := load_key(path)).public == public:
            try:
                with hold_lock(path.with_suffix(".lock")):
                    yield key
            except LockHeld:
                raise UsageError(f"the key {path} is in use by another client: let it end first") from None
            return
    raise UsageError(f"the key of {short_name(public)} is not in {folder}: restore it from a copy")


def own_keys(folder: Path) -> frozenset[PeerKey]:
    """Keys in the folder: what they pay, the owner pays itself.

    Raises UsageError where one is damaged or open to others.
    """
    paths = (*(folder / name for name in ("owner.key", "node.key")), *folder.glob("client*.key"))
    return frozenset(load_key(path).public for path in paths if is_there(path))


def load_key(path: Path) -> PrivateKey:
    """The key of a file.

    Raises UsageError where the file is damaged or open to others.
    """
    try:
        mode = path.stat().st_mode
        text = read_small(path, MAX_KEY).decode("ascii").strip()
    except OSError as error:
        raise UsageError(f"cannot read the key {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        text = ""
    if others_in(mode):
        raise UsageError(
            f"the key {path} is open to others: chmod 600 it, and think about who has read it; where that changes "
            "nothing, the file system keeps no permissions: name a folder on another with --data"
        )
    if len(text) != 2 * SEED_BYTES or set(text) - set("0123456789abcdef"):
        raise UsageError(f"{path} is not a key: one is {2 * SEED_BYTES} hex digits; restore it from a copy")
    return PrivateKey(bytes.fromhex(text))


def load_or_make_key(path: Path) -> PrivateKey:
    """The key of a file; a new one where there is none. Two processes that make it at once get the same."""
    if not is_there(path):
        try:
            create_atomic(path, os.urandom(SEED_BYTES).hex().encode() + b"\n", KEY_MODE)
        except FileExistsError:
            pass  # another process was faster, and its key is ours
        except OSError as error:
            raise _cannot_use(path.parent, error) from None
    return load_key(path)


@contextmanager
def undone_unless_kept(folder: Path) -> Iterator[Callable[[], None]]:
    """Remove what a first start made in the folder, unless the function that is given is called in the block.

    Nothing is removed from a folder that had an identity or a journal before.
    """
    journal = node_journal(folder)
    paths = [folder / name for name in ("node.key", "node.cert", "owner.key")]
    paths += [place(folder) for place in (node_boots, node_ports, node_network)]
    paths += [journal.with_name(f"{journal.name}{end}") for end in ("", "-wal", "-shm", "-tally")]
    kept = [path for path in paths if is_there(path)]
    try:
        yield lambda: kept.append(folder)
    finally:
        if not kept:
            for path in paths:
                with suppress(OSError):  # what cannot be removed is in nobody's way
                    path.unlink(missing_ok=True)


@contextmanager
def hold_folder(folder: Path) -> Iterator[None]:
    """Use the folder as a node, alone, until the block ends or the process dies.

    Raises UsageError naming the process that has it.
    """
    _make_folder(folder)
    with ExitStack() as stack:
        try:
            stack.enter_context(_held_again(node_lock(folder)))
        except LockHeld as holder:
            raise UsageError(
                f"the data folder {folder} is in use by node {holder}: give each node a folder with --data"
            ) from None
        yield


@contextmanager
def _held_again(path: Path) -> Iterator[None]:
    """The lock, asked for several times: who looked if a node runs may just have held a share of it."""
    with ExitStack() as stack:
        for _ in range(LOOKS):
            try:
                stack.enter_context(hold_lock(path))
                break
            except LockHeld:
                time.sleep(LOOKED_S)
        else:
            stack.enter_context(hold_lock(path))
        yield


def is_open_to_others(folder: Path) -> bool:
    """Other users of the machine can replace what is in the folder."""
    return bool(others_in(folder.stat().st_mode) & OTHERS_WRITE)


def try_folder(folder: Path) -> None:
    """Try what a node needs of a data folder: locks, links, modes, a journal. What is made for that is gone afterwards.

    A folder that is not there yet is tried where it would be made. Raises UsageError or JournalError in the words of
    a start.
    """
    from p2pinfer.disk.journal_file import connect_writer  # who only reads keys, as a verifier does, needs no SQLite

    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if is_there(path))
    try:
        with new_folder(there) as trial:
            try:
                with hold_lock(trial / "node.lock"):
                    load_or_make_key(trial / "node.key")
                    connect_writer(trial / "journal.sqlite").close()
            except P2pinferError as error:
                raise type(error)(str(error).replace(str(trial), str(folder))) from None
    except OSError as error:
        raise _cannot_use(folder, error) from None


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_use(folder, error) from None


def _cannot_use(folder: Path, error: OSError) -> UsageError:
    return UsageError(f"cannot use the data folder {folder}: {error.strerror}; name another with --data")


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
        raise _cannot_use(folder, error) from None
    return certificate


def _certify(
    key: PrivateKey, owner: PrivateKey, earlier: SignedRecord[NodeCert] | None, now: int
) -> SignedRecord[NodeCert]:
    serial = earlier.record.serial + 1 if earlier else 1
    start = max(0, now - BACKDATE_S)
    return sign(NodeCert(OwnerKey(owner.public), key.public, serial, start, start + MAX_CERTIFICATE_S), owner)


def date_of(time: int) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d")
