"""The address book while we run: read when it is first needed, and what happens to peers is noted and written down."""

from collections.abc import Iterable, Sequence
from itertools import chain, repeat
from typing import Final, Protocol

import trio

from p2pinfer.core.swarm.acquaintances import Acquaintance
from p2pinfer.core.swarm.source import site_of
from p2pinfer.core.values.units import PeerKey
from p2pinfer.overlay.directory import Directory
from p2pinfer.overlay.leads import Lead
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.network import Network
from p2pinfer.overlay.pipe import leads_to

SOON_S: Final = 10.0  # after the start: who was met is written down, and from then on
SAVE_S: Final = 60.0  # every so often, where it is news


class Book(Protocol):
    """Peers that were met before (disk/address_book.py)."""

    def to_dial(self, now: int) -> Sequence[Acquaintance]: ...
    def note_link(self, peer: PeerKey, network: str, address: str | None, now: int) -> None: ...
    def note_told(self, peer: PeerKey, addresses: Iterable[str], now: int) -> None: ...
    def note_failed(self, peer: PeerKey, now: int) -> None: ...
    def note_served(self, peer: PeerKey, now: int) -> None: ...
    async def load(self, now: int) -> bool: ...
    async def save(self, now: int) -> None: ...


class KeptBook:
    """An address book that is kept up."""

    def __init__(self, book: Book, network: Network, directory: Directory) -> None:
        self._book = book
        self._network = network
        self._directory = directory
        self._is_loaded = False

    async def leads(self) -> list[Lead]:
        """To all who are in it, in the order in which to dial them."""
        if not self._is_loaded:
            self._is_loaded = await self._book.load(self._now())
        return [Lead("from the address book", one.peer, _places(one)) for one in self._book.to_dial(self._now())]

    def note_link(self, link: Link) -> None:
        """A link came up, whoever dialled."""
        self._book.note_link(link.peer, site_of(link.source).network or "", link.address, self._now())

    def note_failed(self, peer: PeerKey) -> None:
        """A peer is not where it was."""
        self._book.note_failed(peer, self._now())

    def note_served(self, peer: PeerKey) -> None:
        """A peer had a part in an answer."""
        self._book.note_served(peer, self._now())

    async def keep(self) -> None:
        """Write down who was met, now and then, until cancelled."""
        for pause_s in chain([SOON_S], repeat(SAVE_S)):
            await trio.sleep(pause_s)
            await self.save()

    async def save(self) -> None:
        """Write down who was met, and what those who are linked say of where they are."""
        linked = {link.peer for link in self._network.links()}
        for known in self._directory.offers():
            if known.node in linked and (told := self._directory.table.own_word(known.node)):
                self._book.note_told(known.node, told, self._now())
        await self._book.save(self._now())

    def _now(self) -> int:
        return max(1, self._network.machine.unix())


def _places(one: Acquaintance) -> list[str]:
    """Return where to dial a peer; files may say anything."""
    return [place.address for place in one.places if leads_to(place.address) == one.peer]
