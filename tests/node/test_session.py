"""One session of a node against the clock: signatures that do not come, rows that do not come, a disk that fails.

Links and journal are kept in memory, and the engine is the test: nothing here waits for a thread.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from p2pinfer.core.codes import Code
from p2pinfer.core.contract import EXPIRY_S
from p2pinfer.core.errors import JournalError, LinkDead
from p2pinfer.core.messages import Message
from p2pinfer.core.receipt import FINAL, Receipt
from p2pinfer.core.records import SignedRecord, countersign
from p2pinfer.core.session_messages import Close, Credit, Forward, Propose, SessionMessage, Signed, Stored
from p2pinfer.core.stage import StageSession, StageTerms
from p2pinfer.core.stage_account import StageAccount
from p2pinfer.core.units import Codec, PeerKey, Roles, SessionId, Span, row_bytes
from p2pinfer.engine.steps import Output
from p2pinfer.node.session import IDLE_S, SETTLE_S, UNPAID_S, Session
from p2pinfer.overlay.outbox import Priority
from tests.core.paid_route import CLIENT, NODES, SECRET, SMALL, agreed, offer_of

SESSION = SessionId(bytes(16))
HEAD, NODE, TAIL = NODES
PROMPT, WIDTH, SPAN = 40, 8, Span(10, 20)
ROW = row_bytes(Codec.F32, WIDTH)


@dataclass
class MemoryLink:
    """What was sent to a peer."""

    sent: list[Message] = field(default_factory=list)
    priorities: list[Priority] = field(default_factory=list)
    dead: bool = False

    def send_nowait(self, message: Message, priority: Priority = Priority.CONTROL) -> None:
        if self.dead:
            raise LinkDead("gone")
        self.sent.append(message)
        self.priorities.append(priority)

    async def send(self, message: Message, priority: Priority = Priority.CONTROL) -> None:
        await trio.lowlevel.checkpoint()
        self.send_nowait(message, priority)

    def frame_budget(self) -> int:
        return 16_384


@dataclass
class MemoryJournal:
    """What was stored, until it is full."""

    proposed: list[SignedRecord[Receipt]] = field(default_factory=list)
    completed: list[SignedRecord[Receipt]] = field(default_factory=list)
    full: bool = False

    async def propose(self, receipt: SignedRecord[Receipt]) -> None:
        await trio.lowlevel.checkpoint()
        if self.full:
            raise JournalError("not stored: database or disk is full")
        self.proposed.append(receipt)

    async def complete(self, receipt: SignedRecord[Receipt]) -> None:
        await trio.lowlevel.checkpoint()
        if self.full:
            raise JournalError("not stored: database or disk is full")
        self.completed.append(receipt)


class Middle:
    """A session on the middle stage of three; the test is its client, its neighbours and its engine."""

    def __init__(
        self,
        life_s: int = 3600,
        span: Span = SPAN,
        codec: Codec = Codec.F32,
        width: int = WIDTH,
        prompt: int = PROMPT,
        slot: int = 1,
        wake: Callable[[int], None] = lambda slot: None,
    ) -> None:
        offer = offer_of(NODE, span, Roles.MIDDLE, SMALL)
        now = int(time.time())  # receipts carry the time of day, and must lie within their contract
        self.contract = agreed(offer, NODE, issued=now, expires=now + life_s)
        terms = StageTerms(
            session=SESSION,
            epoch=0,
            client=CLIENT.public,
            predecessor=HEAD.public,
            successor=TAIL.public,
            far_end=None,
            span=span,
            roles=Roles.MIDDLE,
            prompt=prompt,
            width=width,
            vocabulary=100,
            codec_in=codec,
            codec_out=codec,
            max_positions=SMALL.max_positions,
            max_chunk=SMALL.max_chunk,
            sampling=None,
        )
        self.account = StageAccount(self.contract, prompt, SECRET, NODE)
        self.links = {peer.public: MemoryLink() for peer in (CLIENT, HEAD, TAIL)}
        self.journal = MemoryJournal()
        self.send, self.incoming = trio.open_memory_channel[tuple[PeerKey, object]](1000)
        self.session = Session(
            StageSession(terms, None),
            self.account,
            slot,
            self.journal,  # type: ignore
            self.links.get,  # type: ignore
            wake,
        )
        self.position = 0

    @property
    def client(self) -> MemoryLink:
        return self.links[CLIENT.public]

    def heard(self, peer: PeerKey, message: SessionMessage | LinkDead) -> None:
        if isinstance(message, LinkDead):
            self.send.send_nowait((peer, message))
        else:
            self.session.take_message(peer, message)

    async def rows(self, count: int) -> None:
        """Rows come from the predecessor."""
        self.forward(count, Codec.F32, bytes(count * ROW))
        await wait_all_tasks_blocked()

    def forward(self, count: int, codec: Codec, data: bytes) -> None:
        self.heard(HEAD.public, Forward(SESSION, 0, 0, self.position, count, 0, codec, data))
        self.position += count

    async def compute(self) -> None:
        """The engine does what may be done now."""
        while count := self.session.ready():
            work, _ = self.session.take(min(count, SMALL.max_chunk))
            self.session.done(work, Output(bytes(work.count * ROW)))
            self.session.count()
            await wait_all_tasks_blocked()

    async def sign(self) -> None:
        """The client signs the newest proposal."""
        receipt = countersign(self.journal.proposed[-1], CLIENT)
        self.heard(CLIENT.public, Signed(SESSION, receipt.body, receipt.signatures[1]))
        await wait_all_tasks_blocked()

    def said(self, shape: type[Message]) -> list[Message]:
        return [message for message in self.client.sent if isinstance(message, shape)]


@pytest.fixture
async def middle(nursery: trio.Nursery) -> Middle:
    return run_middle(nursery, Middle())


def run_middle(nursery: trio.Nursery, middle: Middle) -> Middle:
    middle.over = trio.Event()  # type: ignore[attr-defined]

    async def run() -> None:
        await middle.session.run(middle.incoming)  # type: ignore[arg-type]
        middle.over.set()  # type: ignore[attr-defined]

    nursery.start_soon(run)
    middle.heard(TAIL.public, Credit(SESSION, 0, 64))
    return middle


async def fill(middle: Middle) -> None:
    """Let the session compute until its window is full."""
    await middle.rows(8)
    await middle.compute()
    await middle.rows(8)
    await middle.compute()
    await middle.rows(8)
    await middle.compute()


async def test_a_session_stops_at_the_window(autojump_clock: MockClock, middle: Middle) -> None:
    await fill(middle)
    assert middle.session.stage.computed == SMALL.window
    assert middle.session.ready() == 0


async def test_a_signature_lets_it_go_on(autojump_clock: MockClock, middle: Middle) -> None:
    await fill(middle)
    await middle.sign()
    assert middle.said(Stored) == [Stored(SESSION, 4)]
    await middle.compute()
    assert middle.session.stage.computed == 24


async def test_a_client_that_stops_signing_is_given_up(autojump_clock: MockClock, middle: Middle) -> None:
    await fill(middle)
    began = trio.current_time()
    await trio.sleep(UNPAID_S - 0.1)
    assert middle.said(Close) == []
    await trio.sleep(0.2)
    assert middle.said(Close) == [
        Close(SESSION, 0, Code.UNPAID, 0, "no receipt was signed for 10 s with the window full")
    ]
    await middle.over.wait()  # type: ignore[attr-defined]
    assert trio.current_time() == pytest.approx(began + UNPAID_S + SETTLE_S)


async def test_messages_that_move_nothing_do_not_keep_it_alive(autojump_clock: MockClock, middle: Middle) -> None:
    await fill(middle)
    await middle.sign()
    await middle.compute()
    old = countersign(middle.journal.proposed[3], CLIENT)
    for _ in range(26):
        middle.heard(CLIENT.public, Signed(SESSION, old.body, old.signatures[1]))
        await trio.sleep(IDLE_S / 24)
    assert [close.code for close in middle.said(Close)] == [Code.IDLE]  # type: ignore[attr-defined]


async def test_a_session_that_gets_no_rows_is_given_up(autojump_clock: MockClock, middle: Middle) -> None:
    await middle.rows(4)
    await middle.compute()
    await trio.sleep(IDLE_S + 0.1)
    assert [close.text for close in middle.said(Close)] == ["nothing came for 60 s"]  # type: ignore[attr-defined]
    assert [type(one) for one in middle.links[TAIL.public].sent][-1] is Close


async def test_a_session_ends_while_its_final_receipt_can_still_be_signed(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    middle = run_middle(nursery, Middle(life_s=60))
    await middle.rows(4)
    await middle.compute()
    await trio.sleep(60 - EXPIRY_S - 2)
    assert not middle.said(Close)
    await trio.sleep(2)
    assert [(close.code, close.text) for close in middle.said(Close)] == [  # type: ignore[attr-defined]
        (Code.EXPIRED, "the contract's time is over")
    ]
    middle.heard(CLIENT.public, Close(SESSION, 0, Code.EXPIRED, 4, ""))
    await wait_all_tasks_blocked()
    proposal = middle.journal.proposed[-1]
    assert proposal.record.state == FINAL
    assert middle.position == proposal.record.usage.prefill // 10


async def test_a_disk_that_fails_ends_the_session_before_anything_is_proposed(
    autojump_clock: MockClock, middle: Middle
) -> None:
    middle.journal.full = True
    await fill(middle)
    assert middle.said(Propose) == []
    assert [close.code for close in middle.said(Close)] == [Code.INTERNAL]  # type: ignore[attr-defined]
    await middle.over.wait()  # type: ignore[attr-defined]


async def test_a_receipt_that_could_not_be_stored_is_not_acknowledged(
    autojump_clock: MockClock, middle: Middle
) -> None:
    await fill(middle)
    middle.journal.full = True
    await middle.sign()
    assert middle.said(Stored) == []
    assert [close.code for close in middle.said(Close)] == [Code.INTERNAL]  # type: ignore[attr-defined]


async def test_a_proposal_is_stored_before_it_is_sent(autojump_clock: MockClock, middle: Middle) -> None:
    await fill(middle)
    sent = [message.receipt for message in middle.said(Propose)]  # type: ignore[attr-defined]
    assert sent == [receipt.body for receipt in middle.journal.proposed]
    assert len(sent) == 4


async def test_a_lost_neighbour_ends_the_session_and_the_client_hears_of_it(
    autojump_clock: MockClock, middle: Middle
) -> None:
    await middle.rows(8)
    await middle.compute()
    middle.heard(TAIL.public, LinkDead("gone"))
    await wait_all_tasks_blocked()
    assert [close.code for close in middle.said(Close)] == [Code.LOST]  # type: ignore[attr-defined]
    assert [type(one) for one in middle.links[HEAD.public].sent][-1] is Close


async def test_after_a_lost_neighbour_the_client_pays_what_it_says(autojump_clock: MockClock, middle: Middle) -> None:
    await middle.rows(8)
    await middle.compute()
    middle.heard(TAIL.public, LinkDead("gone"))
    middle.heard(CLIENT.public, Close(SESSION, 0, Code.LOST, 8, ""))
    await wait_all_tasks_blocked()
    assert middle.journal.proposed[-1].record.state == FINAL
    await middle.sign()
    await middle.over.wait()  # type: ignore[attr-defined]
    assert trio.current_time() == 0
    assert middle.journal.completed[-1].record.reason == Code.LOST


async def test_a_lost_client_ends_the_session_at_once(autojump_clock: MockClock, middle: Middle) -> None:
    await middle.rows(8)
    await middle.compute()
    middle.heard(CLIENT.public, LinkDead("gone"))
    await middle.over.wait()  # type: ignore[attr-defined]
    assert trio.current_time() == 0


async def test_what_the_client_signed_before_it_was_lost_is_stored(autojump_clock: MockClock, middle: Middle) -> None:
    await middle.rows(8)
    await middle.compute()
    receipt = countersign(middle.journal.proposed[-1], CLIENT)
    middle.heard(CLIENT.public, Signed(SESSION, receipt.body, receipt.signatures[1]))
    middle.heard(CLIENT.public, LinkDead("gone"))
    await middle.over.wait()  # type: ignore[attr-defined]
    assert [one.record.seq for one in middle.journal.completed] == [2]


async def test_a_client_that_closes_before_any_work_owes_nothing_and_nobody_waits(
    autojump_clock: MockClock, middle: Middle
) -> None:
    middle.heard(CLIENT.public, Close(SESSION, 0, Code.CANCELLED, 0, ""))
    await middle.over.wait()  # type: ignore[attr-defined]
    assert trio.current_time() == 0
    assert middle.journal.proposed == []


async def test_a_neighbour_whose_link_is_gone_already_is_noticed_when_rows_are_due(
    autojump_clock: MockClock, middle: Middle
) -> None:
    for _ in range(PROMPT // 8):
        await middle.rows(8)
        await middle.compute()
        await middle.sign()
        await middle.compute()
    assert middle.session.stage.computed == PROMPT
    del middle.links[TAIL.public]
    await middle.rows(1)
    await middle.compute()
    assert [close.code for close in middle.said(Close)] == [Code.LOST]  # type: ignore[attr-defined]


async def test_all_rows_of_the_prompt_go_the_same_way_a_last_single_one_too(
    autojump_clock: MockClock, middle: Middle
) -> None:
    """A single row of the prompt must not overtake those before it."""
    await middle.rows(4)
    await middle.rows(1)
    await middle.compute()
    tail = middle.links[TAIL.public]
    rows = [(one.position, priority) for one, priority in zip(tail.sent, tail.priorities, strict=True)]  # type: ignore
    assert rows == [(0, Priority.PREFILL), (4, Priority.PREFILL)]


async def test_beyond_the_prompt_a_stage_counts_only_what_went_round(autojump_clock: MockClock, middle: Middle) -> None:
    """So a client that gives up can count to every proposal (receipts.md, 5.2)."""
    for _ in range(PROMPT // 8):
        await middle.rows(8)
        await middle.compute()
        await middle.sign()
        await middle.compute()
    await middle.sign()
    for committed in range(PROMPT, PROMPT + 3):
        await middle.rows(1)
        await middle.compute()
        assert (middle.session.stage.computed, middle.account.committed) == (committed + 1, committed)
