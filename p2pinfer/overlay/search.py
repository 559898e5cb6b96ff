"""The DHT asked for nodes of a model: for ourselves, and for peers that have no part in it (protocols/wire.md, 6).

Nobody waits long for it: what comes late is told to those who asked, as news.
"""

import logging
from collections import OrderedDict, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain, repeat
from math import inf
from typing import Final

import trio

from p2pinfer.core.swarm.address import site_at
from p2pinfer.core.swarm.allowance import Allowance, Rate
from p2pinfer.core.swarm.offers import KnownOffer
from p2pinfer.core.values.errors import Refused
from p2pinfer.core.values.units import ModelId, PeerKey
from p2pinfer.core.wire.messages import MAX_ADDRESSES, MAX_OFFERS
from p2pinfer.overlay.limits import (
    ALL_SEEKS_BURST,
    ALL_SEEKS_RATE,
    MAX_FOUND,
    MAX_SEEKERS,
    SEEK_S,
    SEEKS_BURST,
    SEEKS_RATE,
    SOUGHT_AGAIN_S,
)
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.lots import drawn_in_turn
from p2pinfer.overlay.network import Network
from p2pinfer.overlay.pipe import leads_to
from p2pinfer.overlay.reach import reach
from p2pinfer.overlay.tidings import Tidings

MODEL_DOMAIN: Final = b"p2pinfer/1/model\0"
AGAIN_S: Final = 5.0  # before we ask for the same model again on our own account
OTHERS: Final = 2  # that are met of a model which is well held: one tells of its whole part of the swarm
SEEKS_AT_ONCE: Final = 4  # for others: a made-up model, whose holders are silent, holds up no other
MAX_SOUGHT: Final = 64  # models of which we remember when they were sought
MAX_TRIED: Final = 1_024  # peers of which we remember when we tried them
PROVIDE_FIRST_S: Final = (1.0, 10.0, 60.0)  # sooner while others are met: what is told to nobody is lost
PROVIDE_AGAIN_S: Final = 3_600.0  # DHT records live a day, and renewed hourly they outlive who holds them

logger = logging.getLogger(__name__)


def model_key(model: ModelId, depth: int = 0) -> bytes:
    """Return the DHT key of the nodes that serve a model; depths over 0 are for swarms too large for one key."""
    assert depth == 0
    return sha256(MODEL_DOMAIN + model + bytes([depth])).digest()


@dataclass(slots=True, eq=False)
class _Seeker:
    """A peer that is told what is found of a model, for a while, up to as many offers as an answer holds.

    known: what nodes were doing when it could know of them
    """

    link: Link
    model: ModelId
    until_s: float
    known: dict[PeerKey, int]
    left: int = MAX_OFFERS

    def wants(self, known: KnownOffer, now: float) -> bool:
        offer = known.offer.record
        is_news = offer.model == self.model and self.known.get(known.node) != offer.state
        return is_news and self.left > 0 and now < self.until_s


class Seeking:
    """Look-ups in the DHT. Those for others run in `run`."""

    def __init__(self, network: Network, tidings: Tidings) -> None:
        self._network = network
        self._tidings = tidings
        self._sought: OrderedDict[ModelId, float] = OrderedDict()  # when each model was sought last
        self._tried: OrderedDict[PeerKey, float] = OrderedDict()  # when somebody who was found was tried last
        self._under_way: dict[ModelId, trio.Event] = {}
        self._seekers: list[_Seeker] = []
        self._seeks = Allowance(Rate(SEEKS_BURST, SEEKS_RATE), Rate(ALL_SEEKS_BURST, ALL_SEEKS_RATE))
        self._wish, self._wishes = trio.open_memory_channel[ModelId](MAX_SEEKERS)  # what is beyond it is not sought

    async def seek(self, model: ModelId, again_s: float = AGAIN_S) -> None:
        """Ask the DHT who serves a model, and them for offers; once in `again_s`, and together with who asks now."""
        if (done := self._under_way.get(model)) is not None:
            await done.wait()
            return
        now = trio.current_time()
        if now - self._sought.get(model, -again_s) < again_s:
            return
        self._sought[model] = now
        self._sought.move_to_end(model)
        if len(self._sought) > MAX_SOUGHT:
            self._sought.popitem(last=False)
        self._under_way[model] = done = trio.Event()
        try:
            await self._seek(model)
        finally:
            del self._under_way[model]
            done.set()

    async def _seek(self, model: ModelId) -> None:
        """Meet many of a model that is thinly held; of another, a few of whom we know nothing."""
        found = await self._find(model)
        if self._tidings.is_thin(model):
            await self._meet_all(found, model, MAX_FOUND)
        else:
            known = {one.node for one in self._tidings.fresh(model)}
            await self._meet_all({peer: found[peer] for peer in found if peer not in known}, model, OTHERS)

    async def _find(self, model: ModelId) -> dict[PeerKey, list[str]]:
        found: dict[PeerKey, list[str]] = defaultdict(list)
        for address in await self._network.find(model_key(model)):
            if (peer := leads_to(address)) is not None and peer != self._network.key:
                found[peer].append(address)
        return found

    async def _meet_all(self, found: Mapping[PeerKey, Sequence[str]], model: ModelId, most: int) -> None:
        async with self._tidings.gathering() as gathering:
            for peer in self._to_meet(found, most):
                gathering.start(peer, self._meet, peer, found[peer][:MAX_ADDRESSES], model)

    def _to_meet(self, found: Mapping[PeerKey, Sequence[str]], most: int) -> list[PeerKey]:
        """So many of those that are not linked, networks in turn: who was not met yet, then who was tried first."""
        there = [peer for peer in found if self._network.link(peer) is None]
        drawn = drawn_in_turn(there, len(there), [lambda peer: site_at(found[peer][0])], self._network.machine.lots)
        chosen = sorted(drawn, key=lambda peer: self._tried.get(peer, -inf))[:most]
        for peer in chosen:
            self._tried[peer] = trio.current_time()
            self._tried.move_to_end(peer)
        while len(self._tried) > MAX_TRIED:
            self._tried.popitem(last=False)
        return chosen

    async def _meet(self, peer: PeerKey, addresses: Sequence[str], model: ModelId) -> None:
        """Meet a peer at addresses that somebody else gave us."""
        known = self._network.link(peer)
        try:
            link = await reach(self._network, peer, addresses, told_by="")
        except Refused as error:
            logger.info("who serves the model is not there: %s", error)
            return
        if link is not known:
            await self._tidings.ask(link, model)

    # For others

    def wish(self, link: Link, model: ModelId) -> None:
        """A peer wants more of a model: it is told what we hear of it soon, and the DHT is asked."""
        now = trio.current_time()
        self._seekers = [one for one in self._seekers if one.until_s > now and one.link.dead is None]
        others = [one for one in self._seekers if (one.link, one.model) != (link, model)]
        if len(others) >= MAX_SEEKERS or not self._seeks.take(link.source, now):
            return
        known = {one.node: one.offer.record.state for one in self._tidings.fresh(model)}
        self._seekers = [*others, _Seeker(link, model, now + SEEK_S, known)]
        try:
            self._wish.send_nowait(model)
        except trio.WouldBlock:
            return

    def hear(self, known: KnownOffer) -> None:
        """Pass news on to those who seek them."""
        now = trio.current_time()
        for one in self._seekers:
            if one.wants(known, now):
                one.known[known.node] = known.offer.record.state
                one.left -= 1
                self._tidings.tell(one.link, [known])

    async def run(self) -> None:
        """Seek what others wish for, a few models at once, until cancelled."""
        async with trio.open_nursery() as nursery:
            for _ in range(SEEKS_AT_ONCE):
                nursery.start_soon(self._seek_wishes)

    async def _seek_wishes(self) -> None:
        async for model in self._wishes:
            if model not in self._under_way:
                await self.seek(model, SOUGHT_AGAIN_S)

    async def keep_providing(self, model: ModelId) -> None:
        """Say in the DHT that we serve a model, until cancelled; after a move or a sleep as at first."""
        while True:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._provide_again, model)
                await self._network.wait_moved()
                nursery.cancel_scope.cancel()

    async def _provide_again(self, model: ModelId) -> None:
        for wait_s in chain(PROVIDE_FIRST_S, repeat(PROVIDE_AGAIN_S)):
            await trio.sleep(wait_s)
            await self._network.provide(model_key(model))
