"""What a node has at risk with its clients, from the opening of a contract until nothing is owed under it."""

import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from p2pinfer.core.money.budget import DEBT_S, NEWCOMER_LIFE_S, RELEASE_S, Debtor, Risk
from p2pinfer.core.records.contract import Contract
from p2pinfer.core.records.records import SignedRecord, countersign, sign
from p2pinfer.core.swarm.source import NOWHERE, Scope, Source
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import JournalError, Refused
from p2pinfer.core.values.units import SessionId
from p2pinfer.disk.journal import Journal, open_journal
from p2pinfer.node.daemon import _recall_small
from p2pinfer.node.exposure import Exposure
from tests.core.paid_route import CLIENT, DAY_S, NOW, SMALL, PaidRoute, key, paid_route

SESSION = SessionId(bytes(16))
LAYERS = 6
BASE = 2 * SMALL.window * LAYERS
PROMPT = 6
ALL = 2 * SMALL.window


class Node:
    """A node with one contract, and what it still dares to do for that client. Signatures are stored as it does."""

    def __init__(self, folder: Path, journal: Journal, route: PaidRoute) -> None:
        self.folder = folder
        self.journal = journal
        self.route = route
        self.start_anew()

    def start_anew(self) -> None:
        self.exposure = Exposure(self.journal, self.folder, Risk(base=BASE, cap=4 * BASE, newcomers=4 * BASE))

    def room_at(self, now: int) -> int:
        """Positions that the client may still leave unsigned."""
        return self.exposure.budget.room(Debtor(CLIENT.public), now) // LAYERS

    @property
    def room(self) -> int:
        return self.room_at(NOW)

    async def open(self) -> None:
        await self.exposure.take(self.route.contracts[0], NOWHERE, NOW)
        await self.journal.agree(self.route.contracts[0], SESSION)

    async def compute(self, upto: int) -> None:
        self.route.compute(upto)
        await self.propose()

    async def propose(self) -> None:
        for proposal in self.route.head.due(NOW):
            await self.journal.propose(proposal.signed)

    def end(self) -> None:
        self.exposure.end(self.route.contracts[0], self.route.head, NOW)

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
    route = paid_route(stages=1, prompt=PROMPT, layers=LAYERS, limits=SMALL, life_s=NEWCOMER_LIFE_S)
    async with open_journal(tmp_path / "journal") as journal:
        node = Node(tmp_path, journal, route)
        await node.open()
        yield node


async def test_an_open_contract_takes_its_window(node: Node) -> None:
    assert node.room == ALL - SMALL.window


async def test_a_contract_that_never_began_gives_all_back(node: Node) -> None:
    node.exposure.end(node.route.contracts[0], None, NOW)
    assert node.room == ALL


async def test_a_contract_under_which_nothing_was_done_gives_all_back(node: Node) -> None:
    node.end()
    assert node.room == ALL


async def test_a_contract_whose_work_is_all_signed_gives_all_back(node: Node) -> None:
    await node.compute(8)
    await node.signed([1, 2], late=False)
    node.end()
    assert node.room == ALL


async def test_a_closed_contract_gives_all_back(node: Node) -> None:
    await node.compute(9)
    node.route.head.close(Code.CANCELLED)
    await node.propose()
    await node.signed([1, 2, 3], late=False)
    assert node.route.head.closed
    node.end()
    assert node.room == ALL


async def test_what_was_not_signed_stays_taken_and_nothing_more(node: Node) -> None:
    await node.compute(11)
    await node.signed([1], late=False)
    node.end()
    assert node.room == ALL - 7


async def test_work_that_was_never_proposed_stays_taken_too(node: Node) -> None:
    await node.compute(3)
    node.end()
    assert node.room == ALL - 3


async def test_a_client_that_says_it_takes_nothing_takes_all_that_was_done(node: Node) -> None:
    """RCT-24"""
    await node.compute(3)
    node.route.head.close(Code.CANCELLED, upto=0)
    await node.propose()
    assert node.route.head.closed  # nothing is to be signed
    node.end()
    assert node.room == ALL - 3


async def test_what_the_engine_was_given_when_a_client_ended_is_done(node: Node) -> None:
    node.route.head.begin(4)
    node.route.head.close(Code.CANCELLED, upto=0)
    node.end()
    assert node.room == ALL - 4


async def test_what_an_honest_client_leaves_on_its_way_counts_for_an_hour(node: Node) -> None:
    await node.compute(11)
    node.route.head.close(Code.CANCELLED, upto=9)
    await node.propose()
    await node.signed([3], late=False)
    node.end()
    assert [await room_later(node, after_s) for after_s in (RELEASE_S, RELEASE_S + 1)] == [ALL - 2, ALL]


async def test_what_no_honest_client_leaves_counts_for_a_week(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2pinfer.core.money.budget.GIVEN_UP", 1)
    await node.compute(11)
    node.route.head.close(Code.CANCELLED, upto=9)
    await node.propose()
    await node.signed([3], late=False)
    node.end()
    assert [await room_later(node, after_s) for after_s in (RELEASE_S + 1, DEBT_S + 1)] == [ALL - 2, ALL]


async def room_later(node: Node, after_s: int) -> int:
    node.exposure.budget.forget(NOW + after_s)
    return node.room_at(NOW + after_s)


async def test_small_contracts_of_a_network_are_counted_and_end_for_the_day(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RCT-34"""
    monkeypatch.setattr("p2pinfer.core.money.small_contracts.SMALL_A_DAY", 1)
    await node.compute(8)
    await node.signed([1, 2], late=False)
    node.end()
    another = sign(replace(node.route.contracts[0].record, nonce=bytes(16)), CLIENT)
    with pytest.raises(Refused) as refusal:
        await node.exposure.take(another, NOWHERE, NOW)
    assert refusal.value.code is Code.BUSY
    await node.exposure.take(another, NOWHERE, NOW + DAY_S)


async def test_a_restart_counts_the_small_contracts_of_the_day(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """RCT-34"""
    monkeypatch.setattr("p2pinfer.core.money.small_contracts.SMALL_A_DAY", 1)
    await node.compute(8)
    await node.signed([1, 2], late=False)
    another = sign(replace(node.route.contracts[0].record, nonce=bytes(16)), CLIENT)
    for now in (NOW + DAY_S, NOW + 1):
        node.start_anew()
        await node.exposure.recall(now)
        await node.exposure.recall_small(now)
        if now > NOW + 1:  # of yesterday
            await node.exposure.take(another, NOWHERE, now)
    with pytest.raises(Refused) as refusal:
        await node.exposure.take(another, NOWHERE, NOW + 1)
    assert refusal.value.code is Code.BUSY


async def test_a_receipt_that_was_altered_costs_the_count_of_small_contracts_and_not_the_node(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    await node.compute(8)
    await node.signed([1, 2], late=False)
    with closing(sqlite3.connect(node.folder / "journal")) as journal, journal:
        assert journal.execute("UPDATE receipt SET body = zeroblob(length(body))").rowcount == 1
    node.start_anew()
    with pytest.raises(JournalError):
        await node.exposure.recall_small(NOW + 1)
    await _recall_small(node.exposure, NOW + 1)
    assert "small contracts of today are not all counted" in caplog.text


@pytest.mark.parametrize("signed", [[], [1]])
async def test_a_restart_counts_small_contracts_that_are_not_paid_up_once(
    node: Node, monkeypatch: pytest.MonkeyPatch, signed: list[int]
) -> None:
    monkeypatch.setattr("p2pinfer.core.money.small_contracts.SMALL_A_DAY", 2)
    await node.compute(8)
    await node.signed(signed, late=False)
    node.start_anew()
    await node.exposure.recall(NOW + 1)
    await node.exposure.recall_small(NOW + 1)
    client = Debtor(CLIENT.public)
    node.exposure.small.check(client, LAYERS, NOW + 1)
    node.exposure.small.add(client, LAYERS, NOW + 1)
    with pytest.raises(Refused):
        node.exposure.small.check(client, LAYERS, NOW + 1)


async def test_contracts_that_left_no_records_are_not_counted(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2pinfer.core.money.small_contracts.SMALL_A_DAY", 1)
    await node.compute(3)
    node.route.head.close(Code.CANCELLED, upto=0)
    node.end()
    another = sign(replace(node.route.contracts[0].record, nonce=bytes(16)), CLIENT)
    await node.exposure.take(another, NOWHERE, NOW)


async def test_a_contract_settled_later_gives_all_back_then(node: Node) -> None:
    await node.compute(8)
    node.end()
    await node.signed([1])
    assert node.room == ALL - 4
    await node.signed([2])
    assert node.room == ALL


async def test_receipts_settled_in_another_order_change_nothing(node: Node) -> None:
    await node.compute(11)
    node.end()
    await node.signed([2])
    assert node.room == ALL - 3
    await node.signed([1])
    assert node.room == ALL - 3


async def test_unpaid_work_is_held_against_its_client_for_a_month(node: Node) -> None:
    """When its contract expires is the client's to choose, and changes nothing."""
    await node.compute(16)
    node.end()
    for now, room in ((NOW + RELEASE_S, ALL - 16), (NOW + DEBT_S, ALL - 16), (NOW + DEBT_S + 1, ALL)):
        with pytest.raises(Refused) as refusal:
            await node.exposure.take(node.route.contracts[0], NOWHERE, now)
        assert refusal.value.code is Code.BAD_STATE  # it was worked under
        assert node.room_at(now) == room


async def test_a_contract_opens_once_while_it_is_open_or_was_worked_under(node: Node) -> None:
    contract = sign(replace(node.route.contracts[0].record, nonce=bytes(16)), CLIENT)
    await node.exposure.take(contract, NOWHERE, NOW)
    with pytest.raises(Refused) as refusal:
        await node.exposure.take(contract, NOWHERE, NOW)
    assert refusal.value.code is Code.BAD_STATE
    node.exposure.end(contract, None, NOW)
    await node.exposure.take(contract, NOWHERE, NOW)


async def test_what_was_signed_in_full_is_credit(node: Node) -> None:
    await node.compute(13)
    node.route.head.close(Code.CANCELLED)
    await node.propose()
    await node.signed([4], late=False)
    node.end()
    assert await node.journal.read(lambda reader: reader.signed(CLIENT.public)) == 13 * LAYERS


async def test_clients_of_the_owner_are_known_by_their_keys(node: Node) -> None:
    contract = sign(replace(node.route.contracts[0].record, nonce=bytes(16)), CLIENT)
    (node.folder / "client.key").write_text(CLIENT.seed.hex())
    (node.folder / "client.key").chmod(0o600)
    node.start_anew()
    for _ in range(2):
        await node.exposure.take(contract, NOWHERE, NOW)
        assert not node.exposure.is_newcomer(contract.id)
        node.exposure.end(contract, None, NOW)


async def test_peers_of_one_network_share_and_those_of_this_machine_do_not(node: Node) -> None:
    def contract(number: int) -> SignedRecord[Contract]:
        client = key(f"client {number}")
        terms = replace(node.route.contracts[0].record, client=client.public, nonce=bytes([number] * 16))
        return sign(terms, client)

    away = Source("192.0.2.1", Scope.PUBLIC)
    with pytest.raises(Refused) as refusal:
        await node.exposure.take(contract(1), away, NOW)
    assert refusal.value.code is Code.WINDOW_FULL  # an eighth of all is less than its window
    await node.exposure.take(contract(1), NOWHERE, NOW)


async def test_a_restart_forgets_nothing_that_was_proposed(node: Node) -> None:
    await node.compute(13)
    await node.signed([1])
    node.start_anew()
    assert node.room == ALL
    await node.exposure.recall(NOW)
    assert node.room == ALL - 8
    await node.signed([3])
    assert node.room == ALL


async def test_a_restart_forgets_what_was_given_up_and_that_is_no_receipts_worth(node: Node) -> None:
    """5.4: who takes ids and says that it has none owes what was proposed; of the rest there is no record."""
    await node.compute(11)
    node.route.head.close(Code.CANCELLED, upto=0)
    await node.propose()
    node.end()
    assert node.room == ALL - 11
    node.start_anew()
    await node.exposure.recall(NOW)
    forgotten = node.room - (ALL - 11)
    assert 0 < forgotten < node.route.contracts[0].record.limits.cadence


async def test_a_restart_brings_nothing_back_that_counts_no_more(node: Node) -> None:
    await node.compute(13)
    node.start_anew()
    await node.exposure.recall(NOW + DEBT_S + 1)
    assert node.room == ALL


async def test_keys_that_cannot_be_read_are_told_once_and_cost_nobody_a_session(
    node: Node, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2pinfer.node.exposure.LOOK_S", 0.0)
    (node.folder / "client.key").write_text("no key")
    for number in (1, 2):
        terms = replace(node.route.contracts[0].record, nonce=bytes([number] * 16))
        await node.exposure.take(contract := sign(terms, CLIENT), NOWHERE, NOW)
        node.exposure.end(contract, None, NOW)
    assert len([record for record in caplog.records if "not told from others" in record.getMessage()]) == 1
