"""The daemon: identity, journal, network, directory, and a shard that serves sessions, put together.

Without a model it helps peers find each other. Everything it runs lives in the block of `open_node`.
"""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import trio

from p2pinfer.core.values.errors import JournalError
from p2pinfer.core.values.keys import PrivateKey
from p2pinfer.core.values.units import Span
from p2pinfer.core.wire.messages import AskFile
from p2pinfer.disk.address_book import AddressBook
from p2pinfer.disk.boots import Boots
from p2pinfer.disk.data_folder import hold_folder, undone_unless_kept
from p2pinfer.disk.identity import Identity, load_identity
from p2pinfer.disk.journal import Journal, OpenJournal, open_journal
from p2pinfer.disk.journal_check import Progress, no_progress
from p2pinfer.disk.places import (
    address_book,
    default_data,
    node_boots,
    node_journal,
    node_network,
    node_ports,
    node_served,
)
from p2pinfer.disk.ports import Ports
from p2pinfer.disk.served import ServedFile
from p2pinfer.disk.store import Store
from p2pinfer.disk.whereabouts import NodesHere
from p2pinfer.engine.door import OpenEngine
from p2pinfer.engine.process import open_engine
from p2pinfer.node.addresses import check_network
from p2pinfer.node.certification import Certifying
from p2pinfer.node.doubles import Doubling
from p2pinfer.node.exposure import Exposure
from p2pinfer.node.files import ModelFiles
from p2pinfer.node.outlook import Outlook
from p2pinfer.node.own_offers import Signer
from p2pinfer.node.ration import MB, Ration
from p2pinfer.node.serving import Serving, risk_of
from p2pinfer.node.settings import Settings
from p2pinfer.node.settlement import NodeSettlement
from p2pinfer.node.shard import LoadedSpan
from p2pinfer.node.whereabouts import keep_whereabouts
from p2pinfer.overlay.directory import Directory
from p2pinfer.overlay.exchange import Exchange
from p2pinfer.overlay.first_peers import keep_first_peers, open_first_peers
from p2pinfer.overlay.greeting import Greeting, new_greeting
from p2pinfer.overlay.libp2p import Listening, open_libp2p_network
from p2pinfer.overlay.machine import Machine
from p2pinfer.overlay.network import Network

PRUNE_S: Final = 3_600.0  # between looks for what may be forgotten

OpenNetwork = Callable[[PrivateKey, Exchange, Greeting], AbstractAsyncContextManager[Network]]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The world around a node, as it opens it; tests and simulations have another one.

    network:  opens a network; None is libp2p's
    machine:  has the time of day, and lots
    engines:  opens engines
    journals: opens a journal
    """

    network: OpenNetwork | None = None
    machine: Machine = field(default_factory=Machine)
    engines: OpenEngine = open_engine
    journals: OpenJournal = open_journal


REAL: Final = Surroundings()


class Node:
    """A node that runs. identity: who it is. span: the layers it serves, or None."""

    def __init__(self, identity: Identity, network: Network, journal: Journal) -> None:
        self.identity = identity
        self.journal = journal
        self.shard: LoadedSpan | None = None
        self._network = network

    def hold(self, shard: LoadedSpan | None) -> None:
        """Serve this shard from now on; None while it goes to other layers."""
        self.shard = shard

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses where others can meet it."""
        return self._network.addresses()

    async def wait_moved(self) -> None:
        """Wait until its addresses change."""
        await self._network.wait_moved()

    @property
    def span(self) -> Span | None:
        return self.shard.span if self.shard else None


@asynccontextmanager
async def open_node(
    settings: Settings,
    data: Path,
    store: Store,
    around: Surroundings = REAL,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
    checking: Progress = no_progress,
) -> AsyncIterator[Node]:
    """A node that serves for as long as the block lasts; it is ready when the block begins.

    data:     folder of identity and journal, held by this node alone
    progress: called with bytes of weights read, and of all
    checking: told how much of the journal is read, and of how much, where it was not closed well; in a thread

    Raises UsageError and ModelError for what the owner must mend; EngineError when the engine ends by itself.
    """
    network, machine = around.network, around.machine
    if network is None:
        check_network(settings.network)
    greeting = new_greeting(machine)
    with hold_folder(data), undone_unless_kept(data) as keep:
        identity = load_identity(data, machine.unix())
        boots = Boots(node_boots(data), greeting.boot)
        async with around.journals(node_journal(data), checking) as journal, trio.open_nursery() as nursery:
            await journal.certify(identity.certificate)
            exchange = Exchange(nursery)
            if limit := settings.network.files_mb_per_day * MB:
                ration = Ration(limit, ServedFile(node_served(data), limit, machine.unix))
                exchange.answer(AskFile, ModelFiles(store, lambda: exchange.has_sessions, ration).answer)
            open_network = network or partial(_open_libp2p, settings, data)
            settling = await _settling(settings, data, journal, machine.unix(), nursery)
            exchange.greeters.append(settling.greet)
            exchange.strays.append(settling.take)
            async with open_network(identity.key, exchange, greeting) as peers:
                certifying, doubling = Certifying(data, identity, journal, machine.unix), Doubling(boots, machine.unix)
                named, debtors = settings.network.bootstrap, settling.exposure.debtors
                directory = Directory(peers, exchange, named, hear_own=doubling.hear, settles=debtors)
                outlook = Outlook(peers, settings.network, node_network(data))
                exchange.greeters += (directory.greet, outlook.note)
                book = AddressBook(address_book(data))
                here = None if network else NodesHere((default_data(),), True).find
                first_peers = open_first_peers(directory, book, here=here)
                nursery.start_soon(keep_first_peers, machine.lots, directory, first_peers)
                nursery.start_soon(keep_whereabouts, data, peers, settings.network.listen, network is None)
                tasks = (directory.keep_meeting, directory.keep_pulling, certifying.run, doubling.run, outlook.run)
                for task in tasks:
                    nursery.start_soon(task)
                nursery.start_soon(_keep_pruning, journal, machine)
                node = Node(identity, peers, journal)
                if settings.serve.model:
                    signer = Signer(identity.key, certifying, boots)
                    serving = Serving(settings, store, signer, directory, settling, around.engines)
                    async with serving.open(progress, node.hold):
                        keep()
                        yield node
                else:
                    logger.info("serving no model; helping peers meet")
                    keep()
                    yield node
            nursery.cancel_scope.cancel()


async def _settling(
    settings: Settings, data: Path, journal: Journal, now: int, nursery: trio.Nursery
) -> NodeSettlement:
    """Earlier work is settled whether the node serves a model today or not."""
    await journal.prune(now)  # before anything is recalled of it
    exposure = Exposure(journal, data, risk_of(settings.trust, 1))
    await exposure.recall(now)
    nursery.start_soon(_recall_small, exposure, now)
    return NodeSettlement(journal, exposure, nursery)


async def _recall_small(exposure: Exposure, now: int) -> None:
    try:
        await exposure.recall_small(now)
    except JournalError as error:  # whoever opens such a record is told; it ends no other work
        logger.error("small contracts of today are not all counted: %s", error)


async def _keep_pruning(journal: Journal, machine: Machine) -> None:
    while True:
        await trio.sleep(PRUNE_S)
        try:
            await journal.prune(machine.unix())
        except JournalError as error:  # a full disk, of which opens are told too
            logger.error("the journal cannot be pruned: %s", error)


def _open_libp2p(
    settings: Settings, data: Path, key: PrivateKey, exchange: Exchange, greeting: Greeting
) -> AbstractAsyncContextManager[Network]:
    network = settings.network
    listening = Listening(network.listen, network.announce, Ports(node_ports(data)), network.mdns)
    return open_libp2p_network(key, exchange, listening, greeting=greeting)
