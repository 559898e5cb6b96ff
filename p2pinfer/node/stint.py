"""A stint: one span while the node serves it, from its first measurement, with all that the swarm is told of it.

It ends with its engine. Which span comes next is `placement.py`'s decision, and sessions are `reception.py`'s.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from p2pinfer.core.sessions.pages import PAGE
from p2pinfer.core.sessions.schedule import GROUPS
from p2pinfer.core.values.errors import EngineError
from p2pinfer.core.values.units import Roles, Span
from p2pinfer.node.batcher import Batcher
from p2pinfer.node.offer_renewal import Announcing
from p2pinfer.node.own_offers import OwnOffers
from p2pinfer.node.shard import LoadedSpan
from p2pinfer.node.speed_test import Measured, measure
from p2pinfer.overlay.turn import Turn

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Stint:
    """A span while it is served. make: offerings of other spans"""

    shard: LoadedSpan
    offering: OwnOffers
    measured: Measured
    batcher: Batcher
    announcing: Announcing
    make: Callable[[Span], OwnOffers]

    async def begin(self) -> None:
        """Tell the swarm, and the owner."""
        await self.stay()
        _log_start(self.shard, self.measured)

    async def join(self, span: Span) -> None:
        """Say that the node is about to serve these layers instead."""
        await self.announcing.join(self.make(span))

    async def stay(self) -> None:
        """Say that it serves those of the stint."""
        self.announcing.set_speed(self.measured)
        await self.announcing.serve(self.offering, self.shard, self.batcher)

    async def watch_engine(self) -> None:
        """Raises what ended the engine, once it has; the swarm is told that the node leaves."""
        error = await self.shard.engine.wait_ended()
        self.announcing.leave()
        raise error

    async def watch_batches(self) -> None:
        """Raises EngineError once a batch has failed that belonged to no session."""
        await self.batcher.failed.wait()
        raise EngineError("a batch could not be made, for the fault of ours that is logged above")


async def measured_stint(
    shard: LoadedSpan, turn: Turn, announcing: Announcing, make: Callable[[Span], OwnOffers]
) -> Stint:
    """The stint of a shard that was just loaded; its speed is measured first. turn: the network's"""
    measured = await measure(shard)
    batcher = Batcher(shard.engine, measured.speed, turn, _groups(shard))
    return Stint(shard, make(shard.span), measured, batcher, announcing, make)


def _groups(shard: LoadedSpan) -> int:
    """In which sessions are computed: together, where they are not to go elsewhere."""
    return 1 if shard.roles == Roles.HEAD | Roles.TAIL else GROUPS


def _log_start(shard: LoadedSpan, measured: Measured) -> None:
    facts = shard.engine.facts
    logger.info(
        "serving layers %s of %s in %s on %s, %d threads: %.0f tokens/s alone, KV cache for %d positions",
        shard.span,
        shard.model.name,
        shard.numerics.label,
        facts.device,
        facts.threads,
        measured.decode,
        facts.pages * PAGE,
    )
