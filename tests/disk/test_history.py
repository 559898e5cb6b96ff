"""A journal with a long past: no query goes through all of it, and its sums are those of its rows."""

import inspect
import sqlite3
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path

import pytest

from p2pinfer.cli.earnings_report import read_parts
from p2pinfer.core.money.ledger import By, Subtotal, fold, fold_all
from p2pinfer.core.records.receipt import Receipt
from p2pinfer.core.records.records import SignedRecord
from p2pinfer.core.values.errors import JournalError
from p2pinfer.core.values.units import RecordId, SessionId
from p2pinfer.disk.journal import FileJournal, Journal, open_journal
from p2pinfer.disk.journal_check import prove
from p2pinfer.disk.journal_file import connect_reader
from p2pinfer.disk.journal_reader import JournalReader, read_journal
from p2pinfer.disk.journal_tables import create_tables, digest_in_sql
from p2pinfer.disk.journal_totals import Counted, Parties, count
from tests.bench.past import Past, make_past
from tests.cli.books import CERTIFICATE, paid, session_of, store, with_seq
from tests.core.paid_route import CLIENT, DAY_S, NODES, NOW, STRANGER, paid_route

SHORT, LONG = 90, 900  # contracts
NODE = NODES[0].public
FIRST = NOW // DAY_S * DAY_S
SESSION = SessionId((1).to_bytes(16, "big"))

QUERIES: dict[str, Callable[[JournalReader], object]] = {
    "certificates": JournalReader.certificates,
    "contract": lambda reader: reader.contract(RecordId(bytes(32))),
    "earned": lambda reader: reader.earned(FIRST, FIRST + DAY_S - 1, CLIENT.public),
    "parts": lambda reader: reader.parts(FIRST + 99 * DAY_S),
    "totals": JournalReader.totals,
    "newest": JournalReader.newest,
    "count_earned": lambda reader: reader.count_earned(FIRST, FIRST, CLIENT.public),
    "settled": lambda reader: reader.settled((FIRST, RecordId(b"")), FIRST + DAY_S, 5),
    "complete": lambda reader: reader.complete(RecordId(bytes(32))),
    "find_receipts": lambda reader: reader.find_receipts("abcdef"),
    "find_proposed": lambda reader: reader.find_proposed("abcdef"),
    "pending": lambda reader: (reader.pending(), reader.pending(CLIENT.public)),
    "count_proposed": JournalReader.count_proposed,
    "unstored": lambda reader: reader.unstored(CLIENT.public, NODE),
    "count_unstored": JournalReader.count_unstored,
    "signed": lambda reader: reader.signed(CLIENT.public),
    "known_nodes": lambda reader: reader.known_nodes(CLIENT.public),
    "paid_in_vain": lambda reader: reader.paid_in_vain(CLIENT.public),
    "unpaid": lambda reader: reader.unpaid(SESSION),
    "unpaid_sessions": JournalReader.unpaid_sessions,
    "unfinished": lambda reader: reader.unfinished(FIRST + 99 * DAY_S),
    "last_statement": JournalReader.last_statement,
}
# What may be gone through from end to end: it is bounded, or is no more than what is asked for
WHOLE = {
    "seal",
    "certificate",  # one in some weeks
    "statement",
    "total",  # a day and two keys
    "proposal",  # MAX_UNSIGNED contracts
    "proposal USING COVERING INDEX proposal_client",
    "receipt USING INDEX receipt_unstored",  # of nodes that never came back
    "delivered USING COVERING INDEX delivered_time",  # MAX_DELIVERED
}


@pytest.fixture(scope="module")
def journals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("history")
    pasts = {
        "node short": Past(SHORT),
        "node long": Past(LONG),
        "client short": Past(SHORT, stages=3, is_client=True),
        "client long": Past(LONG, stages=3, is_client=True),
    }
    for name, past in pasts.items():
        make_past(folder / name, past)
    return {name: folder / name for name in pasts}


def plans(connection: sqlite3.Connection, act: Callable[[], object]) -> dict[str, list[str]]:
    """What SQLite does for each statement of an act."""
    asked: list[str] = []
    connection.set_trace_callback(asked.append)
    try:
        act()
    finally:
        connection.set_trace_callback(None)
    # Triggers are traced as comments
    asked = [sql for sql in asked if sql.split()[0] in ("SELECT", "INSERT", "UPDATE", "DELETE")]
    return {sql: [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}")] for sql in asked}


def scanned(found: dict[str, list[str]]) -> set[str]:
    """Tables, and indexes, that are gone through from end to end."""
    steps = [step for plan in found.values() for step in plan]
    return {step.removeprefix("SCAN ") for step in steps if step.startswith("SCAN ")} - WHOLE


# Queries


def test_every_query_is_looked_at_here() -> None:
    public = {name for name, _ in inspect.getmembers(JournalReader, inspect.isfunction) if not name.startswith("_")}
    assert set(QUERIES) == public - {"one_moment"}


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
@pytest.mark.parametrize("whose", ["node long", "client long"])
def test_no_query_goes_through_all_of_a_long_journal(
    journals: dict[str, Path], whose: str, query: Callable[[JournalReader], object]
) -> None:
    with closing(connect_reader(journals[whose])) as connection:
        reader = JournalReader(connection, journals[whose])
        found = plans(connection, lambda: query(reader))
        assert found
        assert scanned(found) == set()


# What a client asks at its start and for each answer, and a node for each open and each link
OFTEN = ("contract", "signed", "known_nodes", "paid_in_vain", "unpaid", "unpaid_sessions", "unstored", "complete")


@pytest.mark.parametrize("query", [QUERIES[name] for name in OFTEN], ids=OFTEN)
@pytest.mark.parametrize("whose", ["node", "client"])
def test_what_is_asked_often_costs_what_it_did_at_first(
    journals: dict[str, Path], whose: str, query: Callable[[JournalReader], object]
) -> None:
    def steps(path: Path) -> int:
        """Of SQLite's machine."""
        counted = 0

        def count() -> int:
            nonlocal counted
            counted += 1
            return 0

        with closing(connect_reader(path)) as connection:
            connection.set_progress_handler(count, 1)
            query(JournalReader(connection, path))
        return counted

    broken = 60 if query is QUERIES["paid_in_vain"] else 1  # steps for each that was: ten times as many here
    assert steps(journals[f"{whose} long"]) <= steps(journals[f"{whose} short"]) + 20 * broken


async def test_no_change_goes_through_all_of_a_journal(tmp_path: Path) -> None:
    entry = paid(1)
    async with open_journal(tmp_path / "j") as journal:
        await journal.certify(CERTIFICATE)
        asked: list[str] = []
        journal._writer.set_trace_callback(asked.append)
        await journal.agree(entry.contract, session_of(entry))
        await journal.propose(entry.receipt)
        await journal.complete(entry.receipt)
        await journal.acknowledge(entry.contract.id, 1)
        await journal.keep(session_of(entry), CLIENT.public, paid_route(stages=1).client.kept(), NOW)
        await journal.drop(session_of(entry))
        await journal.add_statement(1, RecordId(bytes(32)), NOW, 0)
        await journal.prune(NOW)
        journal._writer.set_trace_callback(None)
        changes = [sql for sql in asked if sql.split()[0] in ("SELECT", "INSERT", "UPDATE", "DELETE")]
        assert len(changes) > 15
        found = {sql: [row[3] for row in journal._writer.execute(f"EXPLAIN QUERY PLAN {sql}")] for sql in changes}
    assert scanned(found) == set()


def test_ten_times_the_receipts_of_as_many_days_take_no_more_memory(journals: dict[str, Path]) -> None:
    def peak(path: Path) -> int:
        with read_journal(path) as reader:
            fold(read_parts(reader, By.DAY, 0), By.DAY)  # what is loaded at first is no part of it
            tracemalloc.start()
            try:
                assert 80 < len(read_parts(reader, By.DAY, 0)) <= 101
                return tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()

    assert peak(journals["node long"]) < 1.5 * peak(journals["node short"])


# Sums


@pytest.mark.parametrize("by", [By.DAY, By.MODEL, By.PAYER, By.OWNER, By.NODE])
@pytest.mark.parametrize("whose", ["node long", "client long"])
def test_sums_are_those_of_the_receipts(journals: dict[str, Path], whose: str, by: By) -> None:
    since = FIRST + 40 * DAY_S
    with read_journal(journals[whose]) as reader:
        earned = [one.part for one in reader.earned(since)]
        assert 0 < len(earned) < LONG
        assert fold(reader.totals(since), by) == fold(earned, by) == fold(reader.parts(since), by)
        assert reader.parts(since) == earned


async def sums(journal: Journal) -> list[Subtotal]:
    with closing(connect_reader(journal.path)) as connection:
        prove(connection, journal.path)
    return await journal.read(JournalReader.totals)


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    async with open_journal(tmp_path / "j") as journal:
        yield journal


def at(entry_time: int, seq: int, positions: int) -> SignedRecord[Receipt]:
    return with_seq(paid(1, time=entry_time, issued=NOW - 60, expires=NOW + 3600), seq, positions).receipt


async def test_a_receipt_takes_the_place_of_the_one_before_in_the_sums(journal: Journal) -> None:
    entry = paid(1)
    await store(journal, entry)
    later = with_seq(entry, 2, 300)
    for receipt in (later.receipt, later.receipt, entry.receipt):  # again, and late
        await journal.complete(receipt)
    [part] = await sums(journal)
    assert (part.receipts, part.positions, part.amount) == (1, 300, later.receipt.record.amount)


async def test_a_receipt_of_the_next_day_leaves_nothing_in_the_one_before(journal: Journal) -> None:
    first = paid(1, final=False)
    await store(journal, first)
    tomorrow = at(NOW + DAY_S, 2, 300)
    assert tomorrow.record.contract == first.contract.id
    await journal.complete(tomorrow)
    [part] = await sums(journal)
    assert (part.day, part.receipts, part.positions) == ((NOW + DAY_S) // DAY_S, 1, 300)


async def test_different_parties_have_sums_of_their_own(journal: Journal) -> None:
    for entry in (paid(1), paid(2), paid(3, client=STRANGER)):
        await store(journal, entry)
    assert sorted(part.receipts for part in await sums(journal)) == [1, 2]


async def test_a_change_that_the_disk_refuses_changes_no_sum(journal: FileJournal) -> None:
    await store(journal, paid(1))
    before = await sums(journal)
    pages = journal._writer.execute("PRAGMA page_count").fetchone()[0]
    journal._writer.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(JournalError, match="full"):
        for number in range(2, 100):
            await store(journal, paid(number, 300, client=STRANGER))
            before = await sums(journal)
    assert await sums(journal) == before
    journal._writer.execute("PRAGMA max_page_count = 10000")
    await store(journal, paid(100))
    assert fold_all(await sums(journal)).receipts == fold_all(before).receipts + 1


def test_promises_without_sense_are_summed() -> None:
    most, parties = 2**53 - 1, Parties(CLIENT.public, NODES[0].public, b"o" * 32, b"m" * 32, 10)
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        db.create_function("row_digest", -1, digest_in_sql, deterministic=True)
        create_tables(db)
        for _ in range(1_100):  # together more than a column holds
            count(db, parties, Counted(1, 1, NOW, 2_000, 200, 100, most), None)
        db.execute("UPDATE seal SET receipt = 1100")
        [part] = JournalReader(db, Path()).totals()
    assert part.amount == 1_100 * most
