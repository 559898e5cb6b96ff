"""The directory of who serves what: signed offers, told and pulled among peers; the DHT finds the first ones.

This is what node and client see of it. `tidings.py` and `hearing.py` say how offers travel, `meeting.py` to whom a node
links; `search.py` has the DHT; the life of offers is kept in `core/swarm/offer_table.py`.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Final

import trio

from p2pinfer.core.records.offer import Offer
from p2pinfer.core.swarm.offer_table import ANSWER_PART, PULL_NEW, OfferTable
from p2pinfer.core.swarm.offers import KnownOffer, reachable
from p2pinfer.core.values.errors import Refused
from p2pinfer.core.values.units import ModelId, PeerKey
from p2pinfer.overlay.exchange import Exchange
from p2pinfer.overlay.hearing import Audience
from p2pinfer.overlay.limits import MAX_ASKED
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.losses import LOOK_AROUND_S
from p2pinfer.overlay.lots import drawn, drawn_links
from p2pinfer.overlay.meeting import APART_S, CALM_S, SOON_S, Meeting
from p2pinfer.overlay.network import Network
from p2pinfer.overlay.news import News
from p2pinfer.overlay.pipe import hear_nothing, leads_to
from p2pinfer.overlay.reach import reach
from p2pinfer.overlay.search import Seeking, model_key
from p2pinfer.overlay.tidings import LOOK_S, MEET_S, Tidings

__all__ = ["LOOK_AROUND_S", "MEET_S", "Directory", "model_key"]

HASTE_S: Final = 0.5  # before the DHT is asked, too, while layers are missing
FURTHER: Final = 4  # peers that we have just heard of and ask, too, while layers are missing
PULL_S: Final = 10.0, 20.0  # between questions that nobody waits for
PULL_GAIN_S: Final = 20  # that an offer must be younger than ours: nodes renew theirs as often
OWED: Final = 0.5  # of questions go to a peer whose offer we missed, if there is one: any peer can say so all the time
KNOWN_ENOUGH: Final = 48  # offers: a question names them all, so what is asked does not grow with the swarm
INTEREST_S: Final = 60.0  # a client asks on for so long after it wanted a model
THIN_S: Final = 30.0, 600.0  # between look-ups in the DHT while a model is thinly held: the first wait, and the longest

Seek = Callable[[bool, bool], Awaitable[None]]  # as `FirstPeers.seek`


class Directory:
    """Our knowledge of the swarm.

    own:  the offer that we serve, or None
    news: tells of offers whose node was unknown, or does something else now
    """

    def __init__(
        self,
        network: Network,
        exchange: Exchange,
        bootstrap: Sequence[str] = (),
        *,
        hear_own: Callable[[Offer], None] = hear_nothing,
        settles: Callable[[], Collection[PeerKey]] = frozenset,
    ) -> None:
        """hear_own: hears of offers that our key signed

        settles: says with whom something is to be settled: links to them stay
        """
        self.network = network
        self.exchange = exchange
        self._lots = network.machine.lots
        self._tidings = Tidings(network, exchange, Audience(hear_own, self._hear, self._wish))
        self._meeting = Meeting(network, exchange, self._tidings, bootstrap, settles)
        self._seeking = Seeking(network, self._tidings)
        self.news = News()
        self._seek: Seek = _seek_nobody
        self._interest: ModelId | None = None
        self._interest_s = 0.0  # when somebody asked for it last
        self._thin_s, self._thin_wait_s = 0.0, THIN_S[0]

    @property
    def table(self) -> OfferTable:
        return self._tidings.table

    @property
    def own(self) -> KnownOffer | None:
        return self._tidings.own

    def _hear(self, known: KnownOffer) -> None:
        self._seeking.hear(known)
        self._meeting.changes.tell()
        self.news.tell()

    def _wish(self, link: Link, model: ModelId) -> None:
        self._seeking.wish(link, model)

    @contextmanager
    def helped_by(self, seek: Seek) -> Iterator[None]:
        """Have `seek` find first peers while the block lasts, where those named are away, or none is."""
        self._seek = seek
        try:
            yield
        finally:
            self._seek = _seek_nobody

    def announce(self, offer: KnownOffer) -> None:
        """Make `offer` ours, and tell everybody we are linked to."""
        self._tidings.announce(offer)

    def note_layers(self, model: ModelId, layers: int) -> None:
        """A manifest says how many layers a model has: no offer can make it look shorter then."""
        self._tidings.note_layers(model, layers)

    def greet(self, link: Link) -> None:
        """A link came up: tell its peer what we serve."""
        self._meeting.note_link(link)
        self._tidings.greet(link)

    def offers(self, model: ModelId | None = None) -> list[KnownOffer]:
        """Return what is on offer as far as we know now."""
        self._note_interest(model)
        return self._tidings.fresh(model)

    def hides(self, model: ModelId) -> bool:
        """True if a node offers a model that cannot be reached from here; it may be on the local network."""
        return len(self._tidings.reachable(model)) < len(self._tidings.fresh(model))

    def reaches(self, known: KnownOffer) -> bool:
        """True if the node of an offer is linked, or may be dialled from here."""
        return bool(reachable([known], {link.peer for link in self.network.links()}))

    @property
    def is_alone(self) -> bool:
        """True if peers to meet were named, and none is linked to us."""
        return bool(self._meeting.bootstrap) and not self.network.links()

    @property
    def misses_named(self) -> bool:
        """True if peers to meet were named, and none of those is linked to us, whoever else is."""
        named = {leads_to(address) for address in self._meeting.bootstrap}
        return bool(named) and named.isdisjoint(link.peer for link in self.network.links())

    @property
    def has_links(self) -> bool:
        """True if anybody is linked to us."""
        return bool(self.network.links())

    async def ask(self, link: Link, model: ModelId | None = None) -> None:
        """Ask the peer of a link what it knows to be on offer; who does not answer has nothing to say."""
        await self._tidings.ask(link, model)

    async def look(self, model: ModelId | None = None, widely: bool = False) -> list[KnownOffer]:
        """Meet the bootstrap peers, ask MAX_ASKED of those we are linked to, and say what is on offer.

        widely: look for others, too, though somebody is linked, and ask the DHT though all layers seem to be there: who
                needs more than what there is may have been told of nodes that are none

        While layers of the model are missing, peers that we heard of are asked, and the DHT. Takes MEET_S, and up to
        LOOK_S where somebody answers who is far away; waits for nobody who does not answer.
        """
        self._note_interest(model)
        asked = trio.Event()
        with trio.move_on_after(LOOK_S) as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._ask_around, model, asked, widely)
                if model is not None:
                    with trio.move_on_after(HASTE_S):
                        await asked.wait()
                    if widely or not self._tidings.held(model):
                        nursery.start_soon(self._ask_further, model)
                        await self._seeking.seek(model)
                await asked.wait()
                if model is None or self._tidings.held(model):
                    scope.cancel()  # who is still away is waited for no longer
        return self.offers(model)

    async def _ask_around(self, model: ModelId | None, asked: trio.Event, widely: bool) -> None:
        seek = model is not None and not self._has_dht and (widely or self._tidings.is_thin(model))
        async with self._tidings.gathering() as gathering:
            for link in self._some(self.network.links()):
                gathering.start(link.peer, partial(self._tidings.ask, link, model, seek=seek))
            for address in self._meeting.bootstrap:
                gathering.start(leads_to(address), partial(self._meeting.visit, address, model, seek=seek))
            gathering.start(None, self._seek_peers, widely)
        asked.set()

    async def _seek_peers(self, widely: bool = False) -> None:
        await self._seek(bool(self._meeting.bootstrap), widely)

    async def _ask_further(self, model: ModelId) -> None:
        """Ask some of those that we have just heard of: they know their neighbours."""
        linked = {link.peer for link in self.network.links()}
        strangers = [known for known in self._tidings.reachable(model) if known.node not in linked]
        async with self._tidings.gathering() as gathering:
            for known in drawn(strangers, FURTHER, self._lots):
                gathering.start(known.node, self._ask_stranger, known, model)

    async def _ask_stranger(self, known: KnownOffer, model: ModelId) -> None:
        with suppress(Refused):
            link = await reach(self.network, known.node, known.addresses, told_by=known.network)
            await self._tidings.ask(link, model, seek=not self._has_dht)

    def _some(self, links: Sequence[Link]) -> list[Link]:
        """Those to ask something now: first those that we dialled, then whoever chance will have."""
        ours, theirs = ([link for link in links if link.dialled == dialled] for dialled in (True, False))
        chosen = drawn_links(ours, MAX_ASKED, self._lots)
        return chosen + drawn_links(theirs, MAX_ASKED - len(chosen), self._lots)

    # For as long as we run

    async def keep_meeting(self) -> None:
        """A node's part in the swarm, until cancelled: its links, and what others want looked for."""
        self._tidings.hearing.relays = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._meeting.losses.keep_dialling)
            nursery.start_soon(self._seeking.run)
            nursery.start_soon(self._keep_seeking_others)
            while True:
                silence, change = self._meeting.silences.coming, self._meeting.changes.coming
                async with trio.open_nursery() as peers:
                    if not self.network.links():
                        peers.start_soon(self._seek_peers)
                    await self._meeting.look_around()
                own = self._tidings.own
                if own is not None and not self.network.links():
                    await self._seeking.seek(own.offer.record.model)  # alone: the DHT or the local network may help
                if self._meeting.is_calm:
                    with trio.move_on_after(CALM_S) as calm:
                        await change.wait()
                    if calm.cancelled_caught:
                        continue
                with trio.move_on_after(SOON_S if self._meeting.is_hasty else LOOK_AROUND_S):
                    await silence.wait()
                    await trio.sleep(SOON_S)  # others fall silent with it

    async def _keep_seeking_others(self) -> None:
        """Ask the DHT for our model seldom, however well it is held: another part of the swarm may hold it, too."""
        while True:
            await trio.sleep(self._lots.uniform(*APART_S))
            if (own := self._tidings.own) is not None:
                await self._seeking.seek(own.offer.record.model)

    async def keep_providing(self, model: ModelId) -> None:
        """Say in the DHT that we serve a model, until cancelled."""
        await self._seeking.keep_providing(model)

    async def keep_pulling(self) -> None:
        """Ask a peer of our model and another one for news, every PULL_S, until cancelled; clients have none to tell.

        A client does so while it works: for INTEREST_S after it asked for a model.
        """
        while True:
            await trio.sleep(self._lots.uniform(*PULL_S))
            model, links = self._model(), self.network.links()  # an idle client hears of a sleep by it
            if model is None and not self._tidings.hearing.relays:
                continue
            is_sought = model is not None and self._is_time_for_dht(model)
            async with trio.open_nursery() as nursery:
                for link in self._to_pull(model, [link for link in links if not link.hello.only_asks]):
                    nursery.start_soon(self._pull, link, model, is_sought and not self._has_dht)
                if model is not None and is_sought:
                    nursery.start_soon(self._seeking.seek, model)

    def _model(self) -> ModelId | None:
        """The model that matters to us: the one that we serve, or that somebody here asked for lately."""
        if (own := self._tidings.own) is not None:
            return own.offer.record.model
        return self._interest if trio.current_time() < self._interest_s + INTEREST_S else None

    def _note_interest(self, model: ModelId | None) -> None:
        if model is not None:
            self._interest, self._interest_s = model, trio.current_time()

    def _to_pull(self, model: ModelId | None, links: Sequence[Link]) -> list[Link]:
        """One peer of the model, or now and then one whose offer we missed; and one of all others."""
        serving = {known.node for known in self._tidings.fresh(model)}
        owed = [link for link in links if link in self._tidings.hearing.owed] if self._lots.random() < OWED else []
        first = owed or [one for one in links if one.peer in serving]
        chosen = drawn_links(first, 1, self._lots)
        return chosen + drawn_links([link for link in links if link not in chosen], 1, self._lots)

    @property
    def _has_dht(self) -> bool:
        """True if we ask the DHT ourselves, and need nobody to."""
        return bool(self.network.directory_addresses())

    async def _pull(self, link: Link, model: ModelId | None, seek: bool) -> None:
        limit = min(PULL_NEW, max(1, self._unknown(model)))  # offers of nodes that we do not know
        await self._tidings.ask(link, model, seek=seek, gain_s=PULL_GAIN_S, limit=limit)

    def _unknown(self, model: ModelId | None) -> int:
        """Return how many are missing to KNOWN_ENOUGH. While others tell some, one network tells a part of these."""
        counts = Counter(known.network for known in self._tidings.fresh(model)).values()
        share = KNOWN_ENOUGH // ANSWER_PART if len(counts) > 1 else KNOWN_ENOUGH
        return KNOWN_ENOUGH - sum(min(count, share) for count in counts)

    def _is_time_for_dht(self, model: ModelId) -> bool:
        """True while the model is thinly held, ever more rarely: who is the only one for a year asks no more."""
        now = trio.current_time()
        if not self._tidings.is_thin(model):
            self._thin_wait_s = THIN_S[0]
            return False
        if now < self._thin_s + self._thin_wait_s:
            return False
        self._thin_s, self._thin_wait_s = now, min(2 * self._thin_wait_s, THIN_S[1])
        return True


async def _seek_nobody(_named: bool, _widely: bool) -> None:
    await trio.lowlevel.checkpoint()
