"""The peers a node meets and stays linked to: bootstrap peers at first, then whom they tell of (wire.md, 6).

Nobody keeps a link to everybody. A peer that is turned away was told of others before. A node that was linked to us and
is gone is dialled once: only its own silence makes us stop passing its offer on. Where nobody answers at all it may be
our own network that is away: those whom we lost are dialled until somebody is there, and then all once more.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from functools import partial
from math import inf
from typing import Final
from weakref import WeakSet

import trio

from p2pinfer.core.swarm.offers import KnownOffer
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import LinkDead, Refused, RemoteProtocolError, TurnedAway
from p2pinfer.core.values.units import ModelId, PeerKey
from p2pinfer.core.wire.messages import MAX_ADDRESSES, AskContacts, Contacts
from p2pinfer.overlay.calls import Ask
from p2pinfer.overlay.degree import LEAST_DEGREE, Kept, elsewhere, missing, unneeded
from p2pinfer.overlay.exchange import Exchange
from p2pinfer.overlay.limits import MAX_ASKED
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.lots import drawn, drawn_links
from p2pinfer.overlay.network import Network
from p2pinfer.overlay.news import News
from p2pinfer.overlay.pipe import Address, leads_to
from p2pinfer.overlay.reach import reach
from p2pinfer.overlay.tidings import Tidings

LOOK_AROUND_S: Final = 5.0  # between looks for whom to dial, bootstrap peers that are away among them
CALM_S: Final = 30.0  # the same while we are linked to everybody whom we know; each look wakes a node that idles
SOON_S: Final = 0.25  # before those are dialled of whom we have just heard
REVISIT_S: Final = 600.0  # between visits to bootstrap peers by who has links enough: halves of a swarm meet there
NEAR: Final = 2  # links to peers on the local network, whomever we know: through a router they may be out of our reach
APART_S: Final = 300.0, 900.0  # between looks for a part of the swarm that fell apart from ours
STRANGE_S: Final = 60.0, 120.0  # between dials of a peer that we know of and have no link to, whatever links there are
AWAY_S: Final = 300.0  # before a peer that did not answer, or turned us away, is dialled again for its own sake
MAX_AWAY: Final = 1_024
TOLD_OF: Final = 4  # offers that a peer is told as it is turned away: it asks those for more
MAX_SUSPECTS: Final = 64  # dialled at once to see if they live
NETWORK_SUSPECTS: Final = 4  # of them whose links led to one network: who has many keys would take all places
STRANGE_ADDRESSES: Final = 3  # of a peer that we never met: anybody may name more, and each takes of ALL_DIALS_RATE

logger = logging.getLogger(__name__)


class Meeting:
    """A node's links for its own sake; a client has its bootstrap peers alone.

    silences: tells of links that we dialled, whose peers fell silent: time to look around, for we may have moved
    changes:  tells of links that came and went
    """

    def __init__(
        self,
        network: Network,
        exchange: Exchange,
        tidings: Tidings,
        bootstrap: Sequence[str],
        settles: Callable[[], Collection[PeerKey]],
    ) -> None:
        """settles: says with whom something is still to be settled"""
        self.bootstrap = tuple(bootstrap)
        self.silences = News()
        self.changes = News()
        self._network = network
        self._lots = network.machine.lots
        self._exchange = exchange
        self._tidings = tidings
        self._settles = settles
        self._visited: WeakSet[Link] = WeakSet()  # to bootstrap peers that told us what they know
        self._met: WeakSet[Link] = WeakSet()  # links whose peers' part of the DHT we have asked for
        self._met_by: tuple[Address, ...] = ()  # where our part was then: one that starts anew knows few of them
        self._away: dict[PeerKey, float] = {}  # until when a peer is left alone
        self._suspects: dict[PeerKey, KnownOffer] = {}
        self._doubted: dict[PeerKey, str | None] = {}  # suspects until they were dialled, and where their links led
        self._suspected = trio.Event()
        self._lost: dict[PeerKey, KnownOffer] = {}  # who did not answer last, to be dialled when we were cut off
        self._is_cut = False  # nobody answered while we had no link
        self._visited_s: dict[str, float] = {}
        self._strange_s = 0.0
        exchange.answer(AskContacts, self._say_contacts)
        exchange.mourners.append(self._note_death)

    # Bootstrap peers

    async def visit(self, address: str, model: ModelId | None, *, seek: bool = False) -> bool:
        """Meet a bootstrap peer, and ask it for offers, once for each link; False if it does not answer."""
        try:
            link = await self._network.dial(address)
        except LinkDead as error:
            logger.info("cannot reach %s: %s", address, error)
            return False
        self._visited_s[address] = trio.current_time()
        if link not in self._visited and await self._tidings.ask(link, model, seek=seek):
            self._visited.add(link)  # and not before: a far one may outlast the visit that dialled it
        return link in self._visited

    async def _visit_in_time(self, address: str) -> None:
        """Wait for one that is silent no longer than until it is tried again; its dial goes on."""
        with trio.move_on_after(LOOK_AROUND_S):
            await self.visit(address, None)

    def _to_visit(self) -> list[str]:
        """Bootstrap peers, while we have few links or were not there for long."""
        if len(self._network.links()) < LEAST_DEGREE:
            return list(self.bootstrap)
        before = trio.current_time() - REVISIT_S
        return [address for address in self.bootstrap if self._visited_s.get(address, before) <= before]

    # Everybody else

    async def look_around(self) -> None:
        """Dial whom we should be linked to, and let go of whom we need not. Takes as long as a dial that fails."""
        async with trio.open_nursery() as nursery:
            for address in self._to_visit():
                nursery.start_soon(self._visit_in_time, address)
            for known in self._to_meet():
                nursery.start_soon(self._meet, known)
            for peer, addresses in self._near_to_meet():
                nursery.start_soon(self._meet_near, peer, addresses)
            for link in drawn_links(self._to_meet_in_dht(), MAX_ASKED, self._lots):
                nursery.start_soon(self._meet_in_dht, link)
        self._let_go()

    def _to_meet(self) -> list[KnownOffer]:
        now, known = trio.current_time(), self._tidings.reachable()
        self._away = {peer: until_s for peer, until_s in self._away.items() if until_s > now}
        links = self._links()
        want = self._tidings.own, known, links, self._away, self._lots
        chosen = missing(*want)
        if now >= self._strange_s:  # one of another network, too: it need not lead where we look for one
            self._strange_s = now + self._lots.uniform(*STRANGE_S)
            others = [] if chosen else elsewhere(*want)
            taken = {link.peer for link in links}.union(self._away, (one.node for one in chosen))
            strangers = [one for one in known if one.node not in taken]
            chosen += others or drawn(strangers, 1, self._lots)
        return chosen

    @property
    def is_hasty(self) -> bool:
        """True if we have just heard of peers that we should be linked to."""
        return bool(missing(self._tidings.own, self._tidings.reachable(), self._links(), self._away, self._lots))

    @property
    def is_calm(self) -> bool:
        """True if somebody is linked to us, and nobody whom we know is left to be dialled."""
        linked = {link.peer for link in self._network.links()}
        known = (*(one.node for one in self._tidings.reachable()), *self._near(), *map(leads_to, self.bootstrap))
        return bool(linked) and linked.issuperset(known)

    def _links(self, needed: Collection[PeerKey] = ()) -> list[Kept]:
        links = self._network.links()
        return [Kept(one.peer, one.came_s, one.peer in needed, one.source.network, one.dialled) for one in links]

    async def _meet(self, known: KnownOffer) -> None:
        """Dial a stranger, at its first addresses and another one."""
        first, others = known.addresses[: STRANGE_ADDRESSES - 1], known.addresses[STRANGE_ADDRESSES - 1 :]
        answers = await self._dial(known, [*first, *self._lots.sample(others, min(1, len(others)))])
        if answers is False and self._network.links():
            self._leave_alone(known.node)

    async def _dial(self, known: KnownOffer, addresses: Sequence[str]) -> bool | None:
        """False if the peer did not answer; None if it was not dialled, for too many are."""
        try:
            await reach(self._network, known.node, addresses, told_by=known.network)
        except TurnedAway:  # so it lives
            if self._network.links():
                self._leave_alone(known.node)
        except Refused as refusal:
            if refusal.code is Code.BUSY:  # nobody was dialled, which says nothing of it
                return None
            if any(link.peer == known.node for link in self._network.links()):
                return True  # it came to us meanwhile
            self._note_silence(known, was_tried=len(addresses) == len(known.addresses))
            return False
        self._lost.pop(known.node, None)
        return True

    def _note_silence(self, known: KnownOffer, *, was_tried: bool) -> None:
        """A peer did not answer. was_tried: at any of its addresses"""
        self._lost.pop(known.node, None)
        self._lost[known.node] = known
        if len(self._lost) > MAX_SUSPECTS:
            del self._lost[next(iter(self._lost))]
        if not self._network.links() and not self._is_cut:
            self._is_cut = True
            self._suspected.set()
        if was_tried:
            self._tidings.table.silence(known.node)

    def note_link(self) -> None:
        """Somebody is linked: if nobody was, that was our own fault as likely as theirs."""
        self.changes.tell()
        if self._is_cut:
            self._is_cut = False
            self._away.clear()
            self._suspects = {**self._lost, **self._suspects}
            self._lost = {}
            self._suspected.set()

    def _leave_alone(self, peer: PeerKey) -> None:
        self._away[peer] = trio.current_time() + AWAY_S
        if len(self._away) > MAX_AWAY:
            del self._away[next(iter(self._away))]

    def _let_go(self) -> None:
        """End links that nobody needs, beyond those that we keep; their peers hear of others first."""
        now, table, own = trio.current_time(), self._tidings.table, self._tidings.own
        needed = {*self._exchange.engaged(), *self._settles(), *self._near_to_keep()}
        links = {link.peer: link for link in self._network.links()}
        for peer in unneeded(own, self._tidings.fresh(), self._links(needed), now, self._lots):
            theirs = table.get(peer)
            model = None if theirs is None else theirs.offer.record.model
            others = table.spread(now, model, TOLD_OF, partial(_is_no_use, peer))
            self._tidings.tell(links[peer], others)
            links[peer].close(Code.IDLE, "it has links enough; it told of others")
            self._leave_alone(peer)

    # Neighbours

    def _near(self) -> dict[PeerKey, list[Address]]:
        """Peers that were heard on the local network, and where."""
        found: dict[PeerKey, list[Address]] = defaultdict(list)
        for address in self._network.neighbours():
            if (peer := leads_to(address)) is not None and peer != self._network.key:
                found[peer].append(address)
        return found

    def _near_to_meet(self) -> list[tuple[PeerKey, list[Address]]]:
        near, linked = self._near(), {link.peer for link in self._network.links()}
        left = [peer for peer in near if peer not in linked and peer not in self._away]
        count = max(0, NEAR - len(near.keys() & linked))
        return [(peer, near[peer][:MAX_ADDRESSES]) for peer in self._lots.sample(left, min(count, len(left)))]

    def _near_to_keep(self) -> list[PeerKey]:
        """The first neighbours that were linked: they know each other's addresses, which nobody else tells."""
        near = self._near()
        links = sorted(self._network.links(), key=lambda link: link.came_s)
        return [link.peer for link in links if link.peer in near][:NEAR]

    async def _meet_near(self, peer: PeerKey, addresses: Sequence[Address]) -> None:
        try:
            link = await reach(self._network, peer, addresses, told_by="")
        except Refused as refusal:
            if refusal.code is not Code.BUSY:
                self._leave_alone(peer)
        else:
            await self._tidings.ask(link, None)

    # The dead

    def _note_death(self, link: Link, why: LinkDead) -> None:
        self.changes.tell()
        if why.code is Code.IDLE:
            self._leave_alone(link.peer)
        if why.code is Code.LEAVING:  # its own word
            self._tidings.table.silence(link.peer)
        if why.code is Code.SILENT and link.dialled:
            self.silences.tell()
        known = self._tidings.table.get(link.peer)
        if why.code in (Code.LOST, Code.SILENT) and known is not None and self._has_room(link.source.network):
            self._doubted[link.peer] = link.source.network
            self._suspects[link.peer] = known
            self._suspected.set()

    def _has_room(self, network: str | None) -> bool:
        """True if one more suspect may be dialled, of those whose links led to a network."""
        same = sum(one == network for one in self._doubted.values())
        return len(self._doubted) < MAX_SUSPECTS and (network is None or same < NETWORK_SUSPECTS)

    async def keep_looking_after(self) -> None:
        """Dial those whose links broke, until cancelled; the offer of one that does not answer is no offer any more.

        While nobody answers, some of them every LOOK_AROUND_S.
        """
        async with trio.open_nursery() as nursery:
            while True:
                with trio.move_on_after(LOOK_AROUND_S if self._is_cut else inf):
                    await self._suspected.wait()
                self._suspected = trio.Event()
                suspects, self._suspects = self._suspects, {}
                if self._is_cut and not suspects:
                    suspects = {one.node: one for one in drawn(self._lost.values(), LEAST_DEGREE, self._lots)}
                for known in suspects.values():
                    nursery.start_soon(self._dial_suspect, known)

    async def _dial_suspect(self, known: KnownOffer) -> None:
        """One that answers slowly holds no other. A silent peer is dialled again once a newer offer says that it lives.

        So those who fell apart from us are met as soon as we hear of them, though a stranger would be left alone.
        """
        try:
            while True:
                was_dialled = await self._dial(known, known.addresses) is not None
                if was_dialled or known.left_s(trio.current_time()) <= 0:
                    break
                await trio.sleep(LOOK_AROUND_S)
        finally:
            self._doubted.pop(known.node, None)

    # The DHT's hosts

    def _to_meet_in_dht(self) -> list[Link]:
        part = self._network.directory_addresses()
        if part and part != self._met_by:
            self._met.clear()
            self._met_by = part
        return [link for link in self._network.links() if link not in self._met] if part else []

    async def _meet_in_dht(self, link: Link) -> None:
        """Let our part of the DHT know the peer's, once for each link: a peer that starts anew has a new part."""
        self._met.add(link)
        try:
            contacts = await self._exchange.call(link, AskContacts, Contacts)
        except (LinkDead, Refused, RemoteProtocolError) as error:
            logger.info("a peer has no part in the DHT: %s", error)
            return
        await self._network.meet(contacts.directory, link.source)

    async def _say_contacts(self, link: Link, ask: Ask) -> Contacts:
        network = self._network
        directory = [one for one in network.directory_addresses() if network.may_tell(one, link.source)]
        return Contacts(ask.call, network.told(link.source), tuple(directory[:MAX_ADDRESSES]))


def _is_no_use(peer: PeerKey, known: KnownOffer) -> bool:
    """True if a peer needs not to be told of an offer: it is its own, or it cannot be dialled."""
    return known.node == peer or not known.addresses
