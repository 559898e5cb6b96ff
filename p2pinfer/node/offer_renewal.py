"""Keeps the node's offer fresh: signed anew every RENEW_S, and when the state changes (protocols/offer.md)."""

import logging
from typing import Final

import trio

from p2pinfer.core.records.offer import Load, ServingState, Speed
from p2pinfer.core.sessions.pages import PAGE
from p2pinfer.core.swarm.offers import KnownOffer
from p2pinfer.core.values.errors import JournalError
from p2pinfer.core.wire.messages import MAX_ADDRESSES
from p2pinfer.node.batcher import Batcher
from p2pinfer.node.own_offers import RENEW_S, OwnOffers, Signer
from p2pinfer.node.shard import LoadedSpan
from p2pinfer.node.speed_test import Measured
from p2pinfer.overlay.directory import Directory

UNMEASURED: Final = Speed(0, 0, 0)

logger = logging.getLogger(__name__)


class Announcing:
    """The announcement that the swarm gets of this node."""

    def __init__(self, signer: Signer, directory: Directory) -> None:
        self._offering: OwnOffers | None = None
        self._signer = signer
        self._directory = directory
        self._network = directory.network
        self._state = ServingState.JOINING
        self._speed = UNMEASURED
        self._shard: LoadedSpan | None = None
        self._batcher: Batcher | None = None
        self._busy_s = 0.0  # of the engine, when the last offer was made
        self._said_s = 0.0
        self._saying = trio.Lock()  # a note is of the offer that is made next
        self._place = self._network.addresses()
        self._moves = 0

    def set_speed(self, measured: Measured) -> None:
        """Offer this speed from now on."""
        self._speed = Speed(round(measured.prefill), max(1, round(measured.decode)), 0)

    async def join(self, offering: OwnOffers) -> None:
        """Say from now on that we are about to serve these layers, even while a shard of others takes sessions."""
        self._offering, self._speed = offering, UNMEASURED
        self._shard = self._batcher = None
        await self.say(ServingState.JOINING)

    async def serve(self, offering: OwnOffers, shard: LoadedSpan, batcher: Batcher) -> None:
        """From now on the shard takes sessions, under these offers."""
        self._offering, self._shard, self._batcher = offering, shard, batcher
        self._busy_s, self._said_s = shard.engine.busy_s, trio.current_time()
        await self.say(ServingState.SERVING)

    async def say(self, state: ServingState) -> None:
        """Make an offer of this state, once it is noted, and tell it."""
        self._state = state
        async with self._saying:
            await self._note()
            self._tell()

    async def _note(self) -> None:
        boots = self._signer.boots
        if boots.is_due:
            try:
                await trio.to_thread.run_sync(boots.note)
            except JournalError as error:  # a full disk: if the clock is set back, this offer can be held against us
                logger.error("%s", error)

    def leave(self) -> None:
        """Tell that the node leaves, at once: such an offer is known without a note (core/swarm/doubles.py)."""
        self._state = ServingState.LEAVING
        self._tell()

    def _tell(self) -> None:
        assert self._offering is not None  # it begins with `join`
        now, clock = trio.current_time(), self._network.machine.unix()
        if (place := self._network.addresses()) != self._place:
            self._place, self._moves = place, self._moves + 1
        offer = self._offering.make(self._state, self._load(now), self._speed, clock, self._moves)
        self._directory.announce(KnownOffer(offer, self._offering.certificate, place[:MAX_ADDRESSES], now))

    async def run(self) -> None:
        """Renew the offer until cancelled."""
        while True:
            with trio.move_on_after(RENEW_S):
                await self._network.wait_moved()  # peers that are told at once lose nobody
            await self._signer.certifying.look()
            await self.say(self._state)

    def _load(self, now: float) -> Load:
        if self._shard is None or self._batcher is None:
            return Load(0, 0, 0)
        engine, passed_s = self._shard.engine, now - self._said_s
        busy = round(1000 * (engine.busy_s - self._busy_s) / passed_s) if passed_s > 1 else 0
        self._busy_s, self._said_s = engine.busy_s, now
        return Load(engine.free_pages * PAGE, round(self._batcher.queue_s * 1000), min(1000, max(0, busy)))
