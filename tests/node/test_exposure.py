"""What a node has at risk with its clients, from the opening of a contract until nothing is owed under it."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from p2pinfer.core.budget import Budget, History, Risk
from p2pinfer.core.codes import Code
from p2pinfer.core.errors import Refused
from p2pinfer.core.records import countersign
from p2pinfer.core.units import SessionId
from p2pinfer.disk.journal import Journal, open_journal
from p2pinfer.disk.journal_reader import LAPSE_S
from p2pinfer.node.exposure import Exposure
from tests.core.paid_route import CLIENT, NOW, SMALL, PaidRoute, paid_route

SESSION = SessionId(bytes(16))
BASE = 2 * SMALL.window
PROMPT = 6
LAPSES = NOW + 3600 + LAPSE_S


class Node:
    """A node with one contract, and what it still dares to do for that client. Signatures are stored as it does."""

    def __init__(self, journal: Journal, route: PaidRoute) -> None:
        self.journal = journal
        self.route = route
        self.start_anew()

    def start_anew(self) -> None:
        self.budget = Budget(Risk(base=BASE, cap=4 * BASE, strangers=4 * BASE))
        self.exposure = Exposure(self.budget, self.journal)

    @property
    def room(self) -> int:
        return self.budget.room(CLIENT.public, History())

    async def open(self) -> None:
        await self.exposure.take(self.route.contracts[0], NOW)
        await self.journal.agree(self.route.contracts[0], SESSION)

    async def compute(self, upto: int) -> None:
        self.route.compute(upto)
        await self.propose()

    async def propose(self) -> None:
        for proposal in self.route.head.due(NOW):
            await self.journal.propose(proposal.signed)

    def end(self) -> None:
        self.exposure.end(self.route.contracts[0], self.route.head)

    async def signed(self, seqs: Sequence[int], late: bool = True) -> None:
        """The client signs proposals; late: after the session."""
        for proposal in self.route.head.pending:
            if proposal.seq in seqs:
                receipt = countersign(proposal.signed, CLIENT)
                await self.journal.complete(receipt)
                if late:
                    self.exposure.settle(self.route.contracts[0], receipt)
                else:
                    self.route.head.sign(receipt.body, receipt.signatures[1])


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    route = paid_route(stages=1, prompt=PROMPT, layers=6, limits=SMALL)
    async with open_journal(tmp_path / "journal") as journal:
        node = Node(journal, route)
        await node.open()
        yield node


async def test_an_open_contract_takes_its_window(node: Node) -> None:
    assert node.room == BASE - SMALL.window


async def test_a_contract_that_never_began_gives_all_back(node: Node) -> None:
    node.exposure.end(node.route.contracts[0], None)
    assert node.room == BASE


async def test_a_contract_under_which_nothing_was_done_gives_all_back(node: Node) -> None:
    node.end()
    assert node.room == BASE


async def test_a_contract_whose_work_is_all_signed_gives_all_back(node: Node) -> None:
    await node.compute(8)
    await node.signed([1, 2], late=False)
    node.end()
    assert node.room == BASE


async def test_a_closed_contract_gives_all_back(node: Node) -> None:
    await node.compute(9)
    node.route.head.close(Code.CANCELLED)
    await node.propose()
    await node.signed([1, 2, 3], late=False)
    assert node.route.head.closed
    node.end()
    assert node.room == BASE


async def test_what_was_not_signed_stays_taken_and_nothing_more(node: Node) -> None:
    await node.compute(11)
    await node.signed([1], late=False)
    node.end()
    assert node.room == BASE - 7


async def test_work_that_was_never_proposed_stays_taken_too(node: Node) -> None:
    await node.compute(3)
    node.end()
    assert node.room == BASE - 3


async def test_a_contract_settled_later_gives_all_back_then(node: Node) -> None:
    await node.compute(8)
    node.end()
    await node.signed([1])
    assert node.room == BASE - 4
    await node.signed([2])
    assert node.room == BASE


async def test_receipts_settled_in_another_order_change_nothing(node: Node) -> None:
    await node.compute(11)
    node.end()
    await node.signed([2])
    assert node.room == BASE - 3
    await node.signed([1])
    assert node.room == BASE - 3


async def test_unpaid_work_outlives_the_end_of_its_contract(node: Node) -> None:
    """A client chooses when its contracts expire; unpaid work is forgotten no sooner than its key is refused."""
    await node.compute(16)
    node.end()
    for _ in range(2):
        with pytest.raises(Refused) as refusal:
            await node.exposure.take(node.route.contracts[0], LAPSES)
        assert refusal.value.code is Code.BAD_STATE  # it still stands in the budget
    with pytest.raises(Refused) as refusal:
        await node.exposure.take(node.route.contracts[0], LAPSES + 1)
    assert refusal.value.code is Code.LAPSED
    assert node.room == BASE


async def test_a_restart_forgets_nothing_that_was_proposed(node: Node) -> None:
    await node.compute(13)
    await node.signed([1])
    node.start_anew()
    assert node.room == BASE
    await node.exposure.recall(NOW)
    assert node.room == BASE - 8
    await node.signed([3])
    assert node.room == BASE


async def test_a_restart_brings_no_lapsed_contract_back(node: Node) -> None:
    await node.compute(13)
    node.start_anew()
    await node.exposure.recall(LAPSES + 1)
    assert node.room == BASE
