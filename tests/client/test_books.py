"""The books of a generation: ids wait for no disk, nothing is sent before it is durable, and a kill finds proofs."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from p2pinfer.client.books import KEEP_S, Books, Purse
from p2pinfer.client.contracts import Plan
from p2pinfer.core.money.client_account import Refuse
from p2pinfer.core.values.errors import JournalError
from p2pinfer.core.values.units import SessionId
from p2pinfer.core.wire.session_messages import Propose, Signed
from p2pinfer.disk.journal import Journal, open_journal
from p2pinfer.disk.journal_changes import Change
from p2pinfer.disk.journal_reader import Unpaid, read_journal
from p2pinfer.overlay.machine import Machine
from tests.core.paid_route import CLIENT, SECRET, SMALL, PaidRoute, paid_route

SESSION = SessionId(b"session of 16 by")
PROMPT, CADENCE = 6, SMALL.cadence


class Disk:
    """Under the journal of a client: it may be full, or take a commit only when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_full = False
        self.commits = 0
        self.takes, self.asked = trio.Event(), trio.Event()
        self.takes.set()
        store = Journal._store

        async def slow(journal: Journal, change: Change) -> None:
            self.asked.set()
            await self.takes.wait()
            if self.is_full:
                raise JournalError("not stored: the disk is full")
            await store(journal, change)
            self.commits += 1

        monkeypatch.setattr(Journal, "_store", slow)

    def hold(self) -> None:
        """Take no commit from now on, until `takes` is set."""
        self.takes, self.asked = trio.Event(), trio.Event()


class Payer:
    """A client's books over three stages, and what it said and how it failed."""

    def __init__(self, journal: Journal) -> None:
        self.path = journal.path
        self.route: PaidRoute = paid_route(prompt=PROMPT, limits=SMALL)
        self.said: list[tuple[int, int]] = []  # place and number
        self.failures: list[JournalError] = []
        plan = Plan(SESSION, SECRET, (None,) * 3, (), ())  # type: ignore[arg-type]  # as many stages
        purse = Purse(CLIENT, journal)
        self.books = Books(plan, self.route.prompt, purse, Machine().unix, self.say, self.failures.append)
        for place, contract in enumerate(self.route.contracts):
            self.books.agree(place, contract)

    def say(self, place: int, message: Signed) -> None:
        with read_journal(self.path) as reader:  # it is durable
            found = reader.complete(self.route.contracts[place].id)
        assert found is not None and found.receipt.body == message.receipt
        self.said.append((place, found.receipt.record.seq))

    def deliver(self, count: int) -> list[Refuse]:
        first = 1000 + PROMPT + len(self.route.generated)
        ids = list(range(first, first + count))
        self.route.generated += ids
        return self.books.add_ids(ids)

    def propose(self, upto: int) -> list[Refuse]:
        """All stages compute so far, and propose what is due."""
        self.route.compute(upto)
        refused = []
        for place, stage in enumerate(self.route.stages):
            for proposal in stage.due(1_790_000_000):
                message = Propose(SESSION, proposal.signed.body, proposal.signed.signatures[0])
                refused += self.books.propose(place, message, trio.current_time())
        return refused

    @property
    def proven(self) -> int:
        """Positions that the journal can prove."""
        with read_journal(self.path) as reader:
            unpaid: Unpaid | None = reader.unpaid(SESSION)
        return unpaid.delivered.counted if unpaid is not None and unpaid.delivered is not None else 0


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


@asynccontextmanager
async def opened(root: Path) -> AsyncIterator[Payer]:
    """Books whose contracts are stored, while their task runs."""
    async with open_journal(root / "client.sqlite") as journal, trio.open_nursery() as nursery:
        payer, agreed = Payer(journal), trio.Event()
        payer.books.when_agreed(agreed.set)
        nursery.start_soon(payer.books.run)
        await agreed.wait()
        yield payer
        payer.books.close()


async def settled(check: Callable[[], object]) -> None:
    """Until it holds: commits are made in a thread."""
    with trio.fail_after(20):
        while not check():  # noqa: ASYNC110 - nobody tells of it
            await trio.sleep(0.005)


async def test_all_that_is_due_is_one_commit_and_sent_after_it(tmp_path: Path, disk: Disk) -> None:
    async with opened(tmp_path) as payer:
        disk.hold()
        commits = disk.commits
        payer.deliver(3)
        assert payer.propose(8) == []
        await disk.asked.wait()
        await wait_all_tasks_blocked()
        assert payer.said == []  # the ids were counted all the same
        assert payer.books.account is not None and payer.books.account.counted == 8
        disk.takes.set()
        await settled(lambda: len(payer.said) == 3)
        assert sorted(payer.said) == [(0, 2), (1, 2), (2, 2)]
        assert disk.commits == commits + 1


async def test_what_a_full_disk_did_not_take_is_not_signed_whatever_was_decided_meanwhile(
    tmp_path: Path, disk: Disk
) -> None:
    async with opened(tmp_path) as payer:
        payer.deliver(3)
        payer.propose(8)
        await settled(lambda: len(payer.said) == 3)
        disk.hold()
        disk.is_full = True
        payer.deliver(4)
        payer.propose(12)
        await disk.asked.wait()
        payer.deliver(4)
        payer.propose(16)  # and this is decided meanwhile
        account = payer.books.account
        assert account is not None
        assert [account.signed(place) for place in range(3)] == [16] * 3
        disk.takes.set()
        await settled(lambda: payer.failures)
        await settled(lambda: [account.signed(place) for place in range(3)] == [8] * 3)
        assert len(payer.said) == 3
        disk.is_full = False
        payer.deliver(1)
        payer.propose(17)  # with whatever comes next it is decided anew
        await settled(lambda: len(payer.said) == 6)
        assert [account.signed(place) for place in range(3)] == [16] * 3


async def test_the_first_id_and_every_multiple_are_kept_though_nobody_proposes(tmp_path: Path, disk: Disk) -> None:
    async with opened(tmp_path) as payer:
        payer.deliver(1)
        await settled(lambda: payer.proven == PROMPT)
        for multiple in range(8, 29, CADENCE):
            assert payer.books.account is not None
            payer.deliver(multiple - payer.books.account.counted)
            await settled(lambda: payer.proven == multiple)  # noqa: B023 - it is called here


async def test_what_lies_between_is_kept_within_a_second(tmp_path: Path, disk: Disk) -> None:
    async with opened(tmp_path) as payer:
        payer.deliver(1)
        await settled(lambda: payer.proven == PROMPT)
        payer.deliver(1)
        began = trio.current_time()
        await settled(lambda: payer.proven == PROMPT + 1)
        assert trio.current_time() <= began + KEEP_S + 5  # however busy the machine is


async def test_what_an_answer_came_to_is_kept_at_its_end(tmp_path: Path, disk: Disk) -> None:
    async with opened(tmp_path) as payer:
        payer.deliver(1)
        await settled(lambda: payer.proven == PROMPT)
        payer.deliver(1)
        payer.books.give_up()
    assert payer.proven == PROMPT + 1


async def test_what_was_decided_is_stored_and_sent_by_one_that_is_cancelled(tmp_path: Path, disk: Disk) -> None:
    async with open_journal(tmp_path / "client.sqlite") as journal:
        payer, agreed = Payer(journal), trio.Event()
        payer.books.when_agreed(agreed.set)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(payer.books.run)
            await agreed.wait()
            payer.deliver(3)
            payer.propose(8)
            nursery.cancel_scope.cancel()
        assert len(payer.said) == 3


async def test_a_disk_that_takes_nothing_holds_up_no_id(tmp_path: Path, disk: Disk) -> None:
    async with opened(tmp_path) as payer:
        disk.takes = trio.Event()
        for _ in range(30):
            assert payer.deliver(1) == []
            await trio.lowlevel.checkpoint()
        assert payer.books.account is not None
        assert payer.books.account.counted == PROMPT + 29
        disk.takes.set()
    assert payer.proven == PROMPT + 29
