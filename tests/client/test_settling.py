"""Answers that broke off: what was delivered is paid for later, also by a client that was killed or restarted."""

import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from shutil import copytree

import pytest
import trio
from trio.testing import MockClock

from p2pinfer.client.api import Client, open_client
from p2pinfer.client.setup import World
from p2pinfer.core.records.receipt import FINAL, RUNNING
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import GenerationFailed
from p2pinfer.disk.identity import load_identity
from p2pinfer.disk.importing import import_model
from p2pinfer.disk.journal_reader import read_journal
from p2pinfer.disk.store import Store
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.memory import MemoryWorld, open_memory_network
from tests.disk.tiny import tiny_folder

from .liars import FIRST_ID, SoloStage, open_stage

PROMPT = "hello"  # five ids
DELIVERED = 8  # ids before the link breaks
COUNTED = len(PROMPT) + DELIVERED - 1  # positions that they prove


class Cut(SoloStage):
    """Its link breaks before it has proposed anything, and before its last ids have left."""

    undelivered = 4

    def answer(self, link: Link, prompt: tuple[int, ...]) -> None:
        for at in range(DELIVERED):
            link.send_nowait(self.sampled(len(prompt) + at, FIRST_ID + at, False))
        self.compute(prompt, DELIVERED + self.undelivered)
        trio.lowlevel.spawn_system_task(self.fade, link)

    async def fade(self, link: Link) -> None:
        await trio.sleep(3)
        link.close(Code.LEAVING, "bye")

    def propose_again(self) -> None:
        link = self.network.link(self.contract.record.client)
        assert link is not None
        self.account.close(Code.LOST)
        for proposal in [*self.account.pending, *self.account.due(self.contract.record.issued)]:
            link.send_nowait(self.proposal(proposal))


class Village:
    """One stage, and clients that come and go."""

    def __init__(self, root: Path, store: Store, stage: Cut, ground: MemoryWorld) -> None:
        self.root = root
        self.stage = stage
        self._store = store
        self._ground = ground

    @asynccontextmanager
    async def client(self, folder: str = "client") -> AsyncIterator[Client]:
        network = lambda key, exchange, greeting: open_memory_network(  # noqa: E731
            self._ground, key.public, exchange, greeting=greeting
        )
        addresses = self.stage.network.addresses()
        async with open_client(self.root / folder, self._store.root, addresses, around=World(network)) as client:
            yield client

    async def meet(self, client: Client) -> None:
        """The stage proposes what it has not been paid for, until there is an answer or nothing more to say."""
        await client.meet([self.stage.network.key])
        self.stage.propose_again()
        await trio.sleep(5)

    @property
    def unsigned(self) -> int:
        """Sessions that the client's journal says are not paid for."""
        with read_journal(self.root / "client" / "client.sqlite") as journal:
            return len(journal.unpaid_sessions())


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    root = tmp_path_factory.mktemp("settling")
    import_model(str(tiny_folder(root / "tiny")), Store(root))
    return Store(root)


def run(test: Callable[[Village], Awaitable[None]], root: Path, store: Store) -> None:
    async def main() -> None:
        ground, [model] = MemoryWorld(), store.models()
        identity = load_identity(root / "stage", int(time.time()))
        async with open_stage(Cut, ground, store, model, identity) as stage:
            assert isinstance(stage, Cut)
            await test(Village(root, store, stage, ground))

    trio.run(main, clock=MockClock(rate=10))


def paid(root: Path) -> list[tuple[int, int]]:
    """Number and state of what the client signed."""
    with read_journal(root / "client" / "client.sqlite") as journal:
        return [(item.receipt.record.seq, item.receipt.record.state) for item in journal.earned()]


async def break_off(world: Village) -> None:
    async with world.client() as client:
        with pytest.raises(GenerationFailed, match="broke"):
            await client.answer(PROMPT, max_tokens=100)
        await client.wait_settled()
    assert world.stage.signed == []
    assert world.unsigned == 1


def test_it_is_signed_at_the_next_contact_as_far_as_ids_came(tmp_path: Path, store: Store) -> None:
    async def test(world: Village) -> None:
        async with world.client() as client:
            with pytest.raises(GenerationFailed, match="broke"):
                await client.answer(PROMPT, max_tokens=100)
            await client.wait_settled()
            await world.meet(client)
            assert world.stage.account.paid == COUNTED // 4 * 4
            assert [proposal.committed for proposal in world.stage.account.pending] == [COUNTED + Cut.undelivered] * 2
        assert world.unsigned == (COUNTED % 4 > 0)

    run(test, tmp_path, store)
    assert paid(tmp_path) == [(COUNTED // 4, RUNNING)]


def test_another_process_of_the_client_signs_the_same(tmp_path: Path, store: Store) -> None:
    async def test(world: Village) -> None:
        await break_off(world)
        async with world.client() as client:
            await world.meet(client)
        assert world.stage.account.paid == COUNTED // 4 * 4

    run(test, tmp_path, store)


def test_a_client_that_was_killed_in_mid_answer_signs_what_it_had_been_given(tmp_path: Path, store: Store) -> None:
    async def test(world: Village) -> None:
        async with world.client("killed") as client, trio.open_nursery() as nursery:

            async def ask() -> None:
                with pytest.raises(GenerationFailed):
                    await client.answer(PROMPT, max_tokens=100)

            nursery.start_soon(ask)
            while not await client.settling._journal.read(lambda reader: reader.unpaid_sessions()):  # noqa: ASYNC110
                await trio.sleep(0.1)
            copytree(tmp_path / "killed", tmp_path / "client")  # what kill -9 would leave
        async with world.client() as client:
            await world.meet(client)
        assert world.stage.account.paid == COUNTED // 4 * 4

    run(test, tmp_path, store)


def test_what_nothing_justifies_is_signed_on_a_persons_word_alone(tmp_path: Path, store: Store) -> None:
    async def test(world: Village) -> None:
        await break_off(world)
        with closing(sqlite3.connect(tmp_path / "client" / "client.sqlite")) as journal, journal:
            journal.execute("DELETE FROM delivered")
        async with world.client() as client:
            await world.meet(client)
            assert world.stage.signed == []
            [claim] = client.settling.claims.values()
            assert claim.claimed == claim.positions == COUNTED + Cut.undelivered
            assert claim.amount == claim.proposal.record.amount > 0
            await client.settling.sign(claim)
            client.greet([world.stage.network.key])
            await trio.sleep(5)
            assert world.stage.account.closed
            assert client.settling.claims == {}

    run(test, tmp_path, store)
    assert paid(tmp_path) == [(COUNTED // 4 + 2, FINAL)]


def test_more_than_a_window_is_no_claim(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """RCT-33"""
    monkeypatch.setattr(Cut, "undelivered", 40)

    async def test(world: Village) -> None:
        await break_off(world)
        async with world.client() as client:
            await world.meet(client)
            assert world.stage.account.paid == COUNTED // 4 * 4
            window = world.stage.contract.record.limits.window
            assert all(claim.positions <= window for claim in client.settling.claims.values())

    run(test, tmp_path, store)


def test_an_answer_that_is_paid_leaves_nothing(tmp_path: Path, store: Store) -> None:
    async def test(world: Village) -> None:
        world.stage.__class__ = SoloStage  # type: ignore[assignment]
        async with world.client() as client:
            await client.answer(PROMPT, max_tokens=DELIVERED)
        assert world.unsigned == 0

    run(test, tmp_path, store)
