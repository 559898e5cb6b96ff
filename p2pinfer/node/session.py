"""One open session of a node: what comes to it, and what follows (protocols/inference.md).

`core/sessions/stage.py` and `core/money/stage_account.py` decide; this does what they say. The batcher asks which steps
are `ready`, takes them of `steps`, and calls `done` and then `note_change`. Each subject is a file of its own:

    session_steps      what the engine is to compute, and what of it is counted
    session_client     on which link the client hears us, and its return
    session_books      what is proposed and signed, durable before it is said
    session_deadlines  how long it goes on while nothing moves
    session_rows       a prompt's rows on their way to the next stage
    session_end        the word of its end

None of them knows the session, so that it is gone as soon as those let it go who hold it. Whatever fails here ends this
session: its callers enter `contained`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import trio

from p2pinfer.core.money.stage_account import StageAccount
from p2pinfer.core.room.room import POSITION_S, RESTING_S, is_at_rest
from p2pinfer.core.sessions.stage import Send, SessionState, StageSession
from p2pinfer.core.sessions.stage_terms import Relation
from p2pinfer.core.sessions.step import Output, Step
from p2pinfer.core.values.codes import ANSWERS, BROKEN, Code
from p2pinfer.core.values.errors import LinkDead, RemoteProtocolError
from p2pinfer.core.values.keys import short_name
from p2pinfer.core.values.units import PeerKey
from p2pinfer.core.wire.session_messages import Close, Forward, Resume, Sampled, SessionMessage, Signed
from p2pinfer.disk.journal import COMMIT_S, Journal
from p2pinfer.node.session_books import SessionBooks
from p2pinfer.node.session_client import SessionClient
from p2pinfer.node.session_deadlines import SessionDeadlines
from p2pinfer.node.session_end import SessionEnd
from p2pinfer.node.session_rows import PromptRows
from p2pinfer.node.session_steps import SessionSteps
from p2pinfer.overlay.contained import Contained, outlasting
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.network import Network
from p2pinfer.overlay.outbox import Priority
from p2pinfer.overlay.pipe import hear_nothing

Incoming = tuple[PeerKey, SessionMessage | LinkDead]


@dataclass(frozen=True, slots=True)
class Wakes:
    """Calls to those who wait for a session. ready: its slot may compute. over: it needs the engine no more"""

    ready: Callable[[int], None] = hear_nothing
    over: Callable[[], None] = hear_nothing


class Session:
    """slot: the session's number at the engine. contained: a failure within it ends the session and nothing else.

    steps: what the engine is to compute
    """

    def __init__(
        self,
        stage: StageSession,
        account: StageAccount,
        slot: int,
        journal: Journal,
        network: Network,
        wakes: Wakes,
    ) -> None:
        terms, link_to, machine = stage.terms, network.link, network.machine
        self.stage = stage
        self.account = account
        self.slot = slot
        self._link_to = link_to
        self._tell_ready = wakes.ready
        self.steps = SessionSteps(stage, account, slot)
        self._end = SessionEnd(stage, link_to, wakes.over)
        self._deadlines = SessionDeadlines(stage, account, machine.clock)
        self._client = SessionClient(stage, link_to, self._deadlines)
        self._books = SessionBooks(terms.session, account, journal, self._client, machine.unix)
        self._prompt_rows = PromptRows(terms.successor, link_to)
        self._place = (0, 0, 0)  # how far the session has got
        self.contained = Contained(f"the session of {short_name(terms.client)}", self._end.break_off)

    async def run(self, incoming: trio.MemoryReceiveChannel[Incoming]) -> None:
        """Serve the session until its final receipt is complete, or nobody waits for it any more.

        incoming: the deaths of its links; its messages come to `take_message`

        Cancelled, it ends, and proposes what is owed for what it computed (RCT-19): after a restart nothing is proposed
        anew.
        """
        self._client.begin()
        try:
            with self.contained:  # here, for after a fault of ours nothing more is proposed
                await self._serve(incoming)
        finally:
            if not self._end.settled.is_set():
                await self._close_books()
            self._client.propose_elsewhere(self._books.unsigned())

    async def _serve(self, incoming: trio.MemoryReceiveChannel[Incoming]) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_links, incoming)
            nursery.start_soon(self._prompt_rows.run)
            nursery.start_soon(self._keep_books)
            if (why := await self._deadlines.wait_end(self._end.came)) is not None:
                self._end_for(*why)
            await self._deadlines.wait_settled(self._end.settled)
            nursery.cancel_scope.cancel()

    def _end_for(self, code: Code, text: str) -> None:
        """A client that does not come back is told nothing: it hears of it when it asks, and so do its other stages."""
        if code is Code.LOST:
            self._give_client_up()
        else:
            self.fail(code, text)

    # Its room

    @property
    def is_over(self) -> bool:
        """It needs the engine no more; receipts may still be signed."""
        return self.stage.state is SessionState.ENDED

    @property
    def idle_s(self) -> float:
        """Since it was in use; 0 while something is computed, or could be."""
        return 0.0 if self.ready() or self.stage.is_computing else self._deadlines.unused_s

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
        """End, since others ask for the room."""
        if self.stage.received and not self.is_at_rest:
            self.fail(Code.OUTSTAYED, "its client had more than its share of room for long, and others wait")
        elif self._is_slow:
            self.fail(Code.SLOW, f"it got less than a position in {POSITION_S:.0f} s, and others wait")
        elif not self.stage.received:
            self.fail(Code.IDLE, f"nothing came in {self.idle_s:.1f} s, and others wait")
        else:
            self.fail(Code.IDLE, f"it was not in use for {self.idle_s:.0f} s, and others wait")

    @property
    def _is_slow(self) -> bool:
        """At rest, and not still."""
        stage = self.stage
        return bool(stage.computed) and not stage.is_suspended and self._deadlines.still_s < RESTING_S

    # Steps, called by the batcher

    def ready(self) -> int:
        """Positions that may be computed now."""
        return self.stage.ready(self.account.limit)

    def done(self, step: Step, output: Output) -> None:
        """Send the engine's output on: the next stage waits for it. `note_change` has to follow at once."""
        if output.code:
            self.fail(output.code, output.text)
            return
        for send in self.steps.done(step, output):
            self._send(send)

    def note_change(self) -> None:
        """Count what was sent, then wake those who wait for a change."""
        if self._end.is_broken:
            return
        if self.steps.uncounted is not None:
            self.steps.count()
        stage, account = self.stage, self.account
        if stage.state is SessionState.ENDED:
            self._after_end()
            return
        if account.is_due:
            self._books.due.set()
        if (place := (stage.received, stage.computed, account.paid)) != self._place:
            self._deadlines.move(stage.computed - self._place[1])
            self._place = place  # messages that move nothing are no progress
        if self.ready():
            self._tell_ready(self.slot)

    def _after_end(self) -> None:
        stage, account = self.stage, self.account
        if stage.reason in ANSWERS:
            account.commit(stage.computed)
            account.close(stage.reason)
        elif self._client.is_lost or stage.is_suspended:
            self._client.is_lost = True  # it hears of it when it asks, or at next contact
            account.abandon(Code.LOST)
        self._books.due.set()
        self._end.note()

    # Messages

    def take_message(self, sender: PeerKey, message: SessionMessage) -> None:
        """Take a message of a peer of the session as soon as it comes; what is wrong with it ends the session."""
        terms = self.stage.terms
        is_client = sender == terms.client
        with self.contained:
            try:
                if is_client and type(message) is Resume and message.epoch == terms.epoch:
                    self._take_back()
                for send in self.stage.receive(sender, message):
                    self._send(send)
                if is_client:
                    self._take_of_client(message)
                self.note_change()
            except RemoteProtocolError as error:
                self.fail(error.code, str(error))

    def meet(self, link: Link) -> None:
        """There is a new link to a peer."""
        with self.contained:
            if link.peer == self.stage.terms.client and not self._client.meet(link):
                self._give_client_up()

    def fail(self, code: Code, text: str) -> None:
        """End the session from our side, and say so to everybody in it. The client says how far it signs."""
        if self.stage.state is SessionState.RUNNING:
            self._end.fail(code, text)
            self.note_change()

    def _take_back(self) -> None:
        if not self._client.take_back():
            self._give_client_up()

    def _take_of_client(self, message: SessionMessage) -> None:
        """The client's word on what it signs, and how far, counts after the end, too."""
        match message:
            case Signed():
                if (complete := self.account.sign(message.receipt, message.signature)) is not None:
                    self._books.complete(complete)
            case Resume():
                if self._client.go_on():
                    self._books.repeat()
            case Close():
                code = Code.read(message.code)
                self.account.close(Code.CANCELLED if code is Code.UNKNOWN else code, message.committed)

    async def _watch_links(self, incoming: trio.MemoryReceiveChannel[Incoming]) -> None:
        async for peer, why in incoming:
            assert isinstance(why, LinkDead)  # messages come to `take_message`
            self._lose(peer, why.code)

    def _lose(self, peer: PeerKey, code: Code) -> None:
        """The link to `peer` died."""
        part = self.stage.terms.parts(peer)
        if not part & Relation.CLIENT:
            self.fail(Code.LOST, f"the link to its neighbour {short_name(peer)} broke")
        elif not self._client.lose(may_return=part is Relation.CLIENT and code in BROKEN):
            self._give_client_up()

    def _give_client_up(self) -> None:
        """The client does not come back: what it has not signed is settled at next contact."""
        self.stage.end(Code.LOST)
        self._client.is_lost = True
        self.note_change()

    def _send(self, send: Send) -> None:
        """Send at once what is small; rows of a prompt wait for the link in a task of their own."""
        priority = Priority.CONTROL
        match send.message:
            case Forward(position=position) as rows if position < self.stage.terms.prompt:
                self._prompt_rows.add(rows)
                return
            case Forward() | Sampled():
                priority = Priority.DECODE
        if send.to == self.stage.terms.client:
            self._client.say(send.message, priority)
        elif (link := self._link_to(send.to)) is None:
            self._lose(send.to, Code.LOST)  # it died before the session was open, and nobody told us
        else:
            try:
                link.send_nowait(send.message, priority)
            except LinkDead:
                return  # we are told of its death as of a message

    # Receipts

    async def keep_contract(self) -> None:
        """Store the contract before there is work. Raises JournalError."""
        await self._books.keep_contract()

    async def _keep_books(self) -> None:
        while True:
            await self._books.wait_due()
            with trio.CancelScope(shield=True):  # commits are ours, and end by themselves
                await self._write_books()

    async def _close_books(self) -> None:
        """The client has not said how far it signs: make the final ready for its next contact.

        A slow disk has the time that it takes, and COMMIT_S where this is cut off, before or meanwhile.
        """
        self.fail(Code.LEAVING, "it stops")
        self.account.abandon(self.stage.reason)
        async with outlasting(trio.CancelScope(), COMMIT_S):
            await self._write_books()

    async def _write_books(self) -> None:
        if not await self._books.write():
            self.fail(Code.INTERNAL, "the node cannot keep receipts")
        elif self.is_over and self._books.are_settled:
            self._end.settled.set()
