"""The ground below the links: raw byte streams between peers.

`memory.py` and `libp2p/` each provide both; `link.py` and `links.py` are written once, over these.
"""

from collections.abc import Callable, Sequence
from typing import Final, NewType, Protocol

import trio

from p2pinfer.core.swarm.source import Source
from p2pinfer.core.values.errors import UsageError
from p2pinfer.core.values.keys import parse_peer_name
from p2pinfer.core.values.units import PeerKey
from p2pinfer.overlay.toll import Meter

ABORT_S: Final = 1.0  # for the ground to let go of a pipe

Address = NewType("Address", str)  # a multiaddr that ends in /p2p/<peer name>


def peer_of(address: str) -> PeerKey:
    """The peer an address leads to.

    Raises UsageError if the address names none.
    """
    _, found, name = address.rpartition("/p2p/")
    if not found:
        text = f"the address {address!r:.200} does not end in /p2p/ and the name of a peer"
        raise UsageError(f"{text}; a node prints its whole address after `ready`")
    return parse_peer_name(name)


def leads_to(address: str) -> PeerKey | None:
    """The peer an address that a stranger gave leads to, or None."""
    try:
        return peer_of(address)
    except UsageError:
        return None


def hear_nothing(*_: object) -> None:
    """For who does not want to know, or does not any more."""


class Pipe(Protocol):
    """A byte stream to a peer whose key is proven, for one reader and one writer.

    A cancelled read or write may lose the whole stream: whoever cancels one has to abort the pipe.
    """

    @property
    def peer(self) -> PeerKey:
        """The key of the peer at the other end."""

    @property
    def source(self) -> Source:
        """The network at the other end."""

    @property
    def meter(self) -> Meter:
        """The cost of reading so far."""

    @property
    def unsent(self) -> int:
        """Bytes that were written and wait here."""

    async def read(self) -> bytes:
        """The next bytes, in whatever portions they come; nothing at the end.

        Raises trio.BrokenResourceError if the stream broke.
        """

    async def write(self, data: bytes) -> None:
        """Hand the bytes to the stream; waits while the other end does not read.

        Raises trio.BrokenResourceError if the stream broke.
        """

    def write_nowait(self, data: bytes) -> bool:
        """Hand the bytes to the stream at once; False, and nothing is done, where that could mean to wait.

        Not to be called during a `write`. Raises as `write` does.
        """

    async def abort(self) -> None:
        """Close both ways at once, whatever is under way. Never raises; again does nothing."""


async def abort(pipe: Pipe) -> None:
    """Close a pipe, cancelled or not."""
    with trio.CancelScope(shield=True), trio.move_on_after(ABORT_S):
        await pipe.abort()


class Ground(Protocol):
    """A network of pipes."""

    @property
    def key(self) -> PeerKey:
        """Our key."""

    def addresses(self) -> tuple[Address, ...]:
        """The addresses where we can be dialled now, the most useful first; none for a peer that only dials."""

    def told(self, to: Source) -> tuple[Address, ...]:
        """Those of our addresses that are of use to somebody at `to`."""

    def may_tell(self, address: str, to: Source) -> bool:
        """True if an address of anybody's is of use to somebody at `to`, and its business."""

    async def wait_moved(self) -> None:
        """Wait until our addresses change."""

    def asleep_s(self) -> float:
        """As of `sleep.py`."""

    def check(self, address: str) -> None:
        """Raises UsageError where an address that a person gave is none that could be dialled."""

    def may_dial(self, address: str, word: Source) -> bool:
        """True if an address may be dialled on the word of somebody from `word`."""

    async def dial(self, address: Address, heard: Callable[[], None] = hear_nothing) -> Pipe:
        """A new pipe to the peer at an address that passed `check` or `may_dial`.

        heard: is called whenever somebody there gets a step further

        Raises LinkDead (UNREACHABLE) where there is none to be had.
        """

    async def accept(self) -> Pipe:
        """The next pipe that a peer opened to us."""

    def neighbours(self) -> tuple[Address, ...]:
        """Addresses of peers on the local network, as far as they were heard."""

    def directory_addresses(self) -> tuple[Address, ...]:
        """Return where our part of the directory can be met; none while there is none."""

    async def meet(self, addresses: Sequence[str], word: Source) -> None:
        """Take another peer's part of the directory, found at any of these, into ours; all passed `may_dial`.

        word: of who said so
        """

    async def provide(self, key: bytes) -> None:
        """Say in the directory that we serve what the 32 bytes of `key` stand for."""

    async def find(self, key: bytes) -> tuple[Address, ...]:
        """Addresses of peers that said so, of those that may be dialled, as far as they were found in time."""
