"""Serving a model: choose layers, load them, take sessions, and go to other layers when nobody serves those.

Where to is `placement.py`'s decision. A node that moves lets open sessions end and be paid before it drops the layers
that they are on.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, TypeVar, TypeVarTuple

import trio

from p2pinfer.core.money.budget import LEAST, Risk
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import EngineError, ModelError, sole
from p2pinfer.core.values.units import Span
from p2pinfer.core.wire.session_messages import Close, Open
from p2pinfer.disk.store import Store, StoredModel
from p2pinfer.engine.door import OpenEngine
from p2pinfer.engine.messages import ShardSpec
from p2pinfer.node.defaults import decided
from p2pinfer.node.lodging import Lodging
from p2pinfer.node.offer_renewal import Announcing
from p2pinfer.node.own_offers import OwnOffers, Signer
from p2pinfer.node.placement import Placement
from p2pinfer.node.reception import Reception, refuse_leaving
from p2pinfer.node.settings import Settings, Trust
from p2pinfer.node.settlement import NodeSettlement
from p2pinfer.node.shard import LoadedSpan, open_shard, shard_spec
from p2pinfer.node.stint import Stint, measured_stint
from p2pinfer.overlay.directory import Directory
from p2pinfer.overlay.link import Link

LEAVE_S: Final = 5.0  # for sessions to end and be paid after we were asked to stop
DRAIN_S: Final = 60.0  # for them to come to their own end before we go to other layers

UNLOADABLE: Final = (EngineError, ModelError, OSError)  # what loading raises where memory or files do not suffice

T = TypeVar("T")
Parts = TypeVarTuple("Parts")
Progress = Callable[[int, int], None]  # hears of bytes that are read, and of all
Show = Callable[[LoadedSpan | None], None]  # hears of each that begins to serve; of None as it goes to other layers
Look = Callable[[Span], Awaitable[ShardSpec]]  # says what is to be loaded for a span; raises ModelError


class Serving:
    """The needs of serving a model, in one place."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        signer: Signer,
        directory: Directory,
        settling: NodeSettlement,
        open_engine: OpenEngine,
    ) -> None:
        self._settings = settings
        self._store = store
        self._signer = signer
        self._journal = settling.journal
        self._network = directory.network
        self._exchange = directory.exchange
        self._directory = directory
        self._settling = settling
        self._open_engine = open_engine

    @asynccontextmanager
    async def open(self, progress: Progress, hold: Show) -> AsyncIterator[None]:
        """Serve while the block lasts; it begins when the node serves."""
        stop, ready = trio.Event(), trio.Event()

        def show(shard: LoadedSpan | None) -> None:
            hold(shard)
            ready.set()

        with self._exchange.hosted_by(refuse_leaving):  # whenever no span is served
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._run, progress, show, stop)
                await ready.wait()
                yield
                stop.set()

    async def _run(self, progress: Progress, show: Show, stop: trio.Event) -> None:
        """Serve one span after the other until `stop` is set."""
        duty = await self._duty(progress, show, stop)
        with self._store.in_use(duty.model.id):
            first = await duty.placing.choose(duty.join)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(duty.announcing.run)
                nursery.start_soon(self._directory.keep_providing, duty.model.id)
                await self._serve_spans(duty, first)
                nursery.cancel_scope.cancel()

    async def _duty(self, progress: Progress, show: Show, stop: trio.Event) -> "_Duty":
        """The duty as the settings have it, and as is decided where they leave something open."""
        store, directory = self._store, self._directory
        model = store.find(self._settings.serve.model)
        serve = await trio.to_thread.run_sync(decided, self._settings.serve, store, model)
        settings = replace(self._settings, serve=serve)
        announcing = Announcing(self._signer, directory)
        placing = Placement(directory, self._network, model, serve)
        make = partial(OwnOffers, self._signer, model, settings)
        spec = partial(shard_spec, store, model, serve=serve)
        look = partial(trio.to_thread.run_sync, spec, abandon_on_cancel=True)  # type: ignore[call-arg]  # old stubs
        return _Duty(model, announcing, placing, make, look, progress, show, stop)

    async def _serve_spans(self, duty: "_Duty", first: Span) -> None:
        """Serve this one, then each that the node moves to; where that cannot be loaded, the last one again."""
        span: Span | None = first
        last: Span | None = None  # the layers to go back to; once, and there are none before the first move
        while span is not None:
            loaded = trio.Event()
            try:
                to = await self._hold(duty, span, loaded)
            except ExceptionGroup as failure:
                # This does no peer's job: a failure ends the node, but for that of a move which can be taken back
                why = sole(failure)
                if last is None or loaded.is_set() or not isinstance(why, UNLOADABLE):
                    raise
                duty.placing.keep(last, span, str(why))
                await duty.join(last)
                span, last = last, None
            else:
                span, last = to, span

    async def _hold(self, duty: "_Duty", span: Span, loaded: trio.Event) -> Span | None:
        """Load a span, serve it, and return where to go then; None where the node is to stop.

        loaded: set between the two

        Its tasks raise groups, so whatever fails raises one.
        """
        to: Span | None = None
        async with (
            _heeding(duty.stop, loaded),
            open_shard(self._store, duty.model, await duty.look(span), self._open_engine, duty.progress) as shard,
        ):
            stint = await measured_stint(shard, self._network.turn, duty.announcing, duty.make)
            loaded.set()
            to = await self._serve(duty, stint)
        if not loaded.is_set():
            duty.announcing.leave()
        return to

    async def _serve(self, duty: "_Duty", stint: Stint) -> Span | None:
        """Serve one span until other layers are needed, which are returned, or the node is to stop."""
        async with self._sessions(stint) as guests, trio.open_nursery() as nursery:
            nursery.start_soon(stint.watch_engine)
            nursery.start_soon(stint.watch_batches)
            with self._exchange.hosted_by(guests.take, guests.give_up):
                await stint.begin()
                duty.show(stint.shard)
                span = await _unless(duty.stop, duty.placing.wait_move, stint.shard.span, stint, duty.look)
            guests.code, guests.text = Code.LEAVING, "it goes to other layers"
            if span is not None:
                duty.show(None)
                with trio.move_on_after(DRAIN_S):
                    await _unless(duty.stop, stint.batcher.wait_empty)
            if duty.stop.is_set():
                span, guests.text = None, "it stops"
                duty.announcing.leave()
            nursery.cancel_scope.cancel()
        return span

    @asynccontextmanager
    async def _sessions(self, stint: Stint) -> AsyncIterator["_Guests"]:
        """Sessions may be taken while the block lasts. However it ends, open ones are told, and paid if they can be."""
        settling, shard = self._settling, stint.shard
        settling.exposure.dare(risk_of(self._settings.trust, len(shard.span)))
        lodging = Lodging(shard, settling.exposure, self._network, self._settings.serve.max_sessions)
        reception = Reception(stint, settling.exposure, self._journal, self._network, self._exchange, lodging)

        async def serve(link: Link, message: Open) -> None:
            await reception.serve(link, message)
            if (back := self._network.link(link.peer)) is not None and back is not link:
                settling.greet(back)  # the client came back while its session was ending

        async with trio.open_nursery() as nursery:
            nursery.start_soon(lodging.keep_calling)
            guests = _Guests(partial(nursery.start_soon, serve), lodging.give_up)
            try:
                yield guests
            finally:
                with trio.move_on_after(LEAVE_S) as scope:
                    scope.shield = True
                    await stint.batcher.end_all(guests.code, guests.text)
                nursery.cancel_scope.cancel()


@dataclass(slots=True)
class _Guests:
    """The way into sessions of a span, as of `hosted_by`; and the end that open ones are told."""

    take: Callable[[Link, Open], None]
    give_up: Callable[[Link, Close], None]
    code: Code = Code.INTERNAL
    text: str = "it ends for a fault of its own"


@dataclass(frozen=True, slots=True)
class _Duty:
    """The part of serving that is the same for all spans. make: the offering of a span. stop: set to end it all"""

    model: StoredModel
    announcing: Announcing
    placing: Placement
    make: Callable[[Span], OwnOffers]
    look: Look
    progress: Progress
    show: Show
    stop: trio.Event

    async def join(self, span: Span) -> None:
        await self.announcing.join(self.make(span))


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
    """Return what `wait` returns; None once `stop` is set."""
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
