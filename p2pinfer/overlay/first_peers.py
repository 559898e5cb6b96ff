"""First peers where those that were named are away, or none was: a node of this machine, acquaintances, neighbours.

Whoever has a link asks there first: no file is read then. What is read and heard here are addresses; the link's
handshake proves who is there. Two things are done whatever links there are. Now and then a node dials an acquaintance
of which it hears nothing any more: the swarm may have fallen apart, and every peer that all knew be gone. And a
client listens for neighbours where a node is on offer that cannot be dialled from here.
"""

import logging
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import chain, repeat
from math import inf
from typing import Final, Protocol

import trio

from p2pinfer.core.acquaintances import Acquaintance
from p2pinfer.core.codes import Code
from p2pinfer.core.errors import LinkDead, Refused, UsageError
from p2pinfer.core.keys import short_name
from p2pinfer.core.units import PeerKey
from p2pinfer.overlay.contained import Contained
from p2pinfer.overlay.directory import Directory
from p2pinfer.overlay.exchange import Exchange
from p2pinfer.overlay.limits import MAX_FOUND
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.meeting import APART_S
from p2pinfer.overlay.network import Network
from p2pinfer.overlay.news import News
from p2pinfer.overlay.pipe import Address, leads_to
from p2pinfer.overlay.reach import HEARSAY, reach
from p2pinfer.overlay.tidings import LOTS

NAMED_S: Final = 1.0  # for the peers that a person named, before others are tried
BATCH: Final = 4  # acquaintances dialled at once
BATCH_S: Final = 0.5  # before the next ones are dialled, too
MAX_BATCHES: Final = 4  # of one search
HEAR_S: Final = 1.5  # for peers on the local network to be heard, after all others were tried
HUSH_S: Final = 0.5  # for the first of them to be heard, where others will do
LISTEN_S: Final = 15.0  # on the local network; who was not heard by then is not there, or did not want to be found
AGAIN_S: Final = 60.0  # before a peer that was tried is tried again
ALONE_AGAIN_S: Final = 5.0  # the same, while nobody is linked: it may be our own network that was away
HERE_S: Final = 1.0  # and a node of this machine, which may just have started again
SOON_S: Final = 10.0  # after the start: who was met is written down, and from then on
SAVE_S: Final = 60.0  # every so often, where it is news

HERE: Final = "as a node of this machine"
MET: Final = "from the address book"
NEAR: Final = "on the local network"

logger = logging.getLogger(__name__)


class Book(Protocol):
    """Peers that were met before (disk/address_book.py)."""

    def to_dial(self, now: int) -> Sequence[Acquaintance]: ...
    def note_link(self, peer: PeerKey, network: str, address: str | None, now: int) -> None: ...
    def note_told(self, peer: PeerKey, addresses: Iterable[str], now: int) -> None: ...
    def note_failed(self, peer: PeerKey, now: int) -> None: ...
    def note_served(self, peer: PeerKey, now: int) -> None: ...
    async def load(self, now: int) -> None: ...
    async def save(self, now: int) -> None: ...


class Neighbours(Protocol):
    """Who is on the local network, as far as heard."""

    news: News

    def addresses(self) -> Sequence[Address]: ...


OpenNeighbours = Callable[[], AbstractAsyncContextManager[Neighbours]]


async def nobody() -> list[str]:
    """No node of this machine."""
    await trio.lowlevel.checkpoint()
    return []


@asynccontextmanager
async def open_first_peers(
    network: Network,
    directory: Directory,
    exchange: Exchange,
    book: Book,
    *,
    here: Callable[[], Awaitable[list[str]]] = nobody,
    neighbours: OpenNeighbours | None = None,
    clock: Callable[[], float] = time.time,
) -> AsyncIterator["FirstPeers"]:
    """Let the directory find first peers, and note who was met, for as long as the block lasts.

    here:       reads addresses of nodes of this machine
    neighbours: listens for peers on the local network; raises OSError where there is none
    clock:      the wall clock, Unix seconds
    """
    async with trio.open_nursery() as nursery:
        first_peers = FirstPeers(network, directory, nursery, book, here, neighbours, clock)
        first = exchange.on_up

        def note(link: Link) -> None:
            if first is not None:
                first(link)
            first_peers.note_link(link)

        exchange.on_up, directory.seek = note, first_peers.seek
        nursery.start_soon(first_peers.keep_book)
        nursery.start_soon(first_peers.keep_moving)
        try:
            yield first_peers
        finally:
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):  # a disk, and no peer
                await first_peers.save()


async def keep_first_peers(
    network: Network,
    directory: Directory,
    exchange: Exchange,
    book: Book,
    here: Callable[[], Awaitable[list[str]]] = nobody,
) -> None:
    """The same for a node, until cancelled; it looks for other parts of the swarm, too."""
    async with open_first_peers(network, directory, exchange, book, here=here) as first_peers:
        await first_peers.keep_recalling()


class FirstPeers:
    """Finds first peers. Dials run in `nursery`: whoever looks may stop waiting for them."""

    def __init__(
        self,
        network: Network,
        directory: Directory,
        nursery: trio.Nursery,
        book: Book,
        here: Callable[[], Awaitable[list[str]]],
        neighbours: OpenNeighbours | None,
        clock: Callable[[], float],
    ) -> None:
        self._book = book
        self._network = network
        self._directory = directory
        self._nursery = nursery
        self._here = here
        self._neighbours = neighbours
        self._clock = clock
        self._came = News()  # of links
        self._tried: dict[PeerKey, float] = {}  # when
        self._searching = trio.Lock()
        self._is_loaded = False
        self._recalled: dict[PeerKey, float] = {}  # when
        self._is_listening = False
        self._listened_s = -inf  # since when
        self._near = 0  # of those heard so, dials under way
        self._near_news = News()  # of them

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
                if await self._meet_all(batch) and not widely:
                    return
                self._start_listening()
            if self._is_listening or batches[-1]:
                await self._is_linked(HEAR_S)

    async def meet(self, peers: Collection[PeerKey]) -> None:
        """Link to those of these peers that were met before, where they were met, though no offer of them is known."""
        await self._load()
        async with trio.open_nursery() as nursery:
            for one in self._book.to_dial(self._now()):
                if one.peer in peers and self._is_fresh(found := _Found(MET, one.peer, _places(one))):
                    nursery.start_soon(self._meet, found)

    async def keep_recalling(self) -> None:
        """Dial somebody whom we knew, seldom, until cancelled: of who fell apart from us nobody here can tell us."""
        while True:
            await trio.sleep(LOTS.uniform(*APART_S))
            await self._load()
            if (found := self._to_recall()) is not None:
                await self._meet(found)

    def _to_recall(self) -> "_Found | None":
        """Of those neither linked nor on offer, in turn: of those not tried yet, who was there last."""
        on_offer = {known.node for known in self._directory.offers()}
        unheard = [one for one in self._book.to_dial(self._now()) if one.peer not in on_offer]
        in_turn = sorted(unheard, key=lambda one: self._recalled.get(one.peer, -inf))
        found = next(filter(self._is_fresh, (_Found(MET, one.peer, _places(one)) for one in in_turn)), None)
        if found is not None:
            self._recalled = {one.peer: self._recalled[one.peer] for one in unheard if one.peer in self._recalled}
            self._recalled[found.peer] = trio.current_time()
        return found

    async def _is_linked(self, patience_s: float) -> bool:
        with trio.move_on_after(patience_s):
            while not self._network.links():
                await self._came.coming.wait()
        await trio.lowlevel.checkpoint()
        return bool(self._network.links())

    # Whom to dial

    async def _batches(self) -> list[list["_Found"]]:
        """Nodes of this machine with the first acquaintances, then others; at least one batch, which may be empty."""
        here = _found(HERE, await self._here())
        await self._load()
        known = [_Found(MET, one.peer, _places(one)) for one in self._book.to_dial(self._now())]
        fresh = sorted(filter(self._is_fresh, known), key=self._tried_s)[: BATCH * MAX_BATCHES]  # all have their turn
        batches = [fresh[at : at + BATCH] for at in range(0, len(fresh), BATCH)] or [[]]
        return [[*filter(self._is_fresh, here), *batches[0]], *batches[1:]]

    def _is_fresh(self, found: "_Found") -> bool:
        known = found.peer == self._network.key or any(link.peer == found.peer for link in self._network.links())
        pause_s = HERE_S if found.how is HERE else AGAIN_S if self._network.links() else ALONE_AGAIN_S
        return not known and self._tried_s(found) + pause_s <= trio.current_time()

    def _tried_s(self, found: "_Found") -> float:
        return self._tried.get(found.peer, -inf)

    async def keep_moving(self) -> None:
        """Try everybody again where we are elsewhere, until cancelled."""
        while True:
            await self._network.wait_moved()
            self._tried.clear()
            self._listened_s = -inf

    async def _meet_all(self, batch: Sequence["_Found"]) -> bool:
        """Dial them all; True once one is linked and was asked, False where that takes long or nobody is there."""
        met: list[bool] = []
        over = News()

        async def meet(found: _Found) -> None:
            met.append(await self._meet(found))
            over.tell()

        for found in batch:
            self._nursery.start_soon(meet, found)
        with trio.move_on_after(BATCH_S):
            while len(met) < len(batch) and not any(met):
                await over.coming.wait()
        return any(met)

    async def _meet(self, found: "_Found") -> bool:
        now = trio.current_time()
        self._tried = {peer: at for peer, at in self._tried.items() if at + AGAIN_S > now} | {found.peer: now}
        try:
            link = await self._reach(found)
        except (LinkDead, Refused, UsageError) as error:
            logger.info("a peer known %s is not there: %s", found.how, error)
            if isinstance(error, Refused) and error.code is Code.BUSY:  # nobody was dialled
                self._tried.pop(found.peer, None)
            else:
                self._book.note_failed(found.peer, self._now())
            return False
        logger.info("met %s, known %s", short_name(found.peer), found.how)
        await self._directory.ask(link)
        return True

    async def _reach(self, found: "_Found") -> Link:
        if self._network.dialable(found.peer, found.addresses, HEARSAY) or not found.addresses:
            return await reach(self._network, found.peer, found.addresses)
        return await self._network.dial(found.addresses[0])  # a name, which a person dialled from here

    def listen(self) -> None:
        """Begin to listen on the local network, once where we are: of who is there others may know no address."""
        if self._listened_s == -inf:
            self._start_listening()

    async def wait_heard(self) -> None:
        """Wait HUSH_S from when that began for somebody to be heard, and HEAR_S at most for those to be met."""
        with trio.move_on_at(self._listened_s + HEAR_S):
            with trio.move_on_at(self._listened_s + HUSH_S):
                while not self._near:
                    await self._near_news.coming.wait()
            while self._near:
                await self._near_news.coming.wait()

    def _start_listening(self) -> None:
        if self._neighbours is not None and not self._is_listening:
            self._is_listening, self._listened_s = True, trio.current_time()
            self._nursery.start_soon(self._listen, self._neighbours)

    async def _listen(self, neighbours: OpenNeighbours) -> None:
        """Meet whoever is on the local network, as they come, for LISTEN_S: MAX_FOUND of them at most."""
        with trio.move_on_after(LISTEN_S), Contained("mDNS"):
            try:
                async with neighbours() as heard:
                    await self._meet_heard(heard)
            except OSError as error:
                logger.info("nobody is looked for on the local network: %s", error)
        self._is_listening = False

    async def _meet_heard(self, heard: Neighbours) -> None:
        left = MAX_FOUND
        while left:
            coming = heard.news.coming
            found = [one for one in _found(NEAR, heard.addresses()) if self._is_fresh(one)][:left]
            for one in found:
                self._nursery.start_soon(self._meet_near, one)
            left -= len(found)
            with trio.move_on_after(ALONE_AGAIN_S):
                await coming.wait()

    async def _meet_near(self, found: "_Found") -> None:
        self._near += 1
        self._near_news.tell()
        try:
            await self._meet(found)
        finally:
            self._near -= 1
            self._near_news.tell()

    # The address book

    def note_link(self, link: Link) -> None:
        """A link came up, whoever dialled."""
        self._book.note_link(link.peer, link.source.network or "", link.address, self._now())
        self._came.tell()

    def note_served(self, peer: PeerKey) -> None:
        """A peer had a part in an answer."""
        self._book.note_served(peer, self._now())

    async def keep_book(self) -> None:
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

    async def _load(self) -> None:
        if not self._is_loaded:
            self._is_loaded = True
            await self._book.load(self._now())

    def _now(self) -> int:
        return max(1, int(self._clock()))


class _Found:
    """A peer, where it may be, and how we know."""

    def __init__(self, how: str, peer: PeerKey, addresses: Sequence[str]) -> None:
        self.how = how
        self.peer = peer
        self.addresses = addresses


def _places(one: Acquaintance) -> list[str]:
    """Where to dial a peer; files may say anything."""
    return [place.address for place in one.places if leads_to(place.address) == one.peer]


def _found(how: str, addresses: Iterable[str]) -> list[_Found]:
    by_peer: dict[PeerKey, list[str]] = defaultdict(list)
    for address in addresses:
        if (peer := leads_to(address)) is not None:
            by_peer[peer].append(address)
    return [_Found(how, peer, found) for peer, found in by_peer.items()]
