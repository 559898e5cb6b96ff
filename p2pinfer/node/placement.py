"""The layers that this node holds, and when it takes others (protocols/offer.md, 4.1).

The pure `core/swarm/placement.py` and `core/swarm/moving.py` decide, with what the directory knows; `serving.py` loads
and serves. Before a node moves it links to nodes that hold its layers, and says that it joins elsewhere, so that they
hear of it. Then it decides once more: of two that could both leave a layer one stays. A node that does not answer holds
nothing.
"""

import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from ipaddress import ip_network
from math import inf
from statistics import fmean
from typing import Final, Protocol

import trio

from p2pinfer.core.records.offer import Offer, ServingState
from p2pinfer.core.swarm.moving import OtherSpans, is_right, move_of, odds, swarm_of
from p2pinfer.core.swarm.offers import KnownOffer, reachable
from p2pinfer.core.swarm.placement import JOIN_WAIT_S, OfferedSpan, choose_span, reconsider_span
from p2pinfer.core.values.errors import ModelError, UsageError
from p2pinfer.core.values.units import PeerKey, Span
from p2pinfer.disk.store import StoredModel
from p2pinfer.node.holders import Holders, holds
from p2pinfer.node.settings import Serve, numerics_of, span_of
from p2pinfer.node.shard import layers_that_fit
from p2pinfer.overlay.directory import Directory
from p2pinfer.overlay.network import Network

FIRST_LOOK_S: Final = (1.0, 4.0)  # after it began to serve: who joined last has the least to lose
LOOK_S: Final = (5.0, 15.0)  # between looks at what is known, which cost nobody anything
ASK_S: Final = 30.0  # between questions who holds what seems to be missing
MOVE_WAIT_S: Final = (1.0, 2.0)  # from saying that it moves to the second decision: more than a link's round trip
REST_S: Final = 30.0  # from one move, or try, to the next; twice as long after each that did not make the model whole
MAX_DOUBLINGS: Final = 6
WHOLE_S: Final = 300.0  # that the model must have been whole until moves count as fruitful: a lie mends nothing

logger = logging.getLogger(__name__)


class Saying(Protocol):
    """The word to the swarm."""

    async def join(self, span: Span) -> None:
        """We shall hold these layers."""

    async def stay(self) -> None:
        """We hold the layers that we held."""


class Placement:
    """The layers of one node. serve: names its numerics class, within which alone layers make a route.

    Raises UsageError where the owner's layers are not the model's, or not one layer fits.
    """

    def __init__(self, directory: Directory, network: Network, model: StoredModel, serve: Serve) -> None:
        self._directory = directory
        self._network = network
        self._lots = network.machine.lots
        self._model = model
        self._layers = model.manifest.layers
        directory.note_layers(model.id, self._layers)
        self._numerics = numerics_of(serve.numerics)
        self._fixed = span_of(serve.layers)
        if self._fixed is None:
            self._length = layers_that_fit(model.manifest, serve)
            self._fixed = model.manifest.span if self._length == self._layers else None
        elif self._fixed.last > self._layers:
            raise UsageError(f"{model.manifest.name} has layers 0:{self._layers}, not {self._fixed}")
        self._rests_until_s = trio.current_time()
        self._holders = Holders(network)
        self._fruitless = 0  # moves since the model was whole for a while
        self._whole_s: float | None = None  # since when it has been whole
        self._holes: list[Span] = []  # at the last look
        self._asked_s = -inf  # when others were asked for what is missing

    async def choose(self, join: Callable[[Span], Awaitable[None]]) -> Span:
        """The layers to begin with, told to the swarm: the owner's word, or where it is weakest, looked at twice."""
        if self._fixed is not None:
            await join(self._fixed)
            return self._fixed
        span = choose_span(self._layers, self._length, await self._look(), self._lots.random())
        await join(span)
        await trio.sleep(self._lots.random() * JOIN_WAIT_S)
        again = reconsider_span(self._layers, span, await self._look(), self._lots.random())
        if again != span:
            logger.info("layers %s are needed more than %s", again, span)
            await join(again)
        return again

    async def wait_move(self, mine: Span, saying: Saying, look: Callable[[Span], Awaitable[object]]) -> Span:
        """Look again for as long as the node serves `mine`; return the layers to take instead, told to the swarm.

        look: raises ModelError where these layers cannot be loaded
        """
        if mine == self._model.manifest.span:
            await trio.sleep_forever()  # it misses nothing, whatever others hold
        await trio.sleep(self._lots.uniform(*FIRST_LOOK_S))
        while True:
            new = await self._find(mine)
            if new is not None and await self._can_load(mine, new, look):
                agreed = await self._agree(mine, new, saying)
                self._rest()
                if agreed:
                    return new
            await trio.sleep(self._lots.uniform(*LOOK_S))

    def keep(self, mine: Span, new: Span, why: str) -> None:
        """Move no more: `new` cannot be loaded here, and would be needed again and again."""
        logger.error("layers %s are needed, and cannot be loaded: %s; the node stays with %s", new, why, mine)
        self._fixed = mine

    def _rest(self) -> None:
        self._rests_until_s = trio.current_time() + REST_S * 2**self._fruitless
        self._fruitless = min(self._fruitless + 1, MAX_DOUBLINGS)

    async def _find(self, mine: Span) -> Span | None:
        """Return where to go, as far as is known."""
        now, swarm = trio.current_time(), await self._view(mine)
        self._tell(swarm, mine)
        may_move = self._holes and self._fixed is None and now >= self._rests_until_s
        if not may_move or self._lots.random() >= odds(swarm, mine):
            return None
        draw = self._lots.random()
        if move_of(swarm, mine, draw) is None:
            return None
        found = await self._directory.look(self._model.id)  # it may be served where nobody told us yet
        return move_of(self._swarm(found), mine, draw)

    async def _view(self, mine: Span) -> OtherSpans:
        """Return what is known; where something seems to be missing, others are asked now and then."""
        swarm, now = self._swarm(self._directory.offers(self._model.id)), trio.current_time()
        holes = swarm.holes(mine)
        if not holes or (holes == self._holes and now < self._asked_s + ASK_S):
            return swarm
        self._asked_s = now
        return self._swarm(await self._directory.look(self._model.id))

    async def _agree(self, mine: Span, new: Span, saying: Saying) -> bool:
        """Say that we move, and find out if it is still right once others have heard it."""
        met = await self._holders.meet(mine, self._fitting(self._directory.offers(self._model.id)))
        if not self._is_right(mine, new, met):
            logger.info("layers %s are needed, but who says to hold %s is not there", new, mine)
            return False
        logger.info("layers %s are needed more than %s", new, mine)
        await saying.join(new)
        await trio.sleep(self._lots.uniform(*MOVE_WAIT_S))
        if self._is_right(mine, new, met):
            return True
        logger.info("it stays with layers %s: others went to %s, or left what it would leave", mine, new)
        await saying.stay()
        return False

    def _is_right(self, mine: Span, new: Span, met: Collection[PeerKey]) -> bool:
        return is_right(self._swarm(self._directory.offers(self._model.id), mine, met), mine, new)

    async def _can_load(self, mine: Span, new: Span, look: Callable[[Span], Awaitable[object]]) -> bool:
        try:
            await look(new)
        except ModelError as error:
            self.keep(mine, new, str(error))
            return False
        return True

    async def _look(self) -> list[OfferedSpan]:
        return self._served(self._fitting(await self._directory.look(self._model.id)))

    def _swarm(
        self, offers: Sequence[KnownOffer], mine: Span | None = None, met: Collection[PeerKey] = ()
    ) -> OtherSpans:
        """mine, met: of those that say they hold our layers, who is there"""
        fitting = self._fitting(offers)
        absent = [one.node for one in fitting if mine is not None and holds(one, mine) and one.node not in met]
        return swarm_of(self._layers, self._served(fitting, absent))

    def _fitting(self, offers: Sequence[KnownOffer]) -> list[KnownOffer]:
        """Offers that can be in a route with us: a lie about layers beyond the model is none, nor one out of reach."""
        there = reachable(offers, {link.peer for link in self._network.links()})
        return [known for known in there if self._fits(known.offer.record)]

    def _fits(self, offer: Offer) -> bool:
        there = offer.state != ServingState.LEAVING
        return there and offer.numerics == self._numerics and offer.span.last <= self._layers

    @staticmethod
    def _served(offers: Sequence[KnownOffer], absent: Collection[PeerKey] = ()) -> list[OfferedSpan]:
        """Return what others serve, or are about to; a node that is still loading counts as an average one."""
        rates = [known.offer.record.speed.decode for known in offers if known.offer.record.speed.decode]
        usual = fmean(rates) if rates else 1.0
        return [
            OfferedSpan(
                known.offer.record.span,
                known.offer.record.speed.decode or usual,
                _network_of(known.network),
                known.offer.record.state == ServingState.SERVING and known.node not in absent,
            )
            for known in offers
        ]

    def _tell(self, swarm: OtherSpans, mine: Span) -> None:
        """The owner hears of it when no route can use the node, and when one can again."""
        holes = swarm.holes(mine)
        now = trio.current_time()
        if holes:
            self._whole_s = None
        elif self._whole_s is None:
            self._whole_s = now
        elif now >= self._whole_s + WHOLE_S:
            self._fruitless = 0
        if holes == self._holes:
            return
        if holes:
            missing = ", ".join(map(str, holes))
            room = min(swarm.room + len(mine), swarm.layers)
            more = "more nodes are needed" if room < swarm.layers else "other nodes may move there"
            logger.warning("no route can use this node: nobody serves layers %s of %s; %s", missing, swarm.layers, more)
        else:
            logger.info("all %d layers are served again", swarm.layers)
        self._holes = holes


def _network_of(key: str) -> str | None:
    """The network that a peer told an offer from, by which claims are bounded; None for this machine."""
    try:
        return None if not key or ip_network(key).is_loopback else key
    except ValueError:  # of another kind
        return key
