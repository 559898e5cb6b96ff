"""A client whose disk fills up: an answer ends with the reason, the client goes on, and what came is paid later."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import GenerationFailed, JournalError
from p2pinfer.disk.importing import import_model
from p2pinfer.disk.journal import Journal
from p2pinfer.disk.journal_changes import Change
from p2pinfer.disk.store import Store
from tests.disk.tiny import tiny_folder

from .liars import SoloStage
from .test_settling import COUNTED, DELIVERED, PROMPT, Village, paid, run

CLOSE_S = 8.0  # for a client to close: SETTLE_S, and a little


class Disk:
    """The disk of the client's journal; it takes so many more commits."""

    def __init__(self, commits: float) -> None:
        self.commits = commits
        self.refused = 0


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    root = tmp_path_factory.mktemp("full")
    import_model(str(tiny_folder(root / "tiny")), Store(root))
    return Store(root)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    disk, store_ = Disk(float("inf")), Journal._store

    async def full(journal: Journal, change: Change) -> None:
        if disk.commits < 1:
            disk.refused += 1
            await trio.lowlevel.checkpoint()
            raise JournalError("not stored: the disk is full")
        disk.commits -= 1
        await store_(journal, change)

    monkeypatch.setattr(Journal, "_store", full)
    yield disk


def test_an_answer_under_way_ends_with_the_reason_and_the_client_closes(
    tmp_path: Path,
    store: Store,
    disk: Disk,
) -> None:
    disk.commits = 1  # the contract

    async def test(world: Village) -> None:
        async with world.client() as client:
            with pytest.raises(GenerationFailed, match="cannot be kept: not stored: the disk is full") as failure:
                await client.answer(PROMPT, max_tokens=100)
            assert failure.value.code == Code.INTERNAL
            closing = trio.current_time()
        assert trio.current_time() < closing + CLOSE_S

    run(test, tmp_path, store)
    assert disk.refused > 0


def test_what_came_is_paid_as_soon_as_the_disk_takes_it(tmp_path: Path, store: Store, disk: Disk) -> None:
    disk.commits = 1

    async def test(world: Village) -> None:
        async with world.client() as client:
            with pytest.raises(GenerationFailed, match="full"):
                await client.answer(PROMPT, max_tokens=100)
            await world.meet(client)
            assert world.stage.signed == []
            disk.commits = float("inf")
            await world.meet(client)
            assert world.stage.account.paid == COUNTED // 4 * 4

    run(test, tmp_path, store)
    assert [seq for seq, _ in paid(tmp_path)] == [COUNTED // 4]


def test_one_request_fails_with_its_commit_and_the_next_is_answered(tmp_path: Path, store: Store, disk: Disk) -> None:
    async def test(world: Village) -> None:
        world.stage.__class__ = SoloStage  # type: ignore[assignment]
        async with world.client() as client:
            disk.commits = 0
            [failed] = await client.answers([PROMPT], max_tokens=DELIVERED)
            disk.commits = float("inf")
            assert isinstance(failed, GenerationFailed)
            assert failed.code == Code.INTERNAL
            assert (await client.answer(PROMPT, max_tokens=DELIVERED)).tokens == DELIVERED

    run(test, tmp_path, store)


def test_an_answer_that_came_whole_is_an_answer_though_its_receipts_cannot_be_kept(
    tmp_path: Path,
    store: Store,
    disk: Disk,
    caplog: pytest.LogCaptureFixture,
) -> None:
    disk.commits = 1

    async def test(world: Village) -> None:
        world.stage.__class__ = SoloStage  # type: ignore[assignment]
        async with world.client() as client:
            answer = await client.answer(PROMPT, max_tokens=DELIVERED)
            assert (answer.tokens, answer.cost) == (DELIVERED, 0)

    with caplog.at_level(logging.ERROR, "p2pinfer"):
        run(test, tmp_path, store)
    assert "receipts of an answer that is over cannot be kept: not stored: the disk is full" in caplog.messages
