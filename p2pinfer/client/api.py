"""The client library: prompts in, answers out, over whatever route the swarm offers.

async with open_client(bootstrap=[...]) as client:
    async for piece in client.generate("What is a DHT?"):
        print(piece, end="")
"""

import os
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Final, Unpack

import trio

from p2pinfer.client.answer import Answer, AnswerStream
from p2pinfer.client.asking import CODECS, Options, Prompt, Request
from p2pinfer.client.contracts import StagePlan, make_plan
from p2pinfer.client.finding import RouteFinder
from p2pinfer.client.models import Models
from p2pinfer.client.running import Running
from p2pinfer.client.settling import Settling
from p2pinfer.core.ending import Ending
from p2pinfer.core.errors import NoRoute, P2pinferError, UsageError, sole
from p2pinfer.core.keys import PrivateKey, short_names
from p2pinfer.core.offers import KnownOffer
from p2pinfer.core.text import Texts, TextStream
from p2pinfer.core.units import PeerKey
from p2pinfer.disk.identity import hold_client_key
from p2pinfer.disk.journal import Journal, open_journal
from p2pinfer.disk.places import client_journal, default_data, default_store
from p2pinfer.disk.store import Store, StoredModel
from p2pinfer.overlay.directory import Directory
from p2pinfer.overlay.exchange import Exchange
from p2pinfer.overlay.greeting import Greeting
from p2pinfer.overlay.libp2p import check_addresses, open_libp2p_network
from p2pinfer.overlay.links import KEEP_S
from p2pinfer.overlay.network import Network

TRIES: Final = 3  # routes tried when a stage refuses, or cannot be reached

OpenNetwork = Callable[[PrivateKey, Exchange, Greeting], AbstractAsyncContextManager[Network]]


@asynccontextmanager
async def open_client(
    data: Path | None = None,
    store: Path | None = None,
    bootstrap: Sequence[str] = (),
    *,
    network: OpenNetwork | None = None,
) -> AsyncIterator["Client"]:
    """A client of the swarm for as long as the block lasts.

    data:      folder of the key that pays, and of the journal; the platform's by default
    store:     folder of models; the platform's by default
    bootstrap: multiaddrs of peers to meet first
    network:   opens another network than libp2p's, for tests and simulations

    Raises UsageError for what the user must mend; and what the block raises, as it is.
    """
    if network is None:
        check_addresses(bootstrap)
    data = data or default_data()
    with hold_client_key(data) as key:
        try:
            async with _open_client(key, data, store or default_store(), bootstrap, network or _open_libp2p) as client:
                yield client
        except BaseExceptionGroup as group:
            raise sole(group) from None


@asynccontextmanager
async def _open_client(
    key: PrivateKey, data: Path, store: Path, bootstrap: Sequence[str], network: OpenNetwork
) -> AsyncIterator["Client"]:
    async with open_journal(client_journal(data)) as journal, trio.open_nursery() as nursery:
        exchange = Exchange(nursery)
        settling = Settling(journal, nursery)
        exchange.on_up, exchange.on_stray = settling.greet, settling.take
        async with network(key, exchange, Greeting(boot=os.urandom(16))) as peers:
            directory = Directory(peers, exchange, bootstrap)
            client = Client(key, Store(store), journal, peers, exchange, directory, settling, nursery)
            try:
                yield client
            finally:
                with trio.CancelScope(shield=True):
                    await client.wait_settled()
        nursery.cancel_scope.cancel()


def _open_libp2p(key: PrivateKey, exchange: Exchange, greeting: Greeting) -> AbstractAsyncContextManager[Network]:
    return open_libp2p_network(key, exchange, greeting=greeting, keep_s=KEEP_S)


class Client:
    """Asks the swarm. Many generations may run at once."""

    def __init__(
        self,
        key: PrivateKey,
        store: Store,
        journal: Journal,
        network: Network,
        exchange: Exchange,
        directory: Directory,
        settling: Settling,
        nursery: trio.Nursery,
    ) -> None:
        self._key = key
        self._journal = journal
        self._network = network
        self._exchange = exchange
        self._directory = directory
        self._settling = settling
        self._nursery = nursery
        self._models = Models(store, directory, network, exchange)
        self._routes = RouteFinder(directory, network)
        self._running: set[Running] = set()
        self._settled = trio.Event()  # renewed whenever a generation is over and paid
        self._room = trio.lowlevel.ParkingLot()  # who was refused for want of room, while others of ours have it

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
        """The whole answer. Raises as `generate` does."""
        async with self.open_answer(prompt, **options) as stream:
            async for _ in stream:
                pass
            return stream.answer

    @asynccontextmanager
    async def open_answer(self, prompt: Prompt, **options: Unpack[Options]) -> AsyncIterator[AnswerStream]:
        """An answer under way, with its route and, at the end, its numbers. Raises as `generate` does."""
        stream = await self._start(Request(prompt, **options))
        try:
            yield stream
        finally:
            stream.cancel()

    async def offers(self) -> list[KnownOffer]:
        """What the swarm offers, asked now."""
        return await self._directory.look()

    @property
    def is_alone(self) -> bool:
        """Whether peers to meet were named, and none could be reached."""
        return self._directory.is_alone

    async def model(self, name_or_id: str = "") -> StoredModel:
        """The served model of that name or id; of an empty name the only one. Raises ModelError."""
        return await self._models.find(name_or_id)

    async def wait_settled(self) -> None:
        """Wait until the receipts of all generations are signed and stored, or are given up."""
        while self._running:
            await self._settled.wait()

    async def _start(self, request: Request) -> AnswerStream:
        """Choose a route and open it; on a refusal, another one.

        Where the peers have no room for all our generations at once, the rest wait for those that have it.
        """
        model = await self._models.find(request.model)
        texts = await self._models.texts(model)
        ids = _encode(texts, request)
        _check_length(model, len(ids), request)
        known = await self._journal.read(lambda reader: reader.known_nodes(self._key.public))
        refused: set[bytes] = set()
        failure: P2pinferError = NoRoute("no route could be opened")
        tries = 0
        while tries < TRIES:
            try:
                stages = await self._routes.find(model, len(ids), request, refused)
            except NoRoute as error:
                raise failure if refused else error from None
            if unreachable := await self._routes.reach(stages):
                failure = NoRoute(f"no route could be opened: {short_names(unreachable)} cannot be reached")
                refused |= unreachable
                tries += 1
                continue
            running = self._run(model, texts, ids, request, stages, known)
            await running.wait_open()
            if running.generation.failure is None:
                return AnswerStream(running)
            failure = running.generation.failure
            if not running.refused_by:
                break
            if running.retry_s and await self._wait_room():
                continue
            refused |= running.refused_by
            tries += 1
        raise failure

    async def _wait_room(self) -> bool:
        """Wait until a generation of ours gives room to another; False where none has any."""
        if not any(running.holds_room for running in self._running):
            return False
        await self._room.park()
        return True

    def _run(
        self,
        model: StoredModel,
        texts: Texts,
        ids: tuple[int, ...],
        request: Request,
        stages: Sequence[StagePlan],
        known: Collection[PeerKey],
    ) -> Running:
        codec, now = CODECS[request.codec], int(time.time())
        plan = make_plan(self._key, stages, model.manifest.layers, len(ids), request.sampling, codec, now, known)
        reader = TextStream(texts, request.stop, begins=not isinstance(request.prompt, str))
        ending = Ending(model.manifest.ends, request.max_tokens, reader)
        running = Running(plan, ids, model.manifest.vocabulary, self._key, ending, self._journal, self._network.link)
        self._running.add(running)
        self._nursery.start_soon(self._see_through, running)
        return running

    async def _see_through(self, running: Running) -> None:
        try:
            generation = running.generation
            with self._exchange.open_session(
                generation.session, generation.route, is_over=lambda: generation.over
            ) as incoming:
                await running.run(incoming)
        finally:
            if (account := running.unpaid) is not None:
                self._settling.remember(running.plan.session, running.generation.route, account)
            self._running.discard(running)
            self._settled.set()
            self._settled = trio.Event()
            if not any(other.holds_room for other in self._running):
                self._room.unpark_all()
            elif running.holds_room:
                self._room.unpark()


def _encode(texts: Texts, request: Request) -> tuple[int, ...]:
    if isinstance(request.prompt, str):
        return texts.encode(request.prompt)
    now = datetime.now()  # templates show it to the model as the date where its user is
    return texts.encode_chat(request.prompt, now=now, control_tokens=request.control_tokens)


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
