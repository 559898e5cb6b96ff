"""First peers where those that were named are away, or none was: a node of this machine, acquaintances, neighbours.

A peer that has a link asks there first: no file is read then. Here is the search; who is dialled, and when again, is in
`leads.py`, the address book in `book.py`, the local network in `neighbours.py`, and what a node does to find another
part of the swarm, whatever links it has, in `recall.py`.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from random import Random
from typing import Final

import trio

from p2pinfer.core.values.units import PeerKey
from p2pinfer.overlay.book import Book, KeptBook
from p2pinfer.overlay.directory import Directory
from p2pinfer.overlay.leads import HERE, Lead, Leads, to_leads
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.neighbours import HEAR_S, Ear, OpenNeighbours
from p2pinfer.overlay.network import Network
from p2pinfer.overlay.news import News
from p2pinfer.overlay.recall import keep_recalling

NAMED_S: Final = 1.0  # for the peers that a person named, before others are tried
BATCH: Final = 4  # acquaintances dialled at once
BATCH_S: Final = 0.5  # before the next ones are dialled, too
MAX_BATCHES: Final = 4  # of one search

Here = Callable[[], Awaitable[list[str]]]


@asynccontextmanager
async def open_first_peers(
    directory: Directory,
    book: Book,
    *,
    here: Here | None = None,
    neighbours: OpenNeighbours | None = None,
) -> AsyncIterator["FirstPeers"]:
    """Let the directory find first peers, and note who was met, for as long as the block lasts.

    here:       reads addresses of nodes of this machine
    neighbours: listens for peers on the local network; raises OSError where there is none
    """
    network, exchange = directory.network, directory.exchange
    async with trio.open_nursery() as nursery:
        kept = KeptBook(book, network, directory)
        leads = Leads(network, directory, kept.note_failed)
        first_peers = FirstPeers(network, nursery, kept, leads, Ear(neighbours, leads, nursery), here)
        exchange.greeters.append(first_peers.note_link)
        nursery.start_soon(kept.keep)
        nursery.start_soon(first_peers.keep_moving)
        try:
            with directory.helped_by(first_peers.seek):
                yield first_peers
        finally:
            exchange.greeters.remove(first_peers.note_link)
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):  # a disk, and no peer
                await kept.save()


async def keep_first_peers(
    lots: Random, directory: Directory, opened: AbstractAsyncContextManager["FirstPeers"]
) -> None:
    """A node holds what `open_first_peers` gives open, until cancelled, and looks for other parts of the swarm."""
    async with opened as first_peers:
        await keep_recalling(lots, directory, first_peers.book, first_peers.leads)


class FirstPeers:
    """Finds first peers. Dials run in `nursery`: whoever looks may stop waiting for them.

    book:  whom we met before
    leads: who is dialled, and when again
    ear:   who is heard on the local network
    """

    def __init__(
        self, network: Network, nursery: trio.Nursery, book: KeptBook, leads: Leads, ear: Ear, here: Here | None
    ) -> None:
        self.book = book
        self.leads = leads
        self.ear = ear
        self._network = network
        self._nursery = nursery
        self._here = here
        self._came = News()  # of links
        self._searching = trio.Lock()

    async def seek(self, named: bool, widely: bool = False) -> None:
        """Dial others, until somebody is linked who was asked.

        named:  a person named peers, who are dialled meanwhile and come first
        widely: though somebody is linked, for what is sought is not known there
        """
        if not widely and await self._is_linked(NAMED_S if named else 0.0):
            return
        async with self._searching:
            if not widely and self._network.links():
                return
            batches = await self._batches()
            for batch in batches:
                if await self._follow_all(batch) and not widely:
                    return
                self.ear.listen(again=True)
            if self.ear.is_listening or batches[-1]:
                await self._is_linked(HEAR_S)

    async def meet(self, peers: Collection[PeerKey]) -> None:
        """Link to those of these peers that were met before, where they were met, though no offer of them is known."""
        met = await self.book.leads()
        async with trio.open_nursery() as nursery:
            for lead in met:
                if lead.peer in peers and self.leads.is_fresh(lead):
                    nursery.start_soon(self.leads.follow, lead)

    def note_link(self, link: Link) -> None:
        """A link came up, whoever dialled."""
        self.book.note_link(link)
        self._came.tell()

    async def keep_moving(self) -> None:
        """Try everybody again where we are elsewhere, until cancelled."""
        while True:
            await self._network.wait_moved()
            self.leads.forget()
            self.ear.forget()

    async def _is_linked(self, patience_s: float) -> bool:
        with trio.move_on_after(patience_s):
            while not self._network.links():
                await self._came.coming.wait()
        await trio.lowlevel.checkpoint()
        return bool(self._network.links())

    async def _batches(self) -> list[list[Lead]]:
        """Nodes of this machine with the first acquaintances, then others; at least one batch, which may be empty."""
        here = to_leads(HERE, await self._here() if self._here else ())
        met = filter(self.leads.is_fresh, await self.book.leads())
        fresh = sorted(met, key=self.leads.tried_s)[: BATCH * MAX_BATCHES]  # all have their turn
        batches = [fresh[at : at + BATCH] for at in range(0, len(fresh), BATCH)] or [[]]
        return [[*filter(self.leads.is_fresh, here), *batches[0]], *batches[1:]]

    async def _follow_all(self, batch: Sequence[Lead]) -> bool:
        """Dial them all; True once one is linked and was asked, False where that takes long or nobody is there."""
        met: list[bool] = []
        over = News()

        async def follow(lead: Lead) -> None:
            met.append(await self.leads.follow(lead))
            over.tell()

        for lead in batch:
            self._nursery.start_soon(follow, lead)
        with trio.move_on_after(BATCH_S):
            while len(met) < len(batch) and not any(met):
                await over.coming.wait()
        return any(met)
