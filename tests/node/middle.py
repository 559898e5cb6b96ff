"""A session on the middle stage of three. Its links and its disk are in memory, and the engine is the test."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio
from trio.testing import wait_all_tasks_blocked

from p2pinfer.core.money.stage_account import StageAccount
from p2pinfer.core.records.contract import Contract
from p2pinfer.core.records.receipt import Receipt
from p2pinfer.core.records.records import SignedRecord, countersign
from p2pinfer.core.sessions.stage import StageSession
from p2pinfer.core.sessions.stage_terms import StageTerms
from p2pinfer.core.sessions.step import Output
from p2pinfer.core.values.errors import LinkDead
from p2pinfer.core.values.units import Codec, PeerKey, Roles, SessionId, Span, row_bytes
from p2pinfer.core.wire.messages import Message
from p2pinfer.core.wire.session_messages import Forward, SessionMessage, Signed
from p2pinfer.disk.memory_journal import MemoryDisk
from p2pinfer.node.session import Session, Wakes
from p2pinfer.overlay.machine import JumpingClock, Machine
from p2pinfer.overlay.outbox import Priority
from tests.core.paid_route import CLIENT, NODES, NOW, SECRET, SMALL, agreed, offer_of

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
    boot: bytes = bytes(16)

    @property
    def hello(self) -> "MemoryLink":
        """What its peer said at first, as far as anybody looks at it."""
        return self

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
class LinkedTo:
    """The network of a session, as far as it looks at it."""

    links: dict[PeerKey, MemoryLink]
    machine: Machine

    def link(self, peer: PeerKey) -> MemoryLink | None:
        return self.links.get(peer)


class NotedJournal:
    """A journal on a disk in memory. It notes what came to be in it, in order."""

    def __init__(self) -> None:
        self.disk = MemoryDisk()
        self.proposed: list[SignedRecord[Receipt]] = []
        self.completed: list[SignedRecord[Receipt]] = []

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        async with self.disk.open_journal(Path("journal")) as self._journal:
            yield

    async def propose(self, receipt: SignedRecord[Receipt]) -> None:
        await self._journal.propose(receipt)
        self.proposed.append(receipt)

    async def propose_first(
        self, receipt: SignedRecord[Receipt], contract: SignedRecord[Contract], session: SessionId
    ) -> None:
        await self._journal.propose_first(receipt, contract, session)
        self.proposed.append(receipt)

    async def complete(self, receipt: SignedRecord[Receipt], *, stored: bool) -> None:
        assert stored  # by us, who are the node
        await self._journal.complete(receipt, stored=stored)
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
        self.clock = JumpingClock(NOW)  # receipts carry the time of day, and must lie within their contract
        now = round(self.clock())
        self.contract = agreed(offer, NODE, prompt=prompt, issued=now, expires=now + life_s)
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
        self.account = StageAccount(self.contract, SECRET, NODE)
        self.links = {peer.public: MemoryLink() for peer in (CLIENT, HEAD, TAIL)}
        self.client = self.links[CLIENT.public]  # the latest link to it
        self.journal = NotedJournal()
        self.send, self.incoming = trio.open_memory_channel[tuple[PeerKey, object]](1000)
        self.session = Session(
            StageSession(terms, None, self.account.check_counted),
            self.account,
            slot,
            self.journal,  # type: ignore
            LinkedTo(self.links, Machine(self.clock)),  # type: ignore
            Wakes(wake),
        )
        self.position = 0

    async def run(self) -> None:
        """The session, from its begin to its end, whose time is noted; then its disk is let go of."""
        async with self.journal.open():
            try:
                await self.session.run(self.incoming)  # type: ignore[arg-type]
            finally:
                self.ended_s = trio.current_time()

    def dial(self) -> None:
        """The client has a new link."""
        self.links[CLIENT.public] = self.client = MemoryLink()

    def heard(self, peer: PeerKey, message: SessionMessage | LinkDead) -> None:
        if isinstance(message, LinkDead):
            self.links.pop(peer, MemoryLink()).dead = True
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
            step = self.session.steps.take(min(count, SMALL.max_chunk))
            self.session.done(step, Output(step.data))
            self.session.note_change()
            await wait_all_tasks_blocked()

    async def sign(self) -> None:
        """The client signs the newest proposal."""
        receipt = countersign(self.journal.proposed[-1], CLIENT)
        self.heard(CLIENT.public, Signed(SESSION, receipt.body, receipt.signatures[1]))
        await wait_all_tasks_blocked()

    def said(self, shape: type[Message]) -> list[Message]:
        return [message for message in self.client.sent if isinstance(message, shape)]
