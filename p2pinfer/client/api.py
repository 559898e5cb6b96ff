"""The client library: prompts in, answers out, over whatever route the swarm offers.

async with open_client(bootstrap=[...]) as client:
    async for piece in client.generate("What is a DHT?"):
        print(piece, end="")
"""

import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Unpack

import trio

from p2pinfer.client.answer import Answer, AnswerStream
from p2pinfer.client.asking import CLASSES, CODECS, Options, Prompt, Request, check_cost
from p2pinfer.client.contracts import make_plan
from p2pinfer.client.fetching import Fetcher
from p2pinfer.client.finding import FoundRoute, RouteFinder
from p2pinfer.client.models import Models
from p2pinfer.client.remembering import open_experience
from p2pinfer.client.routes import Sought
from p2pinfer.client.running import Running
from p2pinfer.client.scribe import Scribe, Words
from p2pinfer.client.settling import Settling
from p2pinfer.client.trying import Trying
from p2pinfer.client.waiting import Waiting
from p2pinfer.core.codes import Code
from p2pinfer.core.ending import Ending
from p2pinfer.core.errors import GenerationFailed, P2pinferError, Refused, Unreached, UsageError, sole
from p2pinfer.core.experience import Experience
from p2pinfer.core.keys import PrivateKey
from p2pinfer.core.offers import KnownOffer
from p2pinfer.core.text import TextStream
from p2pinfer.core.units import PeerKey
from p2pinfer.disk.address_book import AddressBook
from p2pinfer.disk.identity import hold_client_key
from p2pinfer.disk.journal import Journal, open_journal
from p2pinfer.disk.places import address_book, client_experience, client_journal, default_data, default_store
from p2pinfer.disk.store import Store, StoredModel
from p2pinfer.disk.whereabouts import nodes_here
from p2pinfer.overlay.directory import Directory
from p2pinfer.overlay.exchange import Exchange
from p2pinfer.overlay.first_peers import FirstPeers, open_first_peers
from p2pinfer.overlay.greeting import Greeting
from p2pinfer.overlay.libp2p import check_addresses, open_libp2p_network, open_mdns
from p2pinfer.overlay.links import KEEP_S
from p2pinfer.overlay.neighbours import OpenNeighbours
from p2pinfer.overlay.network import Network
from p2pinfer.overlay.reach import reach

KEEP_DELIVERED_S: Final = 1.0  # a client that is killed forgets what came within it
REACH_LEAST_S: Final = 10.0  # nodes are dialled so long, however little patience there is
MAX_IN_FLIGHT: Final = 32  # generations of one client at once; more would wait at the nodes, and be refused there

OpenNetwork = Callable[[PrivateKey, Exchange, Greeting], AbstractAsyncContextManager[Network]]


@asynccontextmanager
async def open_client(
    data: Path | None = None,
    store: Path | None = None,
    bootstrap: Sequence[str] = (),
    *,
    max_cost: int | None = None,
    payer: PeerKey | None = None,
    mdns: bool = True,
    network: OpenNetwork | None = None,
) -> AsyncIterator["Client"]:
    """A client of the swarm for as long as the block lasts.

    data:      folder of the key that pays, and of the journal; the platform's by default
    store:     folder of models; the platform's by default
    bootstrap: multiaddrs of peers to meet first
    max_cost:  nano-credits that one answer may cost, at worst, where its request names no other limit
    payer:     the key of the folder that pays; by default any that nobody uses
    mdns:      look for peers on the local network where no other is known; a client is never seen there
    network:   opens another network than libp2p's, for tests and simulations

    Raises UsageError for what the user must mend; and what the block raises, as it is.
    """
    check_cost(max_cost)
    if network is None:
        check_addresses(bootstrap)
    data = data or default_data()
    with hold_client_key(data, payer) as key:
        try:
            folders = data, store or default_store()
            neighbours = open_mdns if mdns and network is None else None
            async with _open_client(key, *folders, bootstrap, network or _open_libp2p, neighbours) as client:
                client.max_cost = max_cost
                yield client
        except BaseExceptionGroup as group:
            raise sole(group) from None


@asynccontextmanager
async def _open_client(
    key: PrivateKey,
    data: Path,
    store: Path,
    bootstrap: Sequence[str],
    network: OpenNetwork,
    neighbours: OpenNeighbours | None,
) -> AsyncIterator["Client"]:
    async with (
        open_journal(client_journal(data)) as journal,
        open_experience(client_experience(data)) as experience,
        trio.open_nursery() as nursery,
    ):
        exchange = Exchange(nursery)
        settling = Settling(journal, key, nursery)
        nursery.start_soon(settling.run)
        exchange.on_up, exchange.on_stray = settling.greet, settling.take
        experience.failures.note_taken(await journal.read(lambda reader: reader.paid_in_vain(key.public)))
        async with network(key, exchange, Greeting(boot=os.urandom(16))) as peers:
            directory = Directory(peers, exchange, bootstrap)
            nursery.start_soon(directory.keep_pulling)
            book = AddressBook(address_book(data))
            here = partial(trio.to_thread.run_sync, nodes_here, (data, default_data()), network is _open_libp2p)
            async with open_first_peers(
                peers, directory, exchange, book, here=here, neighbours=neighbours
            ) as first_peers:
                parts = peers, exchange, directory, first_peers, settling, experience, nursery
                client = Client(key, Store(store), journal, *parts)
                try:
                    yield client
                finally:
                    client.close()
                    with trio.CancelScope(shield=True):
                        await client.wait_settled()
                        await client.models.aclose()
        nursery.cancel_scope.cancel()


def _open_libp2p(key: PrivateKey, exchange: Exchange, greeting: Greeting) -> AbstractAsyncContextManager[Network]:
    return open_libp2p_network(key, exchange, greeting=greeting, keep_s=KEEP_S)


class Client:
    """Asks the swarm. Many generations may run at once; beyond MAX_IN_FLIGHT they wait for their turn.

    models:   what the swarm serves, and this client knows of it
    settling: receipts of answers that are over
    max_cost: the price limit of requests that name none; None is the default limit
    """

    def __init__(
        self,
        key: PrivateKey,
        store: Store,
        journal: Journal,
        network: Network,
        exchange: Exchange,
        directory: Directory,
        first_peers: FirstPeers,
        settling: Settling,
        experience: Experience,
        nursery: trio.Nursery,
    ) -> None:
        self._key = key
        self._journal = journal
        self._network = network
        self._exchange = exchange
        self._directory = directory
        self._first_peers = first_peers
        self.settling = settling
        self._nursery = nursery
        self.models = Models(store, directory, Fetcher(network, exchange, experience.measures), nursery)
        self._failures = experience.failures
        self._finder = RouteFinder(directory, network, experience.failures, experience.measures)
        self._turns = trio.Semaphore(MAX_IN_FLIGHT)
        self._running: set[Running] = set()
        self._settled = trio.Event()  # renewed whenever a generation is over and paid
        self._room = trio.lowlevel.ParkingLot()  # who was refused for want of room, while others of ours have it
        self.max_cost: int | None = None
        self.is_closed = False

    async def generate(self, prompt: Prompt, **options: Unpack[Options]) -> AsyncIterator[str]:
        """Pieces of the answer as they come; leaving the loop gives the rest up.

        prompt:  text as it is, or chat messages (`role` and `content`) for the model's template
        options: as in `Request`

        Raises UsageError, NoRoute, and GenerationFailed when the answer breaks off.
        """
        stream = await self._start(Request(prompt, **options))
        try:
            async for piece in stream:
                yield piece
        finally:
            stream.cancel()

    async def answer(self, prompt: Prompt, **options: Unpack[Options]) -> Answer:
        """The whole answer, once it is paid. Raises as `generate` does."""
        async with self.open_answer(prompt, **options) as stream:
            async for _ in stream:
                pass
            await stream.wait_paid()
            return stream.answer

    async def answers(self, prompts: Sequence[Prompt], **options: Unpack[Options]) -> list[Answer | P2pinferError]:
        """Answers to many prompts, asked at once, in their order; in the place of one that failed stands why."""
        found: dict[int, Answer | P2pinferError] = {}

        async def one(number: int, prompt: Prompt) -> None:
            try:
                found[number] = await self.answer(prompt, **options)
            except P2pinferError as error:
                found[number] = error

        async with trio.open_nursery() as nursery:
            for number, prompt in enumerate(prompts):
                nursery.start_soon(one, number, prompt)
        return [found[number] for number in range(len(prompts))]

    @asynccontextmanager
    async def open_answer(self, prompt: Prompt, **options: Unpack[Options]) -> AsyncIterator[AnswerStream]:
        """An answer under way, with its route and, at the end, its numbers. Raises as `generate` does."""
        stream = await self._start(Request(prompt, **options))
        try:
            yield stream
        finally:
            stream.cancel()

    async def offers(self) -> list[KnownOffer]:
        """All offers of the swarm, asked for now; further away where there are none."""
        return await self._directory.look() or await self._directory.look(widely=True)

    def reaches(self, known: KnownOffer) -> bool:
        """The node of an offer is linked, or may be dialled from here."""
        return self._directory.reaches(known)

    @property
    def is_alone(self) -> bool:
        """Peers to meet were named, and none could be reached."""
        return self._directory.is_alone

    @property
    def misses_named(self) -> bool:
        """Peers to meet were named, and none of those could be reached; others may be."""
        return self._directory.misses_named

    async def meet(self, nodes: Collection[PeerKey]) -> set[PeerKey]:
        """Link to these nodes; return those that are linked. They propose again what we have not signed."""
        offers = {known.node: known for known in await self._directory.look() if known.node in nodes}

        async def one(known: KnownOffer) -> None:
            with suppress(Refused):
                await reach(self._network, known.node, known.addresses)

        async with trio.open_nursery() as nursery:
            for known in offers.values():
                nursery.start_soon(one, known)
            nursery.start_soon(self._first_peers.meet, set(nodes) - set(offers))
        return {node for node in nodes if self._network.link(node) is not None}

    def greet(self, nodes: Collection[PeerKey]) -> None:
        """Send these nodes the receipts that they have not stored."""
        for node in nodes:
            if (link := self._network.link(node)) is not None:
                self.settling.greet(link)

    async def model(self, name_or_id: str = "") -> StoredModel:
        """The served model of that name or id; of an empty name the only one. Raises ModelError."""
        return await self.models.find(name_or_id)

    def close(self) -> None:
        """Take no more requests and give up the answers that still come; what was delivered is paid."""
        self.is_closed = True
        for running in self._running:
            running.fail("the client was closed", Code.CANCELLED)

    async def wait_settled(self) -> None:
        """Wait until the receipts of all generations are signed and stored, or are given up."""
        while self._running:
            await self._settled.wait()

    async def _start(self, request: Request) -> AnswerStream:
        """Wait for a turn, then try routes until one has delivered an id. The turn ends when it is paid."""
        await self._turns.acquire()
        try:
            trying, running = await self._first_answering(request)
        except BaseException:  # a cancellation too: nobody else would end the turn
            self._turns.release()
            raise
        self._nursery.start_soon(self._end_turn, running)
        return AnswerStream(running, lambda: trying.spent - running.cost)

    async def _end_turn(self, running: Running) -> None:
        await running.settled.wait()  # until then its stages keep a window for it
        if running.generation.ids:
            for peer in running.generation.route:
                self._first_peers.book.note_served(peer)
        self._turns.release()

    async def _first_answering(self, request: Request) -> tuple[Trying, Running]:
        """Waits for what is missing; but once a stage was opened, its failures are the request's."""
        waiting = Waiting(self._directory, request.wait_s, request.on_wait)
        model = await self.models.wait(request.model, waiting)
        hides = self._directory.hides(model.id)
        if hides:
            self._first_peers.ear.listen()  # while the prompt is prepared
        task = await self._prepare(request, model)
        if hides:
            await self._first_peers.ear.wait_heard()
        while True:
            await waiting.get(task.check, model.id)
            trying = task.trying(max(waiting.ends, trio.current_time() + REACH_LEAST_S))
            try:
                return trying, await trying.first_answering()
            except Unreached as failure:
                if trying.tries:
                    raise
                await waiting.rest(failure)

    async def _prepare(self, request: Request, model: StoredModel) -> "_Task":
        scribe = await self.models.scribe(model)
        words, ids = await scribe.words(), await _encode(scribe, request)
        _check_length(model, len(ids), request)
        known = await self._journal.read(lambda reader: reader.known_nodes(self._key.public))
        manifest = model.manifest
        self._directory.note_layers(model.id, manifest.layers)
        sought = Sought(
            layers=manifest.layers,
            hidden=manifest.hidden,
            prompt=len(ids),
            tokens=request.max_tokens,
            codec=CODECS[request.codec],
            numerics=CLASSES.get(request.numerics),
            max_cost=self.max_cost if request.max_cost is None else request.max_cost,
            proven=known,
        )

        def start(route: FoundRoute) -> Running:
            return self._run(model, words, ids, request, route, known)

        async def check() -> None:
            self._finder.check(model.id, sought, model.name)
            await trio.lowlevel.checkpoint()

        def trying(until: float) -> Trying:
            return Trying(self._finder, self._failures, model.id, sought, start, self._wait_room, until)

        return _Task(check, trying)

    async def _wait_room(self, patience_s: float) -> bool:
        """Wait so long for a generation of ours to give up its room; False where none had any."""
        ours = any(running.holds_room for running in self._running)
        with trio.move_on_after(patience_s) as scope:
            await self._room.park()
        return ours or not scope.cancelled_caught

    def _run(
        self,
        model: StoredModel,
        words: Words,
        ids: tuple[int, ...],
        request: Request,
        route: FoundRoute,
        known: Collection[PeerKey],
    ) -> Running:
        if self.is_closed:
            raise GenerationFailed("the client was closed", Code.CANCELLED)
        codec, now = CODECS[request.codec], int(time.time())
        stages, layers, sampling = route.stages, model.manifest.layers, request.sampling
        plan = make_plan(self._key, stages, layers, len(ids), sampling, codec, now, route.most, known)
        reader = TextStream(words, request.stop, begins=not isinstance(request.prompt, str))
        ending = Ending(model.manifest.ends, request.max_tokens, reader)
        vocabulary, link = model.manifest.vocabulary, self._network.link
        running = Running(plan, ids, vocabulary, self._key, ending, self._journal, link, route.step_s)
        self._running.add(running)
        self._nursery.start_soon(self._see_through, running, route)
        return running

    async def _see_through(self, running: Running, route: FoundRoute) -> None:
        generation = running.generation
        try:
            with self._exchange.open_session(
                generation.session, generation.route, is_over=lambda: generation.over
            ) as incoming:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._keep_delivered, running)
                    await running.run(incoming)
                    nursery.cancel_scope.cancel()
        finally:
            if (times := running.times) is not None:
                self._finder.note_answer(route, times)
            if (account := running.unpaid) is not None:
                with trio.CancelScope(shield=True):  # commits are ours, and end by themselves
                    await self.settling.remember(generation.session, account, int(time.time()))
            self._running.discard(running)
            self._settled.set()
            self._settled = trio.Event()
            if not any(other.holds_room for other in self._running):
                self._room.unpark_all()
            elif running.holds_room:
                self._room.unpark()

    async def _keep_delivered(self, running: Running) -> None:
        """Keep what was delivered and not signed for, now and then, so that a client that is killed can pay for it."""
        kept = 0
        while True:
            await trio.sleep(KEEP_DELIVERED_S)
            account, count = running.unpaid, len(running.generation.ids)
            if account is not None and count > kept:
                await self.settling.keep(running.plan.session, account, int(time.time()))
                kept = count


@dataclass(frozen=True, slots=True)
class _Task:
    """A request whose prompt is ids.

    check:  raises NotYet where there is no route, as far as is known now
    trying: begins to try routes, which have to be reached until then
    """

    check: Callable[[], Awaitable[None]]
    trying: Callable[[float], Trying]


async def _encode(scribe: Scribe, request: Request) -> tuple[int, ...]:
    if isinstance(request.prompt, str):
        return await scribe.encode(request.prompt)
    return await scribe.encode_chat(request.prompt, request.control_tokens)


def _check_length(model: StoredModel, prompt: int, request: Request) -> None:
    """Raises UsageError with the numbers."""
    context = model.manifest.context
    if prompt + request.max_tokens > context:
        raise UsageError(
            f"the prompt has {prompt} tokens and {request.max_tokens} are asked for; {model.name} takes {context} "
            f"together: shorten the prompt by {prompt + request.max_tokens - context}, or ask for fewer tokens"
        )
    if not prompt:
        raise UsageError("the prompt has no tokens")
