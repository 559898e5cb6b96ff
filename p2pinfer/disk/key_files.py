"""Keys of a data folder: 64 hex digits of the seed in a file that its user alone may read (protocols/identity.md).

    owner.key   is paid; made on the first start, and may be moved off the machine afterwards
    node.key    is the peer
    client.key  pays for what this machine asks; with client-2.key and so on for clients that run at the same time

client.lock, client-2.lock and so on name the processes that use a client's key.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Final

from p2pinfer.core.values.errors import UsageError
from p2pinfer.core.values.keys import SEED_BYTES, PrivateKey, short_name
from p2pinfer.core.values.units import PeerKey
from p2pinfer.disk.atomic import create_atomic
from p2pinfer.disk.locks import LockHeld, hold_lock
from p2pinfer.disk.places import is_there
from p2pinfer.disk.plain import read_small
from p2pinfer.system import others_in

KEY_MODE: Final = 0o600
FOLDER_MODE: Final = 0o700
MAX_KEY: Final = 4096  # bytes of a key file; one with white space about it is one


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
            raise cannot_use(path.parent, error) from None
    return load_key(path)


@contextmanager
def hold_client_key(folder: Path, public: PeerKey | None = None) -> Iterator[PrivateKey]:
    """A key that pays for what this machine asks, until the block ends or the process dies.

    A peer is one process, so clients that run at the same time have a key each: the first that nobody uses, or a new
    one; with `public`, that one. Raises UsageError where it is damaged, open to others, in use or not there.
    """
    make_folder(folder)
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


def make_folder(folder: Path) -> None:
    try:
        folder.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_use(folder, error) from None


def cannot_use(folder: Path, error: OSError) -> UsageError:
    return UsageError(f"cannot use the data folder {folder}: {error.strerror}; name another with --data")
