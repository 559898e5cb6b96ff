"""What an account holds for signed is in the journal, whatever is cancelled and whatever the disk takes."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from p2pinfer.client.signatures import store_signed
from p2pinfer.core.money.client_account import Decision
from p2pinfer.core.values.errors import JournalError
from p2pinfer.core.values.units import SessionId
from p2pinfer.disk.journal import Journal, open_journal
from p2pinfer.disk.journal_reader import JournalReader
from tests.core.paid_route import SMALL, PaidRoute, paid_route, signed_stages

SESSION = SessionId(b"session of 16 by")
SIGNED = [8, 8, 8]  # positions, of each stage


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    async with open_journal(tmp_path / "client.sqlite") as journal:
        yield journal


async def decided(journal: Journal) -> tuple[PaidRoute, list[Decision]]:
    """A route whose client signs for all three stages at once."""
    route = paid_route(prompt=6, limits=SMALL)
    for contract in route.contracts:
        await journal.agree(contract, SESSION)
    route.compute(8)
    assert route.propose_all() == []
    return route, route.deliver(3)


def signed(route: PaidRoute) -> list[int]:
    return [route.client.signed(place) for place in range(len(route.stages))]


async def stored(journal: Journal) -> int:
    return len(await journal.read(JournalReader.earned))


async def test_a_cancellation_between_signatures_loses_none(journal: Journal) -> None:
    route, decisions = await decided(journal)
    with trio.CancelScope() as scope:
        scope.cancel()
        await store_signed(journal, route.client, decisions)
    assert signed(route) == SIGNED
    assert await stored(journal) == len(SIGNED)


async def test_what_a_full_disk_does_not_take_is_not_signed_before_it_is_proposed_again(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    route, decisions = await decided(journal)
    with monkeypatch.context() as full:
        full.setattr(Journal, "complete", refuse)
        with pytest.raises(JournalError):
            await store_signed(journal, route.client, decisions)
    assert signed(route) == [0, 0, 0]
    assert route.client.unsigned
    assert route.client.kept().first == 0
    last = route.head.pending[-1]
    again = route.hand_over(0, last)
    assert signed_stages(again) == [(0, 2), (1, 2), (2, 2)]
    await store_signed(journal, route.client, again)
    assert (signed(route), await stored(journal)) == (SIGNED, len(SIGNED))


async def test_what_was_not_stored_is_signed_with_the_next_proposal(journal: Journal) -> None:
    route, decisions = await decided(journal)
    route.client.withdraw()
    route.compute(12)
    decisions = [*route.propose_all(), *route.deliver(4)]
    await store_signed(journal, route.client, decisions)
    assert signed(route) == [12, 12, 12]


async def refuse(*_: object) -> None:
    await trio.lowlevel.checkpoint()
    raise JournalError("not stored: the disk is full")
