"""The peers a node meets and stays linked to: bootstrap peers at first, then whom they tell of (wire.md, 6).

Nobody keeps a link to everybody. A peer that is turned away was told of others before. Those whom we lost are for
`losses.py`, and a node that nobody dials for `dialled.py`.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Final
from weakref import WeakSet

import trio

from p2pinfer.core.swarm.offers import KnownOffer
from p2pinfer.core.swarm.source import site_of
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import LinkDead, Refused
from p2pinfer.core.values.units import ModelId, PeerKey
from p2pinfer.core.wire.messages import MAX_ADDRESSES
from p2pinfer.overlay.degree import LEAST_DEGREE, Kept, elsewhere, missing, unneeded
from p2pinfer.overlay.dht_parts import DhtParts
from p2pinfer.overlay.dialled import Dialled
from p2pinfer.overlay.exchange import Exchange
from p2pinfer.overlay.limits import MAX_ASKED
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.losses import LOOK_AROUND_S, Losses
from p2pinfer.overlay.lots import drawn, drawn_links
from p2pinfer.overlay.network import Network
from p2pinfer.overlay.news import News
from p2pinfer.overlay.pipe import Address, leads_to
from p2pinfer.overlay.reach import reach
from p2pinfer.overlay.tidings import Tidings

CALM_S: Final = 30.0  # the same while we are linked to everybody whom we know; each look wakes a node that idles
SOON_S: Final = 0.25  # before those are dialled of whom we have just heard
REVISIT_S: Final = 600.0  # between visits to bootstrap peers by who has links enough: halves of a swarm meet there
NEAR: Final = 2  # links to peers on the local network, whomever we know: through a router they may be out of our reach
APART_S: Final = 300.0, 900.0  # between looks for a part of the swarm that fell apart from ours
STRANGE_S: Final = 60.0, 120.0  # between dials of a peer that we know of and have no link to, whatever links there are
TOLD_OF: Final = 4  # offers that a peer is told as it is turned away: it asks those for more
STRANGE_ADDRESSES: Final = 3  # of a peer that we never met: anybody may name more, and each takes of ALL_DIALS_RATE

logger = logging.getLogger(__name__)


class Meeting:
    """A node's links for its own sake; a client has its bootstrap peers alone.

    silences: tells of links that we dialled, whose peers fell silent: time to look around, for we may have moved
    changes:  tells of links that came and went
    losses:   whom we lost, and whom we leave alone
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
        self.losses = Losses(network, tidings)
        self._network = network
        self._lots = network.machine.lots
        self._exchange = exchange
        self._tidings = tidings
        self._settles = settles
        self._visited: WeakSet[Link] = WeakSet()  # to bootstrap peers that told us what they know
        self._visited_s: dict[str, float] = {}
        self._strange_s = 0.0
        self._parts = DhtParts(network, exchange)
        self._dialled = Dialled(network)
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
        """Bootstrap peers, while we have few links or were not there for long; not one that is to dial us just now."""
        awaited, before = self._dialled.awaited, trio.current_time() - REVISIT_S
        bootstrap = [address for address in self.bootstrap if leads_to(address) not in awaited]
        if len(self._network.links()) < LEAST_DEGREE:
            return bootstrap
        return [address for address in bootstrap if self._visited_s.get(address, before) <= before]

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
            for link in drawn_links(self._parts.to_meet(), MAX_ASKED, self._lots):
                nursery.start_soon(self._parts.meet, link)
        self._let_go()
        if self._tidings.own is not None:
            self._dialled.ask({*self._exchange.engaged(), *self._settles()})

    def _to_meet(self) -> list[KnownOffer]:
        now, known, links, away = trio.current_time(), self._tidings.reachable(), self._links(), self._left_alone()
        want = self._tidings.own, known, links, away, self._lots
        chosen = missing(*want)
        if now >= self._strange_s:  # one of another network, too: it need not lead where we look for one
            self._strange_s = now + self._lots.uniform(*STRANGE_S)
            others = [] if chosen else elsewhere(*want)
            taken = {link.peer for link in links}.union(away, (one.node for one in chosen))
            strangers = [one for one in known if one.node not in taken]
            chosen += others or drawn(strangers, 1, self._lots)
        return chosen

    @property
    def is_hasty(self) -> bool:
        """True if we have just heard of peers that we should be linked to."""
        known, away = self._tidings.reachable(), self._left_alone()
        return bool(missing(self._tidings.own, known, self._links(), away, self._lots))

    @property
    def is_calm(self) -> bool:
        """True if somebody is linked to us, and nobody whom we know is left to be dialled."""
        linked = {link.peer for link in self._network.links()}
        known = (*(one.node for one in self._tidings.reachable()), *self._near(), *map(leads_to, self.bootstrap))
        return bool(linked) and linked.issuperset(known)

    def _links(self, needed: Collection[PeerKey] = ()) -> list[Kept]:
        links = self._network.links()
        return [
            Kept(one.peer, one.came_s, one.peer in needed, site_of(one.source).network, one.dialled) for one in links
        ]

    def _left_alone(self) -> set[PeerKey]:
        return {*self.losses.away, *self._dialled.awaited}

    async def _meet(self, known: KnownOffer) -> None:
        """Dial a stranger, at its first addresses and another one."""
        first, others = known.addresses[: STRANGE_ADDRESSES - 1], known.addresses[STRANGE_ADDRESSES - 1 :]
        answers = await self.losses.dial(known, [*first, *self._lots.sample(others, min(1, len(others)))])
        if answers is False and self._network.links():
            self.losses.leave_alone(known.node)

    def note_link(self, link: Link) -> None:
        """Somebody is linked, whoever dialled."""
        self.changes.tell()
        self._dialled.note_link(link)
        self.losses.note_link()

    def _note_death(self, link: Link, why: LinkDead) -> None:
        self.changes.tell()
        if why.code is Code.IDLE:
            self.losses.leave_alone(link.peer)
        if why.code is Code.LEAVING:  # its own word
            self._tidings.table.silence(link.peer)
        if why.code is Code.SILENT and link.dialled:
            self.silences.tell()
        if why.code in (Code.LOST, Code.SILENT) or (why.code is Code.REDIAL and not link.dialled):
            self.losses.suspect(link)

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
            self.losses.leave_alone(peer)

    # Neighbours

    def _near(self) -> dict[PeerKey, list[Address]]:
        """Peers that were heard on the local network, and where."""
        found: dict[PeerKey, list[Address]] = defaultdict(list)
        for address in self._network.neighbours():
            if (peer := leads_to(address)) is not None and peer != self._network.key:
                found[peer].append(address)
        return found

    def _near_to_meet(self) -> list[tuple[PeerKey, list[Address]]]:
        near, linked, away = self._near(), {link.peer for link in self._network.links()}, self._left_alone()
        left = [peer for peer in near if peer not in linked and peer not in away]
        count = max(0, NEAR - len(near.keys() & linked))
        return [(peer, self._some(near[peer])) for peer in self._lots.sample(left, min(count, len(left)))]

    def _some(self, addresses: list[Address]) -> list[Address]:
        """As many as a peer may have; anybody there may name more, and be heard first."""
        return addresses if len(addresses) <= MAX_ADDRESSES else self._lots.sample(addresses, MAX_ADDRESSES)

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
                self.losses.leave_alone(peer)
        else:
            await self._tidings.ask(link, None)


def _is_no_use(peer: PeerKey, known: KnownOffer) -> bool:
    """True if a peer needs not to be told of an offer: it is its own, or it cannot be dialled."""
    return known.node == peer or not known.addresses
