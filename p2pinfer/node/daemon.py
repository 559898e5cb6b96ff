"""The daemon: identity, journal, network, directory, and a shard that serves sessions, put together.

Without a model it helps peers find each other. Everything it runs lives in the block of `open_node`.
"""

import logging
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import trio

from p2pinfer.core.budget import LEAST, Risk
from p2pinfer.core.codes import Code
from p2pinfer.core.errors import EngineError, JournalError, UsageError
from p2pinfer.core.keys import PrivateKey
from p2pinfer.core.messages import AskFile
from p2pinfer.core.offer import State
from p2pinfer.core.pages import PAGE
from p2pinfer.core.placement import JOIN_WAIT_S, Served, choose_span, reconsider_span
from p2pinfer.core.schedule import GROUPS
from p2pinfer.core.session_messages import Open
from p2pinfer.core.units import Roles, Span
from p2pinfer.disk.boots import Boots
from p2pinfer.disk.identity import Identity, hold_folder, load_identity, undone_unless_kept
from p2pinfer.disk.journal import Journal, open_journal
from p2pinfer.disk.places import node_boots, node_journal
from p2pinfer.disk.store import Store, StoredModel
from p2pinfer.node.addresses import check_network
from p2pinfer.node.announcing import Announcing
from p2pinfer.node.batcher import Batcher
from p2pinfer.node.certifying import Certifying
from p2pinfer.node.deciding import decided
from p2pinfer.node.doubling import Doubling
from p2pinfer.node.exposure import Exposure
from p2pinfer.node.files import Files
from p2pinfer.node.measuring import Measured, measure
from p2pinfer.node.offering import Offering, offering_of
from p2pinfer.node.reception import Reception, refuse_leaving
from p2pinfer.node.settings import Serve, Settings, Trust, span_of
from p2pinfer.node.settling import Settling
from p2pinfer.node.shard import Shard, layers_that_fit, open_shard, shard_spec
from p2pinfer.overlay.directory import Directory
from p2pinfer.overlay.exchange import Exchange
from p2pinfer.overlay.greeting import Greeting
from p2pinfer.overlay.libp2p import open_libp2p_network
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.network import Network

LEAVE_S: Final = 5.0  # for sessions to end and be paid after we were asked to stop

PRUNE_S: Final = 3_600.0  # between looks for what may be forgotten

OpenNetwork = Callable[[PrivateKey, Exchange, Greeting], AbstractAsyncContextManager[Network]]

logger = logging.getLogger(__name__)


class Node:
    """A node that runs. identity: who it is. span: the layers it serves, or None."""

    def __init__(self, identity: Identity, network: Network, journal: Journal) -> None:
        self.identity = identity
        self.journal = journal
        self.shard: Shard | None = None
        self._network = network

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where others can meet it."""
        return self._network.addresses()

    @property
    def span(self) -> Span | None:
        return self.shard.span if self.shard else None


@asynccontextmanager
async def open_node(
    settings: Settings,
    data: Path,
    store: Store,
    *,
    network: OpenNetwork | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> AsyncIterator[Node]:
    """A node that serves for as long as the block lasts; it is ready when the block begins.

    data:     folder of identity and journal, held by this node alone
    network:  opens another network than libp2p's, for tests and simulations
    progress: called with bytes of weights read, and of all

    Raises UsageError and ModelError for what the owner must mend; EngineError when the engine ends by itself.
    """
    if network is None:
        check_network(settings.network)
    greeting = Greeting(boot=os.urandom(16))
    with hold_folder(data), undone_unless_kept(data) as keep:
        identity = load_identity(data, int(time.time()))
        boots = Boots(node_boots(data), greeting.boot)
        async with open_journal(node_journal(data)) as journal, trio.open_nursery() as nursery:
            await journal.certify(identity.certificate)
            exchange = Exchange(nursery)
            exchange.answer(AskFile, Files(store, lambda: exchange.has_sessions).answer)
            open_network = network or partial(_open_libp2p, settings)
            settling = await _settling(settings, data, journal, nursery)
            exchange.on_up, exchange.on_stray = settling.greet, settling.take
            async with open_network(identity.key, exchange, greeting) as peers:
                directory = Directory(peers, exchange, settings.network.bootstrap)
                exchange.on_up = partial(_greet, directory, settling)
                certifying, doubling = Certifying(data, identity, journal), Doubling(boots)
                directory.on_own = doubling.hear
                for task in (directory.keep_meeting, certifying.run, doubling.run, partial(_keep_pruning, journal)):
                    nursery.start_soon(task)
                node = Node(identity, peers, journal)
                if settings.serve.model:
                    assembly = _Assembly(
                        settings, store, identity, certifying, boots, journal, peers, exchange, directory, settling
                    )
                    async with assembly.serving(progress) as node.shard:
                        keep()
                        yield node
                else:
                    logger.info("serving no model; helping peers meet")
                    keep()
                    yield node
            nursery.cancel_scope.cancel()


async def _settling(settings: Settings, data: Path, journal: Journal, nursery: trio.Nursery) -> Settling:
    """Earlier work is settled whether the node serves a model today or not."""
    now = int(time.time())
    await journal.prune(now)  # before anything is recalled of it
    exposure = Exposure(journal, data, _risk(settings.trust, 1))
    await exposure.recall(now)
    nursery.start_soon(_recall_small, exposure, now)
    return Settling(journal, exposure, nursery)


async def _recall_small(exposure: Exposure, now: int) -> None:
    try:
        await exposure.recall_small(now)
    except JournalError as error:  # whoever opens such a record is told; it ends no other work
        logger.error("small contracts of today are not all counted: %s", error)


async def _keep_pruning(journal: Journal) -> None:
    while True:
        await trio.sleep(PRUNE_S)
        try:
            await journal.prune(int(time.time()))
        except JournalError as error:  # a full disk, of which opens are told too
            logger.error("the journal cannot be pruned: %s", error)


def _risk(trust: Trust, layers: int) -> Risk:
    """The owner's risk, where positions go through so many layers."""
    positions = (trust.client_window, trust.client_window_max, trust.strangers_window, LEAST)
    return Risk(*(layers * number for number in positions))


def _greet(directory: Directory, settling: Settling, link: Link) -> None:
    directory.greet(link)
    settling.greet(link)


def _open_libp2p(
    settings: Settings, key: PrivateKey, exchange: Exchange, greeting: Greeting
) -> AbstractAsyncContextManager[Network]:
    network = settings.network
    return open_libp2p_network(
        key, exchange, listen=network.listen, announce=network.announce, greeting=greeting, mdns=network.mdns
    )


class _Assembly:
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
    async def serving(self, progress: Callable[[int, int], None]) -> AsyncIterator[Shard]:
        """Choose a span, load it, and serve it while the block lasts."""
        store = self._store
        model = store.find(self._settings.serve.model)
        serve = await trio.to_thread.run_sync(decided, self._settings.serve, store, model)
        settings = replace(self._settings, serve=serve)
        make = partial(offering_of, self._certifying, self._identity.key, self._boots, model, settings)
        offering, announcing = await self._choose(model, settings.serve, make)
        spec = await trio.to_thread.run_sync(shard_spec, store, model, offering.span, settings.serve)
        async with open_shard(store, model, spec, progress) as shard:
            measured = await measure(shard)
            batcher = Batcher(shard.engine, announcing.set_speed(measured), self._network.turn, _groups(shard))
            async with self._sessions(shard, offering, announcing, batcher), trio.open_nursery() as nursery:
                nursery.start_soon(_watch_engine, shard, announcing)
                nursery.start_soon(_watch_batches, batcher)
                nursery.start_soon(announcing.run)
                nursery.start_soon(self._directory.keep_providing, model.id)
                await announcing.serve(shard, batcher)
                _log_start(shard, measured)
                yield shard
                nursery.cancel_scope.cancel()

    async def _choose(
        self, model: StoredModel, serve: Serve, make: Callable[[Span], Offering]
    ) -> tuple[Offering, Announcing]:
        """The layers to serve: the owner's word, or where the swarm is weakest, looked at twice."""
        manifest = model.manifest
        span = span_of(serve.layers)
        if span is not None:
            if span.last > manifest.layers:
                raise UsageError(f"{manifest.name} has layers 0:{manifest.layers}, not {span}")
            return await self._announced(make(span))
        length = layers_that_fit(manifest, serve)
        if length == manifest.layers:
            return await self._announced(make(manifest.span))
        span = choose_span(manifest.layers, length, await self._served(model), random.random())
        offering, announcing = await self._announced(make(span))
        await trio.sleep(random.random() * JOIN_WAIT_S)
        again = reconsider_span(manifest.layers, span, await self._served(model), random.random())
        if again == span:
            return offering, announcing
        logger.info("layers %s are needed more than %s", again, span)
        return await self._announced(make(again))

    async def _announced(self, offering: Offering) -> tuple[Offering, Announcing]:
        announcing = Announcing(offering, self._boots, self._certifying, self._directory, self._network)
        await announcing.say(State.JOINING)
        return offering, announcing

    async def _served(self, model: StoredModel) -> Sequence[Served]:
        """What others serve, or are about to; a node that is still loading counts as an average one."""
        offers = [known.offer.record for known in await self._directory.look(model.id)]
        rates = [offer.speed.decode for offer in offers if offer.speed.decode]
        usual = sum(rates) / len(rates) if rates else 1.0
        return [Served(offer.span, offer.speed.decode or usual) for offer in offers if offer.state != State.LEAVING]

    @asynccontextmanager
    async def _sessions(
        self, shard: Shard, offering: Offering, announcing: Announcing, batcher: Batcher
    ) -> AsyncIterator[None]:
        """Take sessions while the block lasts. However it ends, open ones are told, and paid if they can be."""
        settling = self._settling
        settling.exposure.dare(_risk(self._settings.trust, len(shard.span)))
        reception = Reception(
            shard,
            offering,
            settling.exposure,
            self._journal,
            self._network,
            self._exchange,
            batcher,
            self._settings.serve.max_sessions,
        )

        async def serve(link: Link, message: Open) -> None:
            await reception.serve(link, message)
            if (back := self._network.link(link.peer)) is not None and back is not link:
                settling.greet(back)  # the client came back while its session was ending

        async with trio.open_nursery() as nursery:
            self._exchange.on_open = partial(nursery.start_soon, serve)
            code, text = Code.INTERNAL, "it ends for a fault of its own"
            try:
                yield
                code, text = Code.LEAVING, "it stops"
                announcing.leave()
            finally:
                self._exchange.on_open = refuse_leaving
                with trio.move_on_after(LEAVE_S) as scope:
                    scope.shield = True
                    await batcher.end_all(code, text)
                nursery.cancel_scope.cancel()


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
