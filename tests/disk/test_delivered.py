"""What a client was given and has not paid for, in its journal: kept until it is paid, and not for ever."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.units import SessionId
from p2pinfer.disk import journal_changes
from p2pinfer.disk.journal import Journal, open_journal
from p2pinfer.disk.journal_changes import UNSIGNED_S
from p2pinfer.disk.journal_reader import JournalReader
from p2pinfer.disk.memory_journal import MemoryDisk
from tests.core.paid_route import CLIENT, NOW, SMALL, PaidRoute, paid_route


@pytest.fixture(params=["file", "memory"])
async def journal(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Journal]:
    open_ = open_journal if request.param == "file" else MemoryDisk().open_journal
    async with open_(tmp_path / "client.sqlite") as journal:
        yield journal


def session(number: int) -> SessionId:
    return SessionId(number.to_bytes(16, "big"))


async def begun(journal: Journal, number: int = 1, now: int = NOW) -> PaidRoute:
    """A generation of which seven ids came, and nothing is signed."""
    route = paid_route(prompt=6, limits=SMALL)
    route.compute(12)
    route.deliver(7)
    if number == 1:  # contracts are the same for each
        for contract in route.contracts:
            await journal.agree(contract, session(number))
    await journal.keep(session(number), CLIENT.public, route.client.kept(), now)
    return route


async def sessions(journal: Journal) -> list[SessionId]:
    return await journal.read(JournalReader.unpaid_sessions)


async def test_it_is_found_with_its_contracts_head_first(journal: Journal) -> None:
    route = await begun(journal)
    found = await journal.read(lambda reader: reader.unpaid(session(1)))
    assert found is not None
    assert found.contracts == tuple(route.contracts)
    assert (found.client, found.delivered, dict(found.complete)) == (CLIENT.public, route.client.kept(), {})
    assert await journal.read(lambda reader: reader.unpaid(session(2))) is None


async def test_the_highest_receipts_are_with_it(journal: Journal) -> None:
    route = await begun(journal)
    [*_, receipt] = route.settle(route.propose_all())
    await journal.complete(receipt)
    found = await journal.read(lambda reader: reader.unpaid(session(1)))
    assert found is not None
    assert found.complete == {receipt.record.contract: receipt}


async def test_it_is_forgotten_when_the_last_final_receipt_is_signed(journal: Journal) -> None:
    route = await begun(journal)
    for stage in route.stages:
        stage.close(Code.LENGTH)
    receipts = route.settle(route.propose_all())
    finals = [receipt for receipt in receipts if receipt.record.state]
    for receipt in finals[:-1]:
        await journal.complete(receipt)
    assert await sessions(journal) == [session(1)]
    await journal.complete(finals[-1])
    assert await sessions(journal) == []
    found = await journal.read(lambda reader: reader.unpaid(session(1)))
    assert found is not None
    assert found.delivered is None


async def test_contracts_without_a_final_receipt_are_found(journal: Journal) -> None:
    route = await begun(journal)
    expires = route.contracts[0].record.expires
    unfinished = await journal.read(lambda reader: reader.unfinished(expires - 1))
    assert {contract.id for contract in unfinished} == {contract.id for contract in route.contracts}
    assert await journal.read(lambda reader: reader.unfinished(expires)) == []


async def test_no_clock_makes_it_forgotten(journal: Journal) -> None:
    await begun(journal)
    await begun(journal, 2, NOW + 100 * UNSIGNED_S)
    assert await sessions(journal) == [session(1), session(2)]


async def test_the_oldest_go_where_there_are_many(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_changes, "MAX_DELIVERED", 2)
    for number in (1, 2, 3):
        await begun(journal, number, NOW + number)
    assert await sessions(journal) == [session(2), session(3)]


async def test_the_last_one_stays_though_the_clock_was_set_back(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_changes, "MAX_DELIVERED", 2)
    for number, now in ((1, NOW), (2, NOW + 1), (3, 0)):
        await begun(journal, number, now)
    assert await sessions(journal) == [session(2), session(3)]


async def test_it_can_be_dropped(journal: Journal) -> None:
    await begun(journal)
    await journal.drop(session(1))
    assert await sessions(journal) == []
