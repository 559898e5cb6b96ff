"""Serving a model: choose layers, load them, take sessions, and go to other layers when nobody serves those.

Where to is `placing.py`'s decision. A node that moves lets open sessions end and be paid before it drops the layers
that they are on.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, TypeVar, TypeVarTuple

import trio

from p2pinfer.core.budget import LEAST, Risk
from p2pinfer.core.codes import Code
from p2pinfer.core.errors import EngineError, ModelError, sole
from p2pinfer.core.pages import PAGE
from p2pinfer.core.schedule import GROUPS
from p2pinfer.core.session_messages import Open
from p2pinfer.core.units import Roles, Span
from p2pinfer.disk.boots import Boots
from p2pinfer.disk.identity import Identity
from p2pinfer.disk.journal import Journal
from p2pinfer.disk.store import Store
from p2pinfer.engine.steps import ShardSpec
from p2pinfer.node.announcing import Announcing
from p2pinfer.node.batcher import Batcher
from p2pinfer.node.certifying import Certifying
from p2pinfer.node.deciding import decided
from p2pinfer.node.measuring import Measured, measure
from p2pinfer.node.offering import Offering, offering_of
from p2pinfer.node.placing import Placing
from p2pinfer.node.reception import Reception, refuse_leaving
from p2pinfer.node.settings import Settings, Trust
from p2pinfer.node.settling import Settling
from p2pinfer.node.shard import Shard, open_shard, shard_spec
from p2pinfer.overlay.directory import Directory
from p2pinfer.overlay.exchange import Exchange
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.network import Network

LEAVE_S: Final = 5.0  # for sessions to end and be paid after we were asked to stop
DRAIN_S: Final = 60.0  # for them to come to their own end before we go to other layers

UNLOADABLE: Final = (EngineError, ModelError, OSError)  # what loading raises where memory or files do not suffice

T = TypeVar("T")
Parts = TypeVarTuple("Parts")
Look = Callable[[Span], Awaitable[ShardSpec]]

logger = logging.getLogger(__name__)


class Serving:
    """What serving a model needs, in one place."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        identity: Identity,
        certifying: Certifying,
        boots: Boots,
        journal: Journal,
        network: Network,
        exchange: Exchange,
        directory: Directory,
        settling: Settling,
    ) -> None:
        self._settings = settings
        self._store = store
        self._identity = identity
        self._certifying = certifying
        self._boots = boots
        self._journal = journal
        self._network = network
        self._exchange = exchange
        self._directory = directory
        self._settling = settling

    @asynccontextmanager
    async def open(
        self, progress: Callable[[int, int], None], hold: Callable[[Shard | None], None]
    ) -> AsyncIterator[None]:
        """Serve while the block lasts; it begins when the node serves.

        hold: told of each shard that begins to serve, and with None that it goes to other layers
        """
        stop, ready = trio.Event(), trio.Event()

        def show(shard: Shard | None) -> None:
            hold(shard)
            ready.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._run, progress, show, stop)
            await ready.wait()
            yield
            stop.set()

    async def _run(
        self, progress: Callable[[int, int], None], show: Callable[[Shard | None], None], stop: trio.Event
    ) -> None:
        """Serve one span after the other until `stop` is set."""
        store, directory = self._store, self._directory
        model = store.find(self._settings.serve.model)
        serve = await trio.to_thread.run_sync(decided, self._settings.serve, store, model)
        settings = replace(self._settings, serve=serve)
        announcing = Announcing(self._boots, self._certifying, directory, self._network)
        make = partial(offering_of, self._certifying, self._identity.key, self._boots, model, settings)
        spec = partial(shard_spec, store, model, serve=serve)
        look = partial(trio.to_thread.run_sync, spec, abandon_on_cancel=True)  # type: ignore[call-arg]  # old stubs
        placing = Placing(directory, self._network, model, serve)

        async def hold(span: Span, loaded: trio.Event) -> Span | None:
            """Load a span, serve it, and return where to go then; None where `stop` was set."""
            to: Span | None = None
            async with (
                _heeding(stop, loaded),
                open_shard(store, model, await look(span), progress) as shard,
            ):
                stint = await self._stint(shard, announcing, make)
                loaded.set()
                to = await self._serve(stint, placing, look, show, stop)
            if not loaded.is_set():
                announcing.leave()
            return to

        span: Span | None = await placing.choose(lambda span: announcing.join(make(span)))
        back: Span | None = None  # to the layers that were held last, where those of a move cannot be loaded
        async with trio.open_nursery() as nursery:
            nursery.start_soon(announcing.run)
            nursery.start_soon(directory.keep_providing, model.id)
            while span is not None:
                loaded = trio.Event()
                try:
                    span, back = await hold(span, loaded), span
                except Exception as error:
                    why = sole(error)
                    if back is None or loaded.is_set() or not isinstance(why, UNLOADABLE):
                        raise
                    assert span is not None
                    placing.keep(back, span, str(why))
                    await announcing.join(make(back))
                    span, back = back, None
            nursery.cancel_scope.cancel()

    async def _stint(self, shard: Shard, announcing: Announcing, make: Callable[[Span], Offering]) -> "_Stint":
        measured = await measure(shard)
        batcher = Batcher(shard.engine, measured.speed, self._network.turn, _groups(shard))
        return _Stint(shard, make(shard.span), measured, batcher, announcing, make)

    async def _serve(
        self, stint: "_Stint", placing: Placing, look: Look, show: Callable[[Shard | None], None], stop: trio.Event
    ) -> Span | None:
        """Serve one span until other layers are needed, which are returned, or `stop` is set."""
        async with self._sessions(stint) as ending, trio.open_nursery() as nursery:
            nursery.start_soon(_watch_engine, stint.shard, stint.announcing)
            nursery.start_soon(_watch_batches, stint.batcher)
            await stint.stay()
            _log_start(stint.shard, stint.measured)
            show(stint.shard)
            span = await _unless(stop, placing.wait_move, stint.shard.span, stint, look)
            ending.code, ending.text = Code.LEAVING, "it goes to other layers"
            if span is not None:
                show(None)
                self._exchange.on_open = refuse_leaving
                with trio.move_on_after(DRAIN_S):
                    await _unless(stop, stint.batcher.wait_empty)
            if stop.is_set():
                span, ending.text = None, "it stops"
                stint.announcing.leave()
            nursery.cancel_scope.cancel()
        return span

    @asynccontextmanager
    async def _sessions(self, stint: "_Stint") -> AsyncIterator["_Ending"]:
        """Take sessions while the block lasts. However it ends, open ones are told, and paid if they can be."""
        settling, shard = self._settling, stint.shard
        settling.exposure.dare(risk_of(self._settings.trust, len(shard.span)))
        reception = Reception(
            shard,
            stint.offering,
            settling.exposure,
            self._journal,
            self._network,
            self._exchange,
            stint.batcher,
            self._settings.serve.max_sessions,
        )

        async def serve(link: Link, message: Open) -> None:
            await reception.serve(link, message)
            if (back := self._network.link(link.peer)) is not None and back is not link:
                settling.greet(back)  # the client came back while its session was ending

        ending = _Ending()
        async with trio.open_nursery() as nursery:
            self._exchange.on_open = partial(nursery.start_soon, serve)
            try:
                yield ending
            finally:
                self._exchange.on_open = refuse_leaving
                with trio.move_on_after(LEAVE_S) as scope:
                    scope.shield = True
                    await stint.batcher.end_all(ending.code, ending.text)
                nursery.cancel_scope.cancel()


@dataclass(slots=True)
class _Ending:
    """What open sessions are told."""

    code: Code = Code.INTERNAL
    text: str = "it ends for a fault of its own"


@dataclass(frozen=True, slots=True)
class _Stint:
    """A span while it is served, and what the swarm is told of it. make: offerings of other spans"""

    shard: Shard
    offering: Offering
    measured: Measured
    batcher: Batcher
    announcing: Announcing
    make: Callable[[Span], Offering]

    async def join(self, span: Span) -> None:
        await self.announcing.join(self.make(span))

    async def stay(self) -> None:
        self.announcing.set_speed(self.measured)
        await self.announcing.serve(self.offering, self.shard, self.batcher)


def risk_of(trust: Trust, layers: int) -> Risk:
    """The owner's risk, where positions go through so many layers."""
    positions = (trust.client_window, trust.client_window_max, trust.strangers_window, LEAST)
    return Risk(*(layers * number for number in positions))


@asynccontextmanager
async def _heeding(stop: trio.Event, loaded: trio.Event) -> AsyncIterator[None]:
    """A block that ends when `stop` is set before `loaded` is: whoever stops a node waits for no weights."""

    async def heed() -> None:
        await stop.wait()
        if not loaded.is_set():
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(heed)
        yield
        nursery.cancel_scope.cancel()


async def _unless(stop: trio.Event, wait: Callable[[*Parts], Awaitable[T]], *parts: *Parts) -> T | None:
    """What `wait` returns; None once `stop` is set."""
    found: T | None = None

    async def run() -> None:
        nonlocal found
        found = await wait(*parts)
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await stop.wait()
        nursery.cancel_scope.cancel()
    return found


def _groups(shard: Shard) -> int:
    """In which sessions are computed: together, where they are not to go elsewhere."""
    return 1 if shard.roles == Roles.HEAD | Roles.TAIL else GROUPS


async def _watch_engine(shard: Shard, announcing: Announcing) -> None:
    error = await shard.engine.wait_ended()
    announcing.leave()
    raise error


async def _watch_batches(batcher: Batcher) -> None:
    await batcher.failed.wait()
    raise EngineError("a batch could not be made, for the fault of ours that is logged above")


def _log_start(shard: Shard, measured: Measured) -> None:
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
