"""Settling with several nodes: each has its turn, whatever another one sends or does not read."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from p2pinfer.client import settlement as settling_module
from p2pinfer.client.books import Purse
from p2pinfer.client.settlement import ClientSettlement
from p2pinfer.core.values.errors import JournalError
from p2pinfer.core.values.units import PeerKey, SessionId
from p2pinfer.core.wire.messages import Message
from p2pinfer.core.wire.session_messages import Propose, Signed
from p2pinfer.disk.journal import Journal, open_journal
from tests.core.paid_route import CLIENT, NODES, NOW, SMALL, PaidRoute, paid_route

SESSION = SessionId(b"session of 16 by")


class FakeLink:
    """clogged: it takes nothing more. stuck: somebody waits for it for ever."""

    def __init__(self, place: int) -> None:
        self.peer: PeerKey = NODES[place].public
        self.clogged = self.stuck = False
        self.sent: list[Message] = []

    async def send(self, message: Message) -> None:
        await trio.lowlevel.checkpoint()
        if self.clogged:
            self.stuck = True
            await trio.sleep_forever()
        self.sent.append(message)


class Owing:
    """A client that owes three nodes what an answer left unsigned."""

    def __init__(self, settling: ClientSettlement, route: PaidRoute, nursery: trio.Nursery) -> None:
        self.settling = settling
        self._nursery = nursery
        self.links = [FakeLink(place) for place in range(3)]
        self._proposals = [stage.due(NOW)[-1].signed for stage in route.stages]

    def propose(self, place: int) -> None:
        proposal = self._proposals[place]
        message = Propose(SESSION, proposal.body, proposal.signatures[0])
        self.settling.take(self.links[place], message)  # type: ignore[arg-type]

    async def wait_done(self) -> None:
        """Until nothing is done any more, but for what waits for a clogged link."""
        with trio.fail_after(20):
            while len(self._nursery.child_tasks) > sum(link.stuck for link in self.links):  # noqa: ASYNC110 - a disk
                await trio.sleep(0.005)

    @property
    def signed(self) -> list[bool]:
        """Which nodes were sent a signature."""
        return [any(isinstance(message, Signed) for message in link.sent) for link in self.links]


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    async with open_journal(tmp_path / "client.sqlite") as journal:
        yield journal


@pytest.fixture
async def owing(journal: Journal) -> AsyncIterator[Owing]:
    route = paid_route(prompt=6, limits=SMALL)
    for contract in route.contracts:
        await journal.agree(contract, SESSION)
    route.compute(8)
    route.deliver(3)
    async with trio.open_nursery() as nursery:
        settling = ClientSettlement(Purse(CLIENT, journal), nursery)
        await settling.remember(SESSION, route.client, NOW)
        yield Owing(settling, route, nursery)
        nursery.cancel_scope.cancel()


async def settled(owing: Owing, *places: int) -> None:
    """Nodes propose, in no order; and again, since some did before their neighbours' roots were known."""
    for _ in range(2):
        for place in places:
            owing.propose(place)
        await owing.wait_done()


async def test_all_are_signed_and_each_node_gets_its_own(owing: Owing) -> None:
    await settled(owing, 0, 1, 2)
    assert owing.signed == [True, True, True]


async def test_a_node_that_reads_nothing_holds_up_no_other(owing: Owing) -> None:
    owing.links[0].clogged = True
    await settled(owing, 0)
    await settled(owing, 1, 2)
    await settled(owing, 0, 1, 2)
    assert owing.signed == [False, True, True]


async def test_a_flood_of_one_node_takes_no_turn_of_another(owing: Owing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settling_module, "MAX_WAITING", 3)
    await settled(owing, *[0] * 100, 1, 2)
    assert owing.signed == [True, True, True]


async def test_a_full_disk_ends_no_settling(owing: Owing, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(*_: object) -> None:
        await trio.lowlevel.checkpoint()
        raise JournalError("not stored: the disk is full")

    with monkeypatch.context() as disk:
        disk.setattr(Journal, "_store", full)
        await settled(owing, 0, 1, 2)
    assert owing.signed == [False, False, False]
    await settled(owing, 0, 1, 2)
    assert owing.signed == [True, True, True]
