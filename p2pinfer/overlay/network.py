"""The network as everything above sees it: links to peers, and a directory of keys.

`open_memory_network` (`memory.py`) and `open_libp2p_network` (`libp2p/`) open one; the same tests hold for both. All
that comes in goes to the receiver handed in at the opening.
"""

from collections.abc import Sequence
from typing import Protocol

from p2pinfer.core.swarm.source import Source
from p2pinfer.core.values.units import PeerKey
from p2pinfer.overlay.link import Link, Receiver
from p2pinfer.overlay.machine import Machine
from p2pinfer.overlay.outbox import Priority
from p2pinfer.overlay.pipe import Address, peer_of
from p2pinfer.overlay.turn import Turn
from p2pinfer.overlay.word import Word

__all__ = ["Address", "Link", "Network", "Priority", "Receiver", "peer_of"]


class Network(Protocol):
    """At most one link to each peer, whoever dialled it."""

    @property
    def key(self) -> PeerKey:
        """Our key."""

    @property
    def machine(self) -> Machine:
        """The machine that we run on."""

    @property
    def turn(self) -> Turn:
        """A turn: what is sent within one leaves at its end; messages that come together are taken in one."""

    def addresses(self) -> tuple[Address, ...]:
        """The addresses where we can be dialled now, the most useful first; none for a peer that only dials."""

    def told(self, to: Source) -> tuple[Address, ...]:
        """Those of our addresses that are of use to somebody at `to`, as many as are told."""

    def may_tell(self, address: str, to: Source) -> bool:
        """True if an address of anybody's is of use to somebody at `to`, and its business."""

    async def wait_moved(self) -> None:
        """Wait until our addresses change, or this machine has slept: where we are, and who is there, is to be seen.

        A sleep is noticed when somebody asks for the links.
        """

    def asleep_s(self) -> float:
        """Seconds that this machine slept since it started, in which trio's clock stood still."""

    def link(self, peer: PeerKey) -> Link | None:
        """The live link to `peer`, if there is one; asking for it counts as its use."""

    def links(self) -> tuple[Link, ...]:
        """All live links; who waits for a move hears of a sleep by it."""

    async def dial(self, address: str) -> Link:
        """The live link to the peer at an address that a person gave, or a new one.

        A cancelled caller leaves the attempt to others.

        Raises:
            LinkDead: there is none to be had; `code` says why, UNREACHABLE if nobody answered.
            UsageError: the address names no peer, or nothing that can be dialled.
        """

    def due_s(self, peer: PeerKey) -> float:
        """Return when the next step of a dial to `peer` was due, in trio's time; long past if nobody answered."""

    def may_dial(self, address: str, word: Source) -> bool:
        """True if an address may be dialled on the word of somebody from `word`."""

    def dialable(self, peer: PeerKey, addresses: Sequence[str], word: Source) -> tuple[Address, ...]:
        """Those at which `peer` may be dialled on the word of somebody from `word`."""

    async def reach(self, peer: PeerKey, addresses: Sequence[str], word: Word) -> Link:
        """The live link to `peer`, or a new one at those of its addresses that are dialable.

        A cancelled caller leaves the attempt to others.

        Raises LinkDead: there is none to be had, or Undialled, after too many dials on others' word.
        """

    def neighbours(self) -> tuple[Address, ...]:
        """Addresses of peers on the local network, as far as they were heard; of who only dials nobody listens."""

    def directory_addresses(self) -> tuple[Address, ...]:
        """Return where our part of the DHT can be met; none while there is none, nor in its first seconds."""

    async def meet(self, addresses: Sequence[str], word: Source) -> None:
        """Take another peer's part of the DHT into ours; somebody from `word` said that it is here. Never fails.

        This and what follows wait for our part to begin, but no longer than they may take themselves.
        """

    async def provide(self, key: bytes) -> None:
        """Say in the directory that we serve what the 32 bytes of `key` stand for; to be repeated within the day."""

    async def find(self, key: bytes) -> tuple[Address, ...]:
        """Addresses of peers that said so, of those that may be dialled; what was found within two seconds."""
