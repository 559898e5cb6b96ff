"""One open session of a node: its rows, its receipts, its deadlines (protocols/inference.md, receipts.md).

Decisions are `stage.py`'s and `stage_account.py`'s; this does what they say: sends, stores before it sends, and ends
the session when somebody keeps it waiting. Steps come from the batcher, which asks `ready` and calls `take`, `done`
and `count`. Whatever fails here ends this session: its callers enter `contained`.

A client whose link breaks may come back: until then, or until time is up, the session is suspended.
"""

import logging
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from math import inf
from typing import Final

import trio

from p2pinfer.core.codes import ANSWERS, BROKEN, Code
from p2pinfer.core.contract import EXPIRY_S
from p2pinfer.core.errors import JournalError, LinkDead, RemoteProtocolError
from p2pinfer.core.keys import short_name
from p2pinfer.core.messages import Message
from p2pinfer.core.receipt import Receipt
from p2pinfer.core.records import SignedRecord
from p2pinfer.core.room import POSITION_S, is_at_rest
from p2pinfer.core.session_messages import (
    Close,
    Forward,
    Propose,
    Resume,
    Sampled,
    SessionMessage,
    Signed,
    Stored,
    pack_ids,
)
from p2pinfer.core.stage import Part, Result, Send, StageSession, State, Work
from p2pinfer.core.stage_account import StageAccount
from p2pinfer.core.suspension import Suspension
from p2pinfer.core.units import PeerKey, Roles
from p2pinfer.disk.journal import COMMIT_S, Journal
from p2pinfer.engine.steps import Output, Step
from p2pinfer.overlay.contained import Contained
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.outbox import Priority

UNPAID_S: Final = 45.0  # with the window full, for a signature; its client may be away from another stage for RETURN_S
IDLE_S: Final = 60.0  # with nothing to compute, for rows or ids
FINAL_S: Final = 10.0  # after the end, for the final receipt's signature; later it is settled at next contact

logger = logging.getLogger(__name__)

Incoming = tuple[PeerKey, SessionMessage | LinkDead]


class Session:
    """slot: the session's number at the engine. contained: a failure within it ends the session and nothing else."""

    def __init__(
        self,
        stage: StageSession,
        account: StageAccount,
        slot: int,
        journal: Journal,
        link_to: Callable[[PeerKey], Link | None],
        ready: Callable[[int], None],
    ) -> None:
        self.stage = stage
        self.account = account
        self.slot = slot
        self.on_end: Callable[[], None] = lambda: None  # called when it needs the engine no more
        self.contained = Contained(f"the session of {short_name(stage.terms.client)}", self._break)
        self._is_tail = Roles.TAIL in stage.terms.roles
        self._journal = journal
        self._link_to = link_to
        self._tell_ready = ready
        self._outgoing: deque[Send] = deque()  # prefill rows; bounded by the successor's credit
        self._outgoing_came = trio.Event()
        self._uncounted: tuple[Work, Result] | None = None
        self._to_complete: deque[SignedRecord[Receipt]] = deque()
        self._kept = False  # the contract is in the journal
        self._stored = 0  # the number of the last proposal that is there
        self._books_due = trio.Event()
        self._ended = trio.Event()
        self._patience = trio.CancelScope()  # ends before `_due_s`: moving its deadline with each position costs more
        self._moved_s = trio.current_time()  # when something moved last
        self._used_s = self._moved_s  # until when it was in use
        self._due_s = 0.0  # when something must have moved
        self._place = (0, 0, 0)  # how far the session has got
        self._settled = trio.Event()
        self._client_lost = False
        self._client_link: Link | None = None  # on which the client hears us, if it is still the one that there is
        self._suspension = Suspension()
        self._is_back = False  # the client is, and what it has not signed is to be proposed again
        self._final_by = inf  # for the final receipt, once the session has ended

    async def run(self, incoming: trio.MemoryReceiveChannel[Incoming]) -> None:
        """Serve the session until its final receipt is complete, or nobody waits for it any more.

        incoming: the deaths of its links; its messages come to `take_message`

        Cancelled, it ends, and proposes what is owed for what it computed (RCT-19): after a restart nothing is proposed
        anew.
        """
        self._client_link = self._link_to(self.stage.terms.client)
        try:
            with self.contained:  # here, for after a fault of ours nothing more is proposed
                await self._serve(incoming)
        finally:
            if not self._settled.is_set():
                await self._close_books()
            self._propose_elsewhere()

    async def _serve(self, incoming: trio.MemoryReceiveChannel[Incoming]) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_links, incoming)
            nursery.start_soon(self._send_rows)
            nursery.start_soon(self._keep_books)
            await self._watch()
            await self._wait_settled()
            nursery.cancel_scope.cancel()

    async def _wait_settled(self) -> None:
        """Wait for the final receipt, from a client that is away until it could be back."""
        self._final_by = trio.current_time() + FINAL_S
        while not self._settled.is_set():
            until = self._suspension.ends if self.stage.is_suspended else self._final_by
            if until <= trio.current_time():
                return
            with trio.move_on_at(until):
                await self._settled.wait()

    @property
    def is_over(self) -> bool:
        """It needs the engine no more; receipts may still be signed."""
        return self.stage.state is State.ENDED

    @property
    def idle_s(self) -> float:
        """Since it was in use; 0 while something is computed, or could be."""
        return 0.0 if self.ready() or self.stage.is_computing else trio.current_time() - self._used_s

    @property
    def may_go_on(self) -> bool:
        """Its client is there, and has signed for what was done: it waits for nobody but the stages."""
        return not self.stage.is_suspended and self.account.limit > self.stage.computed

    @property
    def is_at_rest(self) -> bool:
        """Nothing has happened in it for so long that it has to give way to others."""
        if self.stage.is_suspended and not self.stage.is_computing:
            return True
        return is_at_rest(self.idle_s, started=bool(self.stage.received))

    def give_way(self) -> None:
        """End, since others ask for the room and nothing happens here."""
        self.fail(Code.IDLE, f"it was not in use for {self.idle_s:.0f} s, and others wait")

    # Steps, called by the batcher

    def ready(self) -> int:
        """Positions that may be computed now."""
        return self.stage.ready(self.account.limit)

    def take(self, count: int) -> tuple[Work, Step]:
        """Work for `count` positions, and the engine's step for it."""
        work, terms = self.stage.take(count), self.stage.terms
        self.account.begin(work.position + work.count)
        draw = terms.sampling.draw if work.sample and terms.sampling is not None else None
        return work, Step(self.slot, work.position, work.data, terms.codec_in, terms.codec_out, draw, terms.span)

    def done(self, work: Work, output: Output) -> None:
        """Send the engine's output on: the next stage waits for it. `count` has to follow at once."""
        if output.code:
            self.fail(output.code, output.text)
            return
        result = Result(output.data, output.ids[0] if output.ids else None)
        if self.stage.state is State.RUNNING:
            self._uncounted = work, result
        for send in self.stage.done(work, result):
            self._send(send)

    def count(self) -> None:
        """Count what was sent, while others compute with it."""
        self._after_change()

    def fail(self, code: Code, text: str) -> None:
        """End the session from our side, and say so to everybody in it. The client says how far it signs."""
        if self.stage.state is State.ENDED:
            return
        for send in self.stage.fail(code, text):
            self._say_last(send)
        self._after_change()

    def _break(self) -> None:
        """End after a fault of ours, which may be in the books: what is signed stays, and nothing more is proposed."""
        self._uncounted = None
        for send in self.stage.fail(Code.INTERNAL, "a fault of its own"):
            self._say_last(send)
        self._ended.set()
        self._settled.set()
        self.on_end()

    def _say_last(self, send: Send) -> None:
        if (link := self._link_to(send.to)) is not None:
            with suppress(LinkDead):  # it needs no words any more
                link.send_nowait(send.message)

    def _count(self, work: Work, result: Result) -> None:
        account, stage = self.account, self.stage
        account.add_inputs(work.position, work.data, work.count)
        if not self._is_tail:
            account.add_outputs(work.position, result.rows, work.count)
        elif result.sampled is not None:
            account.add_outputs(stage.terms.prompt + stage.sampled - 1, pack_ids((result.sampled,)), 1)
        account.commit_step(work.position, work.position + work.count)

    # Messages

    def take_message(self, sender: PeerKey, message: SessionMessage) -> None:
        """Take a message of a peer of the session as soon as it comes; what is wrong with it ends the session."""
        with self.contained:
            try:
                self._take(sender, message)
            except RemoteProtocolError as error:
                self.fail(error.code, str(error))

    async def _watch_links(self, incoming: trio.MemoryReceiveChannel[Incoming]) -> None:
        async for peer, why in incoming:
            assert isinstance(why, LinkDead)  # messages come to `take_message`
            self._lose(peer, why.code)

    def _take(self, sender: PeerKey, message: SessionMessage) -> None:
        terms = self.stage.terms
        if type(message) is Resume and terms.parts(sender) & Part.CLIENT and message.epoch == terms.epoch:
            self._meet_again(message)
        for send in self.stage.receive(sender, message):
            self._send(send)
        if terms.parts(sender) & Part.CLIENT:
            self._take_of_client(message)
        self._after_change()

    def _take_of_client(self, message: SessionMessage) -> None:
        """The client's word on what it signs, and how far, counts after the end, too."""
        match message:
            case Signed():
                if (complete := self.account.sign(message.receipt, message.signature)) is not None:
                    self._to_complete.append(complete)
            case Resume() if self._suspension.is_on and not self.stage.is_suspended:
                self._go_on()
            case Close():
                code = Code.read(message.code)
                self.account.close(Code.CANCELLED if code is Code.UNKNOWN else code, message.committed)

    def _lose(self, peer: PeerKey, code: Code) -> None:
        """The link to `peer` died."""
        part = self.stage.terms.parts(peer)
        if not part & Part.CLIENT:
            self.fail(Code.LOST, f"the link to its neighbour {short_name(peer)} broke")
        elif self._reaches_client():
            return  # it came back before we were told
        elif part is Part.CLIENT and code in BROKEN and self.stage.reason in (Code.NONE, *ANSWERS):
            self._suspend()
        else:
            self._give_client_up()

    def meet(self, link: Link) -> None:
        """There is a new link to a peer. A client that started anew has no session to come back to."""
        if link.peer != self.stage.terms.client or self._client_link is None:
            return
        with self.contained:
            if link.hello.boot != self._client_link.hello.boot:
                self._give_client_up()
            elif self._suspension.is_on:
                self._hasten()

    def _reaches_client(self) -> bool:
        link = self._link_to(self.stage.terms.client)
        return link is not None and link is self._client_link

    def _suspend(self) -> None:
        now = trio.current_time()
        self._suspension.begin(now)
        self.stage.suspend()
        if self._link_to(self.stage.terms.client) is not None:
            self._suspension.hasten(now)
        self._set_due()
        if self._suspension.ends <= now:  # it was away too long before
            self._give_client_up()

    def _hasten(self) -> None:
        """The client has a link again: it says Resume on it, or has given the session up."""
        self._suspension.hasten(trio.current_time())
        self._set_due()

    def _meet_again(self, message: Resume) -> None:
        """The client is back, perhaps before we know that its link broke. Raises RemoteProtocolError."""
        if not self._reaches_client():
            self._client_link = self._link_to(self.stage.terms.client)
            self._suspend()
        self.account.check_counted(message.counted(self.stage.terms.prompt))

    def _go_on(self) -> None:
        """The client is back: go on where the link broke, and propose again what it may not have got."""
        now = trio.current_time()
        more_s = self._suspension.end(now)
        self._moved_s += more_s
        self._used_s = min(now, self._used_s + more_s)
        self._final_by += more_s
        self._is_back = True
        self._books_due.set()
        self._set_due()

    def _give_client_up(self) -> None:
        """The client does not come back: what it has not signed is settled at next contact."""
        self.stage.end(Code.LOST)
        self._client_lost = True
        self._after_change()

    def _set_due(self) -> None:
        self._due_s = self._suspension.ends if self.stage.is_suspended else self._moved_s + self._patience_s
        if self._due_s < self._patience.deadline:
            self._patience.deadline = self._due_s

    def _after_change(self) -> None:
        """Whatever changed, those who wait for it look again; before that, what was sent is counted."""
        if self._uncounted is not None:
            work, self._uncounted = self._uncounted, None
            self._count(*work)
        stage, account = self.stage, self.account
        if stage.state is State.ENDED:
            if stage.reason in ANSWERS:
                account.commit(stage.computed)
                account.close(stage.reason)
            elif self._client_lost or stage.is_suspended:
                self._client_lost = True  # it hears of it when it asks, or at next contact
                account.abandon(Code.LOST)
            self._books_due.set()
            self._ended.set()
            self.on_end()
            return
        if self._to_complete or account.is_due:
            self._books_due.set()
        if (place := (stage.received, stage.computed, account.paid)) != self._place:
            self._moved_s = trio.current_time()
            self._used_s = min(self._moved_s, self._used_s + POSITION_S * (stage.computed - self._place[1]))
            self._place = place  # messages that move nothing are no progress
            self._set_due()
        if self.ready():
            self._tell_ready(self.slot)

    @property
    def _starved(self) -> bool:
        """What could be computed waits for a signature."""
        return self.stage.received > self.stage.computed and self.account.limit <= self.stage.computed

    @property
    def _patience_s(self) -> float:
        return UNPAID_S if self._starved else IDLE_S

    def _send(self, send: Send) -> None:
        """Send at once what is small; rows of a prompt wait for the link in a task of their own."""
        match send.message:
            case Forward(position=position) if position < self.stage.terms.prompt:
                self._outgoing.append(send)
                self._outgoing_came.set()
            case Forward() | Sampled():
                self._send_now(send, Priority.DECODE)
            case _:
                self._send_now(send, Priority.CONTROL)

    def _send_now(self, send: Send, priority: Priority) -> None:
        link = self._link_to(send.to)
        if send.to == self.stage.terms.client:
            if link is not self._client_link and not isinstance(send.message, Stored):
                return  # it may lack something that was said on the link before: it has to say how far it is
        elif link is None:
            self._lose(send.to, Code.LOST)  # it died before the session was open, and nobody told us
        if link is None:
            return
        try:
            link.send_nowait(send.message, priority)
        except LinkDead:
            return  # we are told of its death as of a message

    async def _send_rows(self) -> None:
        while True:
            await self._outgoing_came.wait()
            self._outgoing_came = trio.Event()
            while self._outgoing:
                await self._send_split(self._outgoing[0])
                self._outgoing.popleft()

    async def _send_split(self, send: Send) -> None:
        assert isinstance(send.message, Forward)
        link = self._link_to(send.to)
        if link is None:
            return
        for part in send.message.split(link.frame_budget()):
            try:
                await link.send(part, Priority.PREFILL)
            except LinkDead:
                return

    # Receipts

    async def _keep_books(self) -> None:
        while True:
            await self._books_due.wait()
            self._books_due = trio.Event()
            with trio.CancelScope(shield=True):  # commits are ours, and end by themselves
                await self._try_books()

    async def _close_books(self) -> None:
        """The client has not said how far it signs: make the final ready for its next contact.

        A slow disk has the time that it takes, and COMMIT_S where this is cut off, before or meanwhile.
        """
        self.fail(Code.LEAVING, "it stops")
        self.account.abandon(self.stage.reason)
        scope = trio.CancelScope(shield=True)

        async def bound() -> None:
            try:
                await trio.sleep_forever()
            finally:
                scope.deadline = trio.current_time() + COMMIT_S

        async with trio.open_nursery() as nursery:
            nursery.start_soon(bound)
            with scope:
                await self._try_books()
            nursery.cancel_scope.cancel()

    async def _try_books(self) -> None:
        try:
            await self._write_books()
        except JournalError as error:
            logger.error("a session ends, for its receipts cannot be kept: %s", error)
            self.fail(Code.INTERNAL, "the node cannot keep receipts")
            self._settled.set()

    async def _write_books(self) -> None:
        """Propose what is due and acknowledge what is complete, each after it is durable."""
        if self.stage.state is State.ENDED and not self.account.committed:
            self._settled.set()  # nothing was done, so there is nothing to sign
            return
        session = self.stage.terms.session
        while self._to_complete:
            receipt = self._to_complete.popleft()
            await self._journal.complete(receipt, stored=True)
            self._say(Stored(session, receipt.record.seq))
        if self._is_back:
            self._is_back = False
            for again in self._pending():
                self._say(again)
        for proposal in self.account.due(int(time.time())):
            await self._store(proposal.signed)
            self._say(Propose(session, proposal.signed.body, proposal.signed.signatures[0]))
        if self.account.closed or self._client_lost:
            self._settled.set()

    def _pending(self) -> list[Propose]:
        """What the client has not signed, of what is stored."""
        signed = (proposal.signed for proposal in self.account.pending if proposal.seq <= self._stored)
        return [Propose(self.stage.terms.session, one.body, one.signatures[0]) for one in signed]

    def _propose_elsewhere(self) -> None:
        """A client that has another link and did not come back on it: this is its next contact."""
        link = self._link_to(self.stage.terms.client)
        if link is None or link is self._client_link:
            return
        with suppress(LinkDead):
            for proposal in self._pending():
                link.send_nowait(proposal)

    async def keep_contract(self) -> None:
        """Store the contract before there is work. Raises JournalError."""
        await self._journal.agree(self.account.contract, self.stage.terms.session)
        self._kept = True

    async def _store(self, proposal: SignedRecord[Receipt]) -> None:
        if self._kept:
            await self._journal.propose(proposal)
        else:
            await self._journal.propose_first(proposal, self.account.contract, self.stage.terms.session)
            self._kept = True
        self._stored = proposal.record.seq

    def _say(self, message: Message) -> None:
        assert isinstance(message, SessionMessage)
        self._send_now(Send(self.stage.terms.client, message), Priority.CONTROL)

    async def _watch(self) -> None:
        """Return when the session has ended; end it when nothing moves for too long, or its contract expires."""
        ends = self.account.contract.record.expires - EXPIRY_S
        ends_s = inf
        now = trio.current_time()
        self._due_s = now + self._patience_s
        while self.stage.state is State.RUNNING:
            # Anew and often: the wall clock may jump, and the other one stands still while the machine sleeps
            ends_s = min(ends_s, now + ends - time.time())
            with trio.move_on_at(min(self._due_s, ends_s, now + EXPIRY_S / 2)) as self._patience:
                await self._ended.wait()
            now = trio.current_time()
            if now >= ends_s:
                self.fail(Code.EXPIRED, "the contract's time is over")
            elif now < self._due_s:
                continue  # it moved meanwhile
            elif self.stage.is_suspended:
                self._give_client_up()
            elif self.ready():  # what is ready waits for our own engine, and that is nobody's fault
                self._due_s = trio.current_time() + self._patience_s
            elif self._starved:
                self.fail(Code.UNPAID, f"no receipt was signed for {UNPAID_S:.0f} s with the window full")
            else:
                self.fail(Code.IDLE, f"nothing came for {IDLE_S:.0f} s")
