"""The journal: what it stored stays, whatever happens; what is damaged is refused."""

import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from p2pinfer.core.money.client_account import Sign
from p2pinfer.core.money.stage_account import StageAccount
from p2pinfer.core.records.receipt import Receipt
from p2pinfer.core.records.records import SignedRecord, countersign, sign
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import JournalError, LocalProtocolError, RemoteProtocolError, UsageError
from p2pinfer.core.values.units import RecordId, SessionId
from p2pinfer.core.wire.session_messages import pack_ids
from p2pinfer.disk import journal as journal_module
from p2pinfer.disk import journal_changes
from p2pinfer.disk.journal import MAX_BATCH, Journal, open_journal
from p2pinfer.disk.journal_changes import UNSIGNED_S, Awaited
from p2pinfer.disk.journal_file import connect_reader
from p2pinfer.disk.journal_reader import JournalReader, read_journal
from p2pinfer.disk.memory_journal import MemoryDisk
from tests.core.paid_route import CLIENT, NODES, NOW, SECRET, SMALL, STRANGER, PaidRoute, certificate_for, paid_route

SESSION = SessionId(b"session of 16 by")
EXPIRES = NOW + 3600
COMMIT = journal_changes.commit

WRITER = """
import sys, trio
from pathlib import Path
from p2pinfer.disk.journal import open_journal
from tests.disk.test_journal import SESSION, finished
async def main():
    async with open_journal(Path(sys.argv[1])) as journal:
        route, complete = finished()
        await journal.agree(route.contracts[0], SESSION)
        for receipt in complete:
            await journal.complete(receipt)
            print(receipt.record.seq, flush=True)
        await trio.sleep_forever()
trio.run(main)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "node.journal"


@pytest.fixture(params=["file", "memory"])
async def journal(path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Journal]:
    open_ = open_journal if request.param == "file" else MemoryDisk().open_journal
    async with open_(path) as journal:
        yield journal


in_a_file = pytest.mark.parametrize("journal", ["file"], indirect=True)


def solo() -> PaidRoute:
    return paid_route(stages=1, prompt=6, layers=6, limits=SMALL)


def finished() -> tuple[PaidRoute, list[SignedRecord[Receipt]]]:
    """A route of one stage after eight positions, and its three complete receipts, the last one final."""
    route = solo()
    route.deliver(3)
    route.compute(8)
    route.head.close(Code.END)
    decisions = route.propose(0)
    return route, [decision.receipt for decision in decisions if isinstance(decision, Sign)]


async def proposed(journal: Journal, route: PaidRoute, upto: int) -> list[SignedRecord[Receipt]]:
    """Store a contract and what is due on it after `upto` positions."""
    await journal.agree(route.contracts[0], SESSION)
    route.compute(upto)
    due = [proposal.signed for proposal in route.head.due(NOW)]
    for receipt in due:
        await journal.propose(receipt)
    return due


# What was stored


async def test_a_complete_receipt_is_found_again(journal: Journal) -> None:
    route, complete = finished()
    await journal.agree(route.contracts[0], SESSION)
    await journal.complete(complete[-1])
    (earned,) = await journal.read(JournalReader.earned)
    assert (earned.contract, earned.receipt, earned.session) == (route.contracts[0], complete[-1], SESSION)


async def test_receipts_of_a_time_are_found_page_by_page(journal: Journal) -> None:
    ids = []
    for number in range(3):
        terms = replace(solo().contracts[0].record, nonce=bytes([number] * 16))
        contract = countersign(sign(terms, CLIENT), NODES[0])
        account = StageAccount(contract, SECRET, NODES[0])
        ids.append(contract.id)
        await journal.agree(contract, SESSION)
        account.add_inputs(0, pack_ids(range(1, 9)), 8)
        account.add_outputs(6, pack_ids(range(7, 10)), 3)
        account.commit(8)
        for place, proposal in enumerate(account.due(NOW)):
            await journal.propose(proposal.signed)
            if place == 0 or number < 2:  # of the third one the second is never signed
                await journal.complete(countersign(proposal.signed, CLIENT))
    first, second = sorted(ids[:2])

    async def found(after: bytes, since: int, until: int, count: int) -> list[RecordId]:
        page = await journal.read(lambda reader: reader.settled((since, RecordId(after)), until, count))
        return [earned.contract.id for earned in page]

    assert await found(b"", NOW, NOW + 1, 9) == [first, second]
    assert await found(b"", NOW, NOW + 1, 1) == [first]
    assert await found(first, NOW, NOW + 1, 9) == [second]
    assert await found(b"", NOW + 1, NOW + 2, 9) == await found(b"", NOW - 1, NOW, 9) == []


async def test_the_highest_number_is_kept_whatever_the_order(journal: Journal) -> None:
    route, complete = finished()
    await journal.agree(route.contracts[0], SESSION)
    for receipt in (complete[1], complete[2], complete[0]):
        await journal.complete(receipt)
    earned = await journal.read(lambda reader: reader.complete(route.contracts[0].id))
    assert earned is not None
    assert earned.receipt.record.seq == complete[2].record.seq


async def test_a_contract_is_found_with_its_session(journal: Journal) -> None:
    contract = solo().contracts[0]
    await journal.agree(contract, SESSION)
    assert await journal.read(lambda reader: reader.contract(contract.id)) == (contract, SESSION)
    assert await journal.read(lambda reader: reader.contract(RecordId(bytes(32)))) is None


async def test_a_contract_opens_once(journal: Journal) -> None:
    contract = solo().contracts[0]
    await journal.agree(contract, SESSION)
    with pytest.raises(RemoteProtocolError) as error:
        await journal.agree(contract, SESSION)
    assert error.value.code is Code.BAD_STATE


async def test_a_proposal_may_be_stored_again(journal: Journal) -> None:
    due = await proposed(journal, solo(), 8)
    await journal.propose(due[0])
    assert [receipt for _, receipt in await journal.read(JournalReader.pending)] == due


async def test_a_second_body_under_one_number_is_refused(journal: Journal) -> None:
    route = solo()
    (first, *_) = await proposed(journal, route, 8)
    other = sign(replace(first.record, time=NOW + 1), NODES[0])
    with pytest.raises(LocalProtocolError):
        await journal.propose(other)
    await journal.complete(countersign(first, CLIENT))
    with pytest.raises(LocalProtocolError):
        await journal.complete(countersign(other, CLIENT))


async def test_a_complete_receipt_settles_all_proposals_up_to_it(journal: Journal) -> None:
    first, second = await proposed(journal, solo(), 8)
    await journal.complete(countersign(first, CLIENT))
    assert [receipt for _, receipt in await journal.read(JournalReader.pending)] == [second]
    await journal.complete(countersign(second, CLIENT))
    assert await journal.read(JournalReader.pending) == []


async def test_pending_proposals_are_found_by_client(journal: Journal) -> None:
    await proposed(journal, solo(), 4)
    assert await journal.read(lambda reader: reader.pending(STRANGER.public)) == []
    assert len(await journal.read(lambda reader: reader.pending(CLIENT.public))) == 1


async def test_a_receipt_without_its_contract_is_not_stored(journal: Journal) -> None:
    _, complete = finished()
    with pytest.raises(JournalError):
        await journal.complete(complete[0])


async def test_receipts_are_found_by_time_and_payer(journal: Journal) -> None:
    route, complete = finished()
    await journal.agree(route.contracts[0], SESSION)
    await journal.complete(complete[-1])
    assert len(await journal.read(lambda reader: reader.earned(NOW, NOW, CLIENT.public))) == 1
    assert await journal.read(lambda reader: reader.earned(NOW + 1)) == []
    assert await journal.read(lambda reader: reader.earned(0, NOW - 1)) == []
    assert await journal.read(lambda reader: reader.earned(payer=STRANGER.public)) == []


async def test_a_receipt_is_found_by_the_first_digits_of_its_contract(journal: Journal) -> None:
    route, complete = finished()
    await journal.agree(route.contracts[0], SESSION)
    await journal.complete(complete[-1])
    digits = route.contracts[0].id.hex()
    assert len(await journal.read(lambda reader: reader.find_receipts(digits[:7].upper()))) == 1
    assert await journal.read(lambda reader: reader.find_receipts("0" * 64)) == []


async def test_a_receipt_is_sent_until_the_node_has_it(journal: Journal) -> None:
    route, complete = finished()
    await journal.agree(route.contracts[0], SESSION)
    await journal.complete(complete[0])
    unstored = lambda reader: reader.unstored(CLIENT.public, NODES[0].public)  # noqa: E731
    assert len(await journal.read(unstored)) == 1
    assert await journal.read(lambda reader: reader.unstored(STRANGER.public, NODES[0].public)) == []
    await journal.acknowledge(route.contracts[0].id, complete[0].record.seq)
    assert await journal.read(unstored) == []
    await journal.complete(complete[-1])
    assert len(await journal.read(unstored)) == await journal.read(JournalReader.count_unstored) == 1


async def test_certificates_stay_after_they_are_renewed(journal: Journal) -> None:
    certificates = [certificate_for(NODES[0], serial=serial) for serial in (1, 2)]
    for certificate in (*certificates, certificates[0]):
        await journal.certify(certificate)
    found = await journal.read(JournalReader.certificates)
    assert found == sorted(certificates, key=lambda certificate: certificate.id)


async def test_statements_are_numbered(journal: Journal) -> None:
    assert await journal.read(JournalReader.last_statement) is None
    await journal.add_statement(1, RecordId(bytes(32)), NOW, 0)
    await journal.add_statement(2, RecordId(b"2" * 32), NOW, 1)
    assert await journal.read(JournalReader.last_statement) == (2, b"2" * 32)
    with pytest.raises(JournalError):
        await journal.add_statement(3, RecordId(b"3" * 32), NOW, 1)


# Standing of a client


def signed(reader: JournalReader) -> int:
    return reader.signed(CLIENT.public)


async def test_an_unknown_client_has_signed_nothing(journal: Journal) -> None:
    assert await journal.read(signed) == 0
    assert await journal.read(lambda reader: reader.known_nodes(CLIENT.public)) == frozenset()


async def test_work_counts_once_when_its_final_receipt_is_complete(journal: Journal) -> None:
    route, complete = finished()
    await journal.agree(route.contracts[0], SESSION)
    for receipt in complete[:-1]:
        await journal.complete(receipt)
    assert await journal.read(signed) == 0
    for _ in range(2):
        await journal.complete(complete[-1])
    usage = complete[-1].record.usage
    assert await journal.read(signed) == usage.prefill + usage.decode


async def test_who_was_paid_in_vain_is_named_with_all_of_the_session_until_each_has_answered(journal: Journal) -> None:
    route = paid_route(stages=2, prompt=22, layers=6, limits=SMALL)
    for contract in route.contracts:
        await journal.agree(contract, SESSION)
    route.compute(16)
    [first, *_] = [decision.receipt for decision in route.propose_all() if isinstance(decision, Sign)]
    await journal.complete(first)
    pair = frozenset(node.public for node in NODES[:2])
    read = lambda reader: reader.paid_in_vain(CLIENT.public)  # noqa: E731
    assert await journal.read(read) == [pair]
    alone, complete = finished()  # of the first of the two
    await journal.agree(alone.contracts[0], SessionId(b"another session "))
    await journal.complete(complete[-1])
    assert await journal.read(read) == [pair]


async def test_an_answer_that_came_was_not_paid_in_vain_though_a_stage_was_lost_before_its_final(
    journal: Journal,
) -> None:
    route = paid_route(stages=2, prompt=6, layers=6, limits=SMALL)
    for contract in route.contracts:
        await journal.agree(contract, SESSION)
    route.compute(8)
    route.deliver(3)
    await journal.complete(*route.settle(route.propose_all()))
    read = lambda reader: reader.paid_in_vain(CLIENT.public)  # noqa: E731
    assert await journal.read(read) == [frozenset(node.public for node in NODES[:2])]
    for stage in route.stages:
        stage.close(Code.END)
    [final, _of_the_lost] = route.settle(route.propose_all())
    await journal.complete(final)
    assert await journal.read(read) == []


async def test_the_only_stage_that_was_paid_in_vain_is_named_until_it_has_answered(journal: Journal) -> None:
    route, complete = finished()
    await journal.agree(route.contracts[0], SESSION)
    await journal.complete(complete[0])
    read = lambda reader: reader.paid_in_vain(CLIENT.public)  # noqa: E731
    assert await journal.read(read) == [frozenset({NODES[0].public})]
    await journal.complete(complete[-1])
    assert await journal.read(read) == []


async def test_a_node_knows_a_client_once_it_said_that_it_has_the_final_receipt(journal: Journal) -> None:
    route, complete = finished()
    await journal.agree(route.contracts[0], SESSION)
    await journal.complete(complete[-1])
    assert await journal.read(lambda reader: reader.known_nodes(CLIENT.public)) == frozenset()
    await journal.acknowledge(route.contracts[0].id, complete[-1].record.seq)
    assert await journal.read(lambda reader: reader.known_nodes(CLIENT.public)) == {NODES[0].public}


# What never became money


def unsigned(number: int) -> PaidRoute:
    """Another contract, with its number in the nonce."""
    route = solo()
    terms = replace(route.contracts[0].record, nonce=number.to_bytes(16, "big"), expires=EXPIRES + number)
    contract = countersign(sign(terms, CLIENT), NODES[0])
    return PaidRoute(route.prompt, [contract], [StageAccount(contract, SECRET, NODES[0])], route.client, [])


async def test_a_contract_is_stored_with_its_first_proposal(journal: Journal) -> None:
    route = solo()
    route.compute(4)
    [proposal] = route.head.due(NOW)
    await journal.propose_first(proposal.signed, route.contracts[0], SESSION)
    assert await journal.read(JournalReader.pending) == [(route.contracts[0], proposal.signed)]


async def sure(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal was open for DOUBT_S, and a contract of long after the others is in it."""
    monkeypatch.setattr(journal_module, "DOUBT_S", 0.0)
    later = {"issued": NOW + UNSIGNED_S + 1, "expires": EXPIRES + UNSIGNED_S + 1}
    terms = replace(solo().contracts[0].record, nonce=bytes(16), **later)
    await journal.agree(countersign(sign(terms, CLIENT), NODES[0]), SESSION)


@in_a_file
async def test_what_nobody_signed_is_forgotten_after_a_month(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    await sure(journal, monkeypatch)
    await proposed(journal, solo(), 8)
    await journal.prune(EXPIRES + UNSIGNED_S)
    assert len(await journal.read(JournalReader.pending)) == 2
    await journal.prune(EXPIRES + UNSIGNED_S + 1)
    assert await journal.read(JournalReader.pending) == []
    assert rows(journal, "contract") == 1


async def test_a_clock_that_is_wrong_at_the_start_forgets_nothing(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sure(journal, monkeypatch)
    monkeypatch.setattr(journal_module, "DOUBT_S", 3_600.0)
    await proposed(journal, solo(), 8)
    await journal.prune(EXPIRES + UNSIGNED_S + 1)
    assert len(await journal.read(JournalReader.pending)) == 2


async def test_a_clock_that_stays_wrong_forgets_nothing_while_nobody_agrees_to_it(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "DOUBT_S", 0.0)
    await proposed(journal, solo(), 8)
    await journal.prune(EXPIRES + 100 * UNSIGNED_S)
    assert len(await journal.read(JournalReader.pending)) == 2


async def test_a_receipt_is_never_forgotten(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    await sure(journal, monkeypatch)
    route, complete = finished()
    await journal.agree(route.contracts[0], SESSION)
    await journal.complete(complete[0])
    await journal.propose(
        SignedRecord(complete[-1].record, complete[-1].id, complete[-1].body, complete[-1].signatures[:1])
    )
    await journal.prune(EXPIRES + UNSIGNED_S + 1)
    assert await journal.read(JournalReader.pending) == []
    assert len(await journal.read(JournalReader.earned)) == 1


async def test_of_what_nobody_signs_the_newest_are_kept(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_changes, "MAX_UNSIGNED", 3)
    for number in range(5):
        await proposed(journal, unsigned(number), 4)
    await journal.prune(NOW)
    kept = [contract.record.expires - EXPIRES for contract, _ in await journal.read(JournalReader.pending)]
    assert sorted(kept) == [2, 3, 4]


async def test_much_work_that_nobody_signs_is_not_pushed_out_by_little(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_changes, "MAX_UNSIGNED", 2)
    await proposed(journal, unsigned(0), 8)
    for number in range(1, 5):
        await proposed(journal, unsigned(number), 4)
    await journal.prune(NOW)
    kept = {contract.record.expires - EXPIRES for contract, _ in await journal.read(JournalReader.pending)}
    assert kept == {0, 4}


def rows(journal: Journal, table: str) -> int:
    with closing(sqlite3.connect(journal.path)) as reader:
        return int(reader.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


# Writing


class Gate:
    """Holds the first commit until it is opened; notes how many stores each commit takes, and its thread."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.threads: set[int] = set()
        self._reached, self._open = threading.Event(), threading.Event()

    def commit(self, db: sqlite3.Connection, path: Path, batch: list[Awaited]) -> int:
        self.batches.append(len(batch))
        self.threads.add(threading.get_ident())
        self._reached.set()
        assert self._open.wait(timeout=10)  # a test that fails before it opens the gate must end
        return COMMIT(db, path, batch)

    async def wait_reached(self) -> None:
        await trio.to_thread.run_sync(self._reached.wait)

    def open(self) -> None:
        self._open.set()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    gate = Gate()
    monkeypatch.setattr(journal_changes, "commit", gate.commit)
    return gate


@in_a_file
async def test_what_waits_during_a_commit_shares_the_next(journal: Journal, gate: Gate) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(journal.certify, certificate_for(NODES[0]))
        await gate.wait_reached()
        for serial in range(MAX_BATCH + 10):
            nursery.start_soon(journal.certify, certificate_for(NODES[0], serial=serial))
        await wait_all_tasks_blocked()
        gate.open()
    assert gate.batches == [1, MAX_BATCH, 10]


@in_a_file
async def test_what_is_stored_in_one_pass_shares_a_commit(journal: Journal, gate: Gate) -> None:
    gate.open()
    async with trio.open_nursery() as nursery:
        for serial in range(100):
            nursery.start_soon(journal.certify, certificate_for(NODES[0], serial=serial))
    assert gate.batches == [100]


@in_a_file
async def test_one_thread_writes_all(journal: Journal, gate: Gate) -> None:
    gate.open()
    for serial in range(10):
        await journal.certify(certificate_for(NODES[0], serial=serial))
    assert len(gate.threads) == 1
    assert threading.get_ident() not in gate.threads


async def test_a_closed_journal_leaves_no_thread_at_work(path: Path) -> None:
    others = writing_threads()  # of the swarm that the tests share
    async with open_journal(path) as journal:
        await journal.certify(certificate_for(NODES[0]))
        assert len(writing_threads() - others) == 1
    assert writing_threads() <= others


def writing_threads() -> set[threading.Thread]:
    """Trio names a thread after what it does."""
    return {thread for thread in threading.enumerate() if thread.name.startswith("_write ")}


@in_a_file
async def test_one_refused_store_does_not_spoil_the_others(journal: Journal, gate: Gate) -> None:
    route, complete = finished()
    refused: list[JournalError] = []

    async def complete_unknown() -> None:
        try:
            await journal.complete(sign_unknown(complete[0]))
        except JournalError as error:
            refused.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(journal.agree, route.contracts[0], SESSION)
        await gate.wait_reached()
        nursery.start_soon(journal.complete, complete[0])
        nursery.start_soon(complete_unknown)
        nursery.start_soon(journal.complete, complete[1])
        await wait_all_tasks_blocked()
        gate.open()
    assert gate.batches == [1, 3, 1, 1, 1]
    assert len(refused) == 1
    assert len(await journal.read(JournalReader.earned)) == 1


def sign_unknown(receipt: SignedRecord[Receipt]) -> SignedRecord[Receipt]:
    """The receipt, for a contract the journal does not know."""
    return countersign(sign(replace(receipt.record, contract=RecordId(bytes(32))), NODES[0]), CLIENT)


async def test_after_a_fault_of_ours_nobody_waits_for_the_journal(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(*_: object) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr(journal_changes, "commit", fault)
    with pytest.RaisesGroup(pytest.RaisesGroup(ZeroDivisionError)):  # the error ends its owner
        async with open_journal(path) as journal:
            with trio.CancelScope(shield=True), pytest.raises(JournalError, match="has ended"):
                await journal.certify(certificate_for(NODES[0]))


async def test_a_cancelled_caller_does_not_undo_its_store(path: Path) -> None:
    async with open_journal(path) as journal:
        with trio.CancelScope() as scope:
            scope.cancel()
            await journal.certify(certificate_for(NODES[0]))
    with read_journal(path) as reader:
        assert len(reader.certificates()) == 1


async def test_a_caller_cancelled_during_the_commit_does_not_undo_its_store(path: Path, gate: Gate) -> None:
    async with open_journal(path) as journal, trio.open_nursery() as nursery:
        nursery.start_soon(journal.certify, certificate_for(NODES[0]))
        await gate.wait_reached()
        nursery.cancel_scope.cancel()
        gate.open()
    with read_journal(path) as reader:
        assert len(reader.certificates()) == 1


@pytest.mark.parametrize("stores", [1, MAX_BATCH + 10])
async def test_a_cancelled_journal_stores_what_waits(path: Path, gate: Gate, stores: int) -> None:
    with trio.CancelScope() as scope:
        async with open_journal(path) as journal, trio.open_nursery() as nursery:
            for serial in range(stores):
                nursery.start_soon(journal.certify, certificate_for(NODES[0], serial=serial))
            await gate.wait_reached()
            scope.cancel()
            gate.open()
    with read_journal(path) as reader:
        assert len(reader.certificates()) == stores


@pytest.mark.parametrize("place", ["changes.commit", "Journal._write_next"])
async def test_a_bug_on_either_side_of_the_thread_ends_the_journal(
    path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setattr(f"p2pinfer.disk.journal.{place}", lambda *_: 1 / 0)
    with pytest.raises(ExceptionGroup) as error:
        async with open_journal(path) as journal:
            await journal.certify(certificate_for(NODES[0]))
    assert error.group_contains(ZeroDivisionError)


async def test_what_waits_at_the_end_is_stored(path: Path) -> None:
    async with trio.open_nursery() as nursery, open_journal(path) as journal:
        nursery.start_soon(journal.certify, certificate_for(NODES[0]))
        await wait_all_tasks_blocked()
    with read_journal(path) as reader:
        assert len(reader.certificates()) == 1


async def test_a_closed_journal_stores_nothing(path: Path) -> None:
    async with open_journal(path) as journal:
        pass
    with pytest.raises(JournalError, match="closed"):
        await journal.certify(certificate_for(NODES[0]))


async def test_a_full_disk_is_a_journal_error_and_costs_nothing_stored(path: Path) -> None:
    async with open_journal(path) as journal:
        await journal.certify(certificate_for(NODES[0], serial=1))
        pages = journal._writer.execute("PRAGMA page_count").fetchone()[0]
        journal._writer.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(JournalError, match="full"):
            for serial in range(2, 500):
                await journal.certify(certificate_for(NODES[0], serial=serial))
        journal._writer.execute("PRAGMA max_page_count = 10000")
        await journal.certify(certificate_for(NODES[0], serial=1000))
    with read_journal(path) as reader:
        serials = {certificate.record.serial for certificate in reader.certificates()}
    assert {1, 2, 1000} <= serials


# Files


@in_a_file
async def test_a_journal_is_private(path: Path, journal: Journal) -> None:
    await journal.certify(certificate_for(NODES[0]))
    assert {file.stat().st_mode & 0o777 for file in path.parent.glob("node.journal*")} == {0o600}


@in_a_file
async def test_others_read_while_a_node_writes(path: Path, journal: Journal) -> None:
    with read_journal(path) as reader:
        assert reader.certificates() == []
        await journal.certify(certificate_for(NODES[0]))
        assert len(reader.certificates()) == 1


async def test_two_processes_may_write_one_journal(path: Path) -> None:
    async with open_journal(path) as first, open_journal(path) as second:
        await first.certify(certificate_for(NODES[0]))
        await second.certify(certificate_for(NODES[1]))
        assert len(await first.read(JournalReader.certificates)) == 2


def test_reading_a_journal_that_is_not_there_says_so(path: Path) -> None:
    with pytest.raises(UsageError, match="no journal"), read_journal(path):
        pass


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("PRAGMA user_version = 1", "version 1, this release knows 2: use the release that wrote it, or move"),
        ("PRAGMA application_id = 1", "is not a journal of p2pinfer"),
        ("DROP TABLE proposal", "altered"),
        ("ALTER TABLE receipt ADD COLUMN tip INTEGER", "altered"),
        ("CREATE TRIGGER t AFTER INSERT ON receipt BEGIN DELETE FROM receipt; END", "altered"),
    ],
)
async def test_an_altered_journal_is_refused(path: Path, change: str, message: str) -> None:
    async with open_journal(path):
        pass
    connection = sqlite3.connect(path)
    connection.execute(change)
    connection.commit()
    connection.close()
    with pytest.raises(JournalError, match=message):
        async with open_journal(path):
            pass
    with pytest.raises(JournalError, match=message), read_journal(path):
        pass


def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    path.write_bytes(b"not a database" * 1000)
    with pytest.raises(JournalError):
        trio.run(fill, path)


def test_a_damaged_file_is_refused(path: Path) -> None:
    trio.run(fill, path)
    data = bytearray(path.read_bytes())
    data[8192:] = bytes(len(data) - 8192)
    path.write_bytes(data)
    with pytest.raises(JournalError):
        trio.run(fill, path)


async def fill(path: Path) -> None:
    """Write some pages to a journal."""
    async with open_journal(path) as journal:
        for serial in range(100):
            await journal.certify(certificate_for(NODES[0], serial=serial))


async def fill_all(path: Path) -> None:
    """Write something to every table."""
    await fill(path)
    async with open_journal(path) as journal:
        route, (first, second, *_) = finished()
        await journal.agree(route.contracts[0], SESSION)
        await journal.complete(first)
        await journal.propose(second)


CHANGES = {
    "contract": "UPDATE contract SET body = x'93'",
    "receipt": "UPDATE receipt SET body = zeroblob(200)",
    "proposal": "UPDATE proposal SET body = x''",
    "certificate": "UPDATE certificate SET body = x'97016162'",
}
QUERIES: dict[str, Callable[[JournalReader], object]] = {
    "contract": lambda reader: reader.find_receipts(""),
    "receipt": JournalReader.earned,
    "proposal": JournalReader.pending,
    "certificate": JournalReader.certificates,
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_record_that_is_none_is_the_journals_fault(path: Path, what: str) -> None:
    trio.run(fill_all, path)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute(CHANGES[what]).rowcount
        db.commit()
    with closing(connect_reader(path, checked=True)) as connection, pytest.raises(JournalError) as error:
        QUERIES[what](JournalReader(connection, path))
    with pytest.raises(JournalError) as told, read_journal(path):
        pass
    for words in (str(error.value), str(told.value)):
        assert words.startswith(f"the journal {path} is damaged: ")
        assert words.endswith("put a copy made with `p2pinfer backup` in its place")


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
def test_damage_after_the_journal_was_opened_is_its_fault(path: Path, query: Callable[[JournalReader], object]) -> None:
    trio.run(fill_all, path)
    with closing(connect_reader(path)) as connection:
        connection.execute("PRAGMA shrink_memory")  # what was read in order to trust it is forgotten
        path.write_bytes(b"\xff" * path.stat().st_size)
        with pytest.raises(JournalError, match=rf"cannot read the journal {path} \(.*try again, and if that"):
            query(JournalReader(connection, path))


async def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(JournalError):
        async with open_journal(tmp_path / "file" / "node.journal"):
            pass


def test_an_acknowledged_receipt_survives_kill_9(path: Path) -> None:
    _, complete = finished()
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        said = [int(writer.stdout.readline()) for _ in complete]
        writer.send_signal(signal.SIGKILL)
    with read_journal(path) as reader:
        (earned,) = reader.earned()
    assert earned.receipt.record.seq == max(said)
