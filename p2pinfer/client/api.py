"""The client library: prompts in, answers out, over whatever route the swarm offers.

async with open_client(bootstrap=[...]) as client:
    async for piece in client.generate("What is a DHT?"):
        print(piece, end="")
"""

import gc
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

import trio

from p2pinfer.client.answer import Answer, AnswerStream
from p2pinfer.client.books import Purse
from p2pinfer.client.experience_keeper import open_experience
from p2pinfer.client.file_search import Fetcher
from p2pinfer.client.generations import Generations
from p2pinfer.client.models import Models
from p2pinfer.client.request import Options, Prompt, check_cost, check_names, check_texts, make_request
from p2pinfer.client.settlement import ClientSettlement
from p2pinfer.client.setup import REAL, Setup, World
from p2pinfer.core.swarm.offers import KnownOffer
from p2pinfer.core.values.errors import P2pinferError, Refused, UsageError, sole
from p2pinfer.core.values.keys import PrivateKey
from p2pinfer.core.values.units import PeerKey
from p2pinfer.core.wire.messages import ONLY_ASKS
from p2pinfer.disk.address_book import AddressBook
from p2pinfer.disk.experience_file import ExperienceFile
from p2pinfer.disk.journal_check import Progress, no_progress
from p2pinfer.disk.key_files import hold_client_key
from p2pinfer.disk.places import address_book, client_experience, client_journal, default_data, default_store
from p2pinfer.disk.store import Store, StoredModel
from p2pinfer.disk.whereabouts import NodesHere
from p2pinfer.overlay.directory import Directory
from p2pinfer.overlay.exchange import Exchange
from p2pinfer.overlay.first_peers import FirstPeers, Here, open_first_peers
from p2pinfer.overlay.greeting import Greeting, new_greeting
from p2pinfer.overlay.libp2p import check_addresses, open_libp2p_network, open_mdns
from p2pinfer.overlay.links import KEEP_S
from p2pinfer.overlay.neighbours import OpenNeighbours
from p2pinfer.overlay.network import Network
from p2pinfer.overlay.reach import reach
from p2pinfer.overlay.sleep import Sleep


@asynccontextmanager
async def open_client(
    data: Path | str | None = None,
    store: Path | str | None = None,
    bootstrap: Sequence[str] = (),
    *,
    around: World = REAL,
    **setup: Unpack[Setup],
) -> AsyncIterator["Client"]:
    """A client of the swarm for as long as the block lasts.

    data:      folder of the key that pays, and of the journal; the platform's by default
    store:     folder of models; the platform's by default
    bootstrap: multiaddrs of peers to meet first
    setup:     as in `Setup`

    Raises UsageError for what the user must mend; and what the block raises, as it is.
    """
    if not trio.lowlevel.in_trio_task():  # type: ignore[attr-defined]  # old stubs
        raise UsageError(
            "open_client runs in Trio alone: an asyncio program writes `async with p2pinfer.aconnect(...)`, and others "
            "`with p2pinfer.connect(...)`"
        )
    if not gc.get_freeze_count():
        gc.freeze()  # what was imported is no garbage, and to look for some in it stops the loop for 80 ms
    check_names(setup, Setup)
    check_cost(max_cost := setup.get("max_cost"))
    check_texts("bootstrap", bootstrap)
    if is_real := around.network is None:
        check_addresses(bootstrap)
    data = Path(data or default_data())
    with hold_client_key(data, setup.get("payer")) as key:
        try:
            neighbours = around.neighbours or (open_mdns if is_real and setup.get("mdns", True) else None)
            here = setup.get("here", True)
            nodes = NodesHere((data, default_data()) if here else (), here and is_real)
            first = bootstrap, neighbours, nodes.find
            checking = setup.get("checking", no_progress)
            opening = _Opening(data, Path(store or default_store()), *first, checking, around)
            async with _open_client(key, opening) as client:
                client.max_cost = max_cost
                yield client
        except BaseExceptionGroup as group:
            raise sole(group) from None


class Client:
    """Asks the swarm. Many generations may run at once; beyond `generations.MAX_IN_FLIGHT` they wait.

    models:   what the swarm serves, and this client knows of it
    settling: receipts of answers that are over
    """

    def __init__(
        self,
        models: Models,
        generations: Generations,
        settling: ClientSettlement,
        network: Network,
        directory: Directory,
        first_peers: FirstPeers,
    ) -> None:
        self.models = models
        self.settling = settling
        self._generations = generations
        self._network = network
        self._directory = directory
        self._first_peers = first_peers

    @property
    def max_cost(self) -> int | None:
        """The price limit of requests that name none; None is the default limit."""
        return self._generations.max_cost

    @max_cost.setter
    def max_cost(self, max_cost: int | None) -> None:
        self._generations.max_cost = max_cost

    @property
    def is_closed(self) -> bool:
        """It takes no more requests."""
        return self._generations.is_closed

    async def generate(self, prompt: Prompt, **options: Unpack[Options]) -> AsyncIterator[str]:
        """Pieces of the answer as they come; leaving the loop gives the rest up.

        prompt:  text as it is, or chat messages (`role` and `content`) for the model's template
        options: as in `Options`

        Raises UsageError, NoRoute, and GenerationFailed when the answer breaks off.
        """
        stream = await self._generations.start(make_request(prompt, options))
        try:
            async for piece in stream:
                yield piece
        finally:
            stream.cancel()

    async def answer(self, prompt: Prompt, **options: Unpack[Options]) -> Answer:
        """The whole answer, once it is paid. Raises as `generate` does."""
        async with self.open_answer(prompt, **options) as stream:
            await stream.wait_paid()
            return stream.answer

    async def answers(self, prompts: Sequence[Prompt], **options: Unpack[Options]) -> list[Answer | P2pinferError]:
        """Answers to many prompts, asked at once, in their order; in the place of one that failed stands why.

        Raises UsageError for an option that is none, and where there is one prompt in place of a list.
        """
        check_names(options)
        if isinstance(prompts, str):
            raise UsageError(f"prompts are a list, and not one text: write [{prompts!r:.80}]")
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
        stream = await self._generations.start(make_request(prompt, options))
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
        self._generations.close()

    async def wait_settled(self) -> None:
        """Wait until the receipts of all generations are signed and stored, or are given up."""
        await self._generations.wait_settled()


@dataclass(frozen=True, slots=True)
class _Opening:
    """The values that `open_client` is given. neighbours, here: as of `open_first_peers`"""

    data: Path
    store: Path
    bootstrap: Sequence[str]
    neighbours: OpenNeighbours | None
    here: Here
    checking: Progress
    around: World


@asynccontextmanager
async def _open_client(key: PrivateKey, asked: _Opening) -> AsyncIterator[Client]:
    machine, open_network = asked.around.machine, asked.around.network or _open_libp2p
    async with (
        asked.around.journals(client_journal(asked.data), asked.checking) as journal,
        trio.open_nursery() as nursery,
    ):
        exchange = Exchange(nursery)
        settling = ClientSettlement(Purse(key, journal), nursery)
        exchange.greeters += (settling.farewells.greet, settling.greet)  # what is over is told before what is owed
        exchange.strays.append(settling.take)
        in_vain = await journal.read(lambda reader: reader.paid_in_vain(key.public))
        async with (
            open_network(key, exchange, new_greeting(machine, ONLY_ASKS)) as peers,
            open_experience(client_experience(asked.data), machine.unix, Sleep(peers.asleep_s)) as experience,
        ):
            experience.failures.note_taken(in_vain)
            directory = Directory(peers, exchange, asked.bootstrap)
            nursery.start_soon(directory.keep_pulling)
            nursery.start_soon(_keep_fading, experience, peers)
            book = AddressBook(address_book(asked.data))
            opened = open_first_peers(directory, book, here=asked.here, neighbours=asked.neighbours)
            async with opened as first_peers:
                models = Models(Store(asked.store), directory, Fetcher(peers, exchange, experience.measures), nursery)
                generations = Generations(directory, first_peers, settling, experience, models, nursery)
                exchange.strays.append(generations.take_stray)
                client = Client(models, generations, settling, peers, directory, first_peers)
                try:
                    yield client
                finally:
                    client.close()
                    with trio.CancelScope(shield=True):
                        await client.wait_settled()
                        await client.models.aclose()
        nursery.cancel_scope.cancel()


async def _keep_fading(experience: ExperienceFile, network: Network) -> None:
    """Let what was learnt of nodes fade while the machine sleeps, too, until cancelled."""
    while True:
        await network.wait_moved()
        experience.fade()


def _open_libp2p(key: PrivateKey, exchange: Exchange, greeting: Greeting) -> AbstractAsyncContextManager[Network]:
    return open_libp2p_network(key, exchange, greeting=greeting, keep_s=KEEP_S)
