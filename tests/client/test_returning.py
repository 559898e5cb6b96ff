"""Links of a client that break in mid-answer, with real nodes: the answer is that of an undisturbed run.

See inference.md, 4.4. Both sides learn at once of a broken link, except in the last test.
"""

from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import mkdtemp

import pytest
import trio

from p2pinfer.client.answer import Answer
from p2pinfer.client.api import Client, open_client
from p2pinfer.client.setup import World
from p2pinfer.core.records.receipt import FINAL
from p2pinfer.core.sessions.suspension import RETURN_S
from p2pinfer.core.values.errors import GenerationFailed, LinkDead
from p2pinfer.core.values.keys import PrivateKey
from p2pinfer.core.values.units import PeerKey
from p2pinfer.core.wire.messages import Message
from p2pinfer.core.wire.session_messages import Accept, Propose, Sampled, SessionMessage, Stored
from p2pinfer.disk.journal_reader import read_journal
from p2pinfer.overlay.exchange import Exchange
from p2pinfer.overlay.greeting import Greeting
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.memory import open_memory_network
from p2pinfer.overlay.network import Network
from tests.swarms import Loop, TinySwarm, running_swarm

PROMPT, TOKENS = "the parked cars dream", 24
HEAD, MIDDLE, TAIL = range(3)
ALL = (HEAD, MIDDLE, TAIL)

When = Callable[[SessionMessage], bool]


class Cutting:
    """A client's `Receiver`, which cuts its links to some nodes just before it is told of some messages."""

    def __init__(self, swarm: TinySwarm, key: PeerKey, exchange: Exchange) -> None:
        self.key = key
        self.cuts = 0
        self.when: When = lambda message: False
        self.nodes: list[PeerKey] = []
        self._swarm = swarm
        self._exchange = exchange
        self.linked: set[PeerKey] = set()
        self.needed = exchange.needed
        self.engaged = exchange.engaged

    def on_link(self, link: Link) -> None:
        self.linked.add(link.peer)
        self._exchange.on_link(link)

    def on_message(self, link: Link, message: Message) -> None:
        if isinstance(message, SessionMessage) and self.when(message):
            self.cut()
        self._exchange.on_message(link, message)

    def on_closed(self, link: Link, why: LinkDead) -> None:
        self.linked.discard(link.peer)
        self._exchange.on_closed(link, why)

    def cut(self) -> None:
        self.cuts += 1
        for node in self.nodes:
            self._swarm.world.cut(self.key, node)


def at(*moments: int, of: type[SessionMessage] | None = None) -> When:
    """Before the messages of these numbers, of all or of a kind."""
    seen = 0

    def when(message: SessionMessage) -> bool:
        nonlocal seen
        seen += of is None or isinstance(message, of)
        return (of is None or isinstance(message, of)) and seen - 1 in moments

    return when


def once_all_run(answers: int) -> When:
    """When each of so many has an id; those that still open are opened anew, which is another test's."""
    running: set[bytes] = set()

    def when(message: SessionMessage) -> bool:
        before = len(running)
        if isinstance(message, Sampled):
            running.add(message.session)
        return before < len(running) == answers

    return when


@asynccontextmanager
async def open_cut(swarm: TinySwarm, data: Path, places: Collection[int]) -> AsyncIterator[tuple[Client, Cutting]]:
    """A client whose links to the nodes at these places of the route may be cut."""
    made: list[Cutting] = []

    @asynccontextmanager
    async def network(key: PrivateKey, exchange: Exchange, greeting: Greeting) -> AsyncIterator[Network]:
        made.append(Cutting(swarm, key.public, exchange))
        async with open_memory_network(swarm.world, key.public, made[0], greeting=greeting) as opened:
            yield opened

    async with open_client(data, swarm.store.root, swarm.bootstrap, around=World(network)) as client:
        made[0].nodes = [swarm.nodes[place].identity.key.public for place in places]
        yield client, made[0]


def answers_cut(loop: Loop, places: Collection[int], *whens: When, tokens: int = TOKENS) -> list[Answer]:
    """One answer for each of `whens`, of one client; its books are then those of the nodes."""

    async def ask() -> list[Answer]:
        data, answers = Path(mkdtemp(dir=loop.swarm.root)), []
        async with open_cut(loop.swarm, data, places) as (client, cutting):
            for number, when in enumerate(whens):
                cutting.when = when
                with trio.fail_after(10):
                    answers.append(await client.answer(PROMPT, max_tokens=tokens))
                assert cutting.cuts > number
        with trio.fail_after(1):
            await wait_free(loop.swarm)
        await check_books(loop.swarm, data)
        return answers

    return loop.run(ask)


async def wait_free(swarm: TinySwarm, *places: int) -> None:
    """Until these nodes, or all, have given back what their sessions had reserved."""
    for node in [swarm.nodes[place] for place in places or ALL]:
        assert node.shard is not None
        while node.shard.engine.free_pages < node.shard.engine.facts.pages:  # noqa: ASYNC110 - nobody tells of it
            await trio.sleep(0.01)


async def check_books(swarm: TinySwarm, data: Path, finals: bool = True) -> None:
    """Client and nodes hold the same receipts, to the nano-credit, and nothing is left to be signed."""
    nodes = {node.identity.key.public: node for node in swarm.nodes}
    with read_journal(data / "client.sqlite") as journal:
        earned = journal.earned()
        assert journal.count_unstored() == 0
    assert earned
    for item in earned:
        node = nodes[item.contract.record.node]
        theirs = await node.journal.read(lambda reader, id_=item.contract.id: reader.complete(id_))
        assert theirs is not None
        assert theirs.receipt == item.receipt
        assert not finals or item.receipt.record.state == FINAL


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    """Nodes of its own: they wait for clients that do not come back."""
    with running_swarm(tmp_path_factory.mktemp("returning"), ["0:1", "1:2", "2:3"]) as loop:
        yield loop


@pytest.fixture(scope="module")
def undisturbed(loop: Loop) -> tuple[int, ...]:
    async def ask() -> Answer:
        async with loop.swarm.client() as client:
            return await client.answer(PROMPT, max_tokens=TOKENS)

    return loop.run(ask).ids


@pytest.mark.parametrize("places", [(HEAD,), (MIDDLE,), (TAIL,), ALL])
def test_a_link_that_breaks_at_any_moment_changes_nothing(
    loop: Loop, undisturbed: tuple[int, ...], places: tuple[int, ...]
) -> None:
    """INF-43, INF-44, INF-45: of the messages that come after the Accepts, one in six, in each case others."""
    answers = answers_cut(loop, places, *(at(moment) for moment in range(3 + sum(places), 40, 6)))
    assert {answer.ids for answer in answers} == {undisturbed}


@pytest.mark.parametrize("places", [(TAIL,), ALL])
def test_a_link_that_breaks_again_and_again(loop: Loop, undisturbed: tuple[int, ...], places: tuple[int, ...]) -> None:
    answers = answers_cut(loop, places, at(*range(4, 60, 5)), at(*range(0, 24, 4), of=Sampled))
    assert {answer.ids for answer in answers} == {undisturbed}


def test_the_prompt_the_last_id_and_the_receipts_of_the_end_may_be_lost(
    loop: Loop, undisturbed: tuple[int, ...]
) -> None:
    """The prompt goes out with the last Accept; what is said of a receipt is lost with the proposal's link."""
    whens = [at(2, of=Accept), at(0, of=Sampled), at(TOKENS - 2, of=Sampled), at(TOKENS - 1, of=Sampled)]
    whens += [at(8, of=Stored), at(0, of=Propose), at(12, of=Propose)]
    answers = answers_cut(loop, ALL, *whens)
    assert {answer.ids for answer in answers} == {undisturbed}


def test_many_answers_lose_their_links_at_once(loop: Loop, undisturbed: tuple[int, ...]) -> None:
    async def ask() -> list[object]:
        async with open_cut(loop.swarm, Path(mkdtemp(dir=loop.swarm.root)), ALL) as (client, cutting):
            cutting.when = once_all_run(6)
            found = await client.answers([PROMPT] * 6, max_tokens=100)
            assert cutting.cuts == 1
            return [getattr(answer, "ids", (answer,))[:TOKENS] for answer in found]

    assert loop.run(ask) == [undisturbed] * 6


def test_a_stage_is_told_that_its_client_gave_up_as_soon_as_there_is_a_link_again(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INF-45; a stage would wait for long here."""
    monkeypatch.setattr("p2pinfer.core.sessions.suspension.RESUME_S", RETURN_S)

    async def ask() -> None:
        async with open_cut(loop.swarm, Path(mkdtemp(dir=loop.swarm.root)), ALL) as (client, cutting):
            async with client.open_answer(PROMPT, max_tokens=100) as stream:
                async for _ in stream:
                    loop.swarm.world.parts[cutting.key] = 1  # where nobody can be dialled
                    cutting.cut()
                    break
            await trio.sleep(0.5)
            loop.swarm.world.parts.clear()
            assert await client.meet(cutting.nodes) == set(cutting.nodes)
            with trio.fail_after(RETURN_S / 2):
                await wait_free(loop.swarm)

    loop.run(ask)


def test_who_gives_up_while_it_is_away_dials_no_more(loop: Loop) -> None:
    """The other nodes are told at once, and free their room."""

    async def ask() -> None:
        tail = loop.swarm.nodes[TAIL].identity.key.public
        async with open_cut(loop.swarm, Path(mkdtemp(dir=loop.swarm.root)), [TAIL]) as (client, cutting):
            async with client.open_answer(PROMPT, max_tokens=100) as stream:
                async for _ in stream:
                    loop.swarm.world.parts[cutting.key] = 1  # where nobody can be dialled
                    cutting.cut()
                    break
            loop.swarm.world.parts.clear()
            with trio.fail_after(1):
                await wait_free(loop.swarm, HEAD, MIDDLE)
            await client.wait_settled()  # nothing is left that could dial
            assert tail not in cutting.linked

    loop.run(ask)


def test_a_client_that_cannot_come_back_fails_as_ever(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """INF-42; the client waits less here."""
    monkeypatch.setattr("p2pinfer.core.sessions.suspension.RETURN_S", 0.5)

    async def ask() -> None:
        async with open_cut(loop.swarm, Path(mkdtemp(dir=loop.swarm.root)), ALL) as (client, cutting):
            async with client.open_answer(PROMPT, max_tokens=100) as stream:
                with pytest.raises(GenerationFailed, match="broke"):
                    async for _ in stream:
                        loop.swarm.world.parts[cutting.key] = 1
                        cutting.cut()
            loop.swarm.world.parts.clear()

    loop.run(ask)


def test_a_link_that_falls_silent_is_found_out_and_nothing_is_lost(loop: Loop, undisturbed: tuple[int, ...]) -> None:
    """Before anybody knows of it the head proposes beyond what came from the tail (RCT-9, 4)."""

    async def ask() -> Answer:
        data = Path(mkdtemp(dir=loop.swarm.root))
        async with open_cut(loop.swarm, data, [TAIL]) as (client, cutting):
            muted = at(5, of=Sampled)

            def mute(message: SessionMessage) -> bool:
                if muted(message):
                    loop.swarm.world.mute(cutting.key, cutting.nodes[0])
                return False

            cutting.when = mute
            answer = await client.answer(PROMPT, max_tokens=TOKENS)
        await check_books(loop.swarm, data)
        return answer

    assert loop.run(ask).ids == undisturbed
