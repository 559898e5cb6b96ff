"""One generation under way: opens its stages, delivers ids as they come, and sees it through until it is paid
(protocols/inference.md).

`core/sessions/generation.py` decides, `books.py` keeps what is owed, and `deadlines.py` bounds the time. The links'
readers take messages in the step in which they come. The caller chooses the route.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import trio

from p2pinfer.client.blame import Blame
from p2pinfer.client.books import Books, Purse
from p2pinfer.client.contracts import Plan
from p2pinfer.client.deadlines import Deadlines, Endings
from p2pinfer.client.patience import Patience
from p2pinfer.client.promised import Times
from p2pinfer.client.resumption import Dial, Returning, Ways
from p2pinfer.core.money.client_account import ClientAccount, Refuse
from p2pinfer.core.records.contract import verify_contract
from p2pinfer.core.sessions.generation import Generation, Phase
from p2pinfer.core.sessions.stage import Send
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import JournalError, LinkDead, RemoteProtocolError
from p2pinfer.core.values.keys import short_name, short_names
from p2pinfer.core.values.units import PeerKey
from p2pinfer.core.wire.messages import Message
from p2pinfer.core.wire.session_messages import (
    Accept,
    Close,
    Open,
    Prompt,
    Propose,
    Sampled,
    SessionMessage,
    SessionRefused,
    Signed,
    Stored,
)
from p2pinfer.overlay.contained import Contained
from p2pinfer.overlay.network import Network
from p2pinfer.overlay.outbox import Priority
from p2pinfer.overlay.pipe import hear_nothing

SETTLE_S: Final = 5.0  # for final receipts to be proposed, signed and acknowledged

logger = logging.getLogger(__name__)

Incoming = tuple[PeerKey, SessionMessage | LinkDead]


@dataclass(frozen=True, slots=True)
class Company:
    """The others who have to do with a generation, beside its stages.

    first_id: called with it in the step in which its first id comes
    refused:  hears which stage refused, and how
    closed:   hears each Close, whether there is a link to say it on or not
    dial:     as of `Returning`
    """

    first_id: Callable[["Run"], None] = hear_nothing
    refused: Callable[[PeerKey, SessionRefused], None] = hear_nothing
    closed: Callable[[PeerKey, Close], None] = hear_nothing
    dial: Dial | None = None


ALONE: Final = Company()


class Run:
    """A generation under way. times are monotonic: opened, first_id, last_id, in seconds; None until then.

    `changed` is renewed with every change; whoever follows the pieces waits on it.
    """

    def __init__(
        self,
        plan: Plan,
        generation: Generation,
        purse: Purse,
        network: Network,
        step_s: float = 0.0,
        company: Company = ALONE,
    ) -> None:
        """step_s: what is expected from one id to the next."""
        self.plan = plan
        self.generation = generation
        self.started_s = trio.current_time()
        self.changed = trio.Event()
        self.over = trio.Event()
        self.settled = trio.Event()  # over, and its receipts are signed, or given up
        unix = network.machine.unix
        self._books = Books(plan, generation.prompt, purse, unix, self._say, self.fail_to_keep)
        self._link_to = link_to = network.link
        self._contained = Contained("an answer", self._break)
        self._blame = Blame(self.generation)
        self.cannot_keep = False  # its records: our disk is full
        self.retry_s: float | None = None  # a stage had no room, and says when it may have some
        self._patience = Patience(step_s, self.started_s)
        ways = Ways(self._send, self._lose_for_good, self._look_sooner)
        self.returning = Returning(plan, self.generation, self._patience, network, company.dial, ways)
        watched = self.generation, self._books, self._patience, self.returning, link_to
        self._deadlines = Deadlines(*watched, Endings(self.give_up, self.fail, self._refuse))
        self._company = company
        self._paid = trio.Event()  # all that can be, now that it is over

    async def run(self, deaths: trio.MemoryReceiveChannel[Incoming]) -> None:
        """See the generation through, and its receipts; returns when nothing more is to be done.

        deaths: of its links; its messages come to `take_message`
        """
        try:
            with self._contained:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._watch_links, deaths)
                    nursery.start_soon(self.returning.run)
                    await self._run_and_settle()
                    nursery.cancel_scope.cancel()
        finally:
            self.fail("the client was closed", Code.CANCELLED)
            self.settled.set()
            self._let_go()

    def _let_go(self) -> None:
        """Hold nothing that holds this, for to find such garbage stops the loop."""
        self._books.let_go()
        self.returning.let_go()
        self._deadlines.let_go()
        self._contained = Contained("an answer")
        self._company = ALONE

    async def _run_and_settle(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._books.run)
            for stage, open_ in zip(self.plan.stages, self.plan.opens, strict=True):
                if not self.generation.over:
                    self._open(stage.key, open_)
            await self._deadlines.watch(self.over)
            if self.generation.phase is Phase.FAILED:
                self._write_off_away()
            with trio.move_on_after(SETTLE_S):
                await self._paid.wait()
            self._write_off_away()
            self._books.close()

    async def wait_begun(self) -> None:
        """Wait until an id has come, or the generation has failed."""
        while not self.begun:
            await self.changed.wait()

    @property
    def begun(self) -> bool:
        """An id has come, or none will."""
        return self.generation.begun

    @property
    def first_id_s(self) -> float | None:
        return self._patience.first_id_s

    @property
    def last_id_s(self) -> float | None:
        return self._patience.last_id_s

    @property
    def times(self) -> Times | None:
        """The times of its ids; None where none came. One that was waited for in vain counts as if it had come then.

        An answer that a link of ours held up says nothing of its stages.
        """
        if self.first_id_s is None or self.last_id_s is None or self.returning.was_away:
            return None
        first_s, ids = self.first_id_s - self.started_s, len(self.generation.ids)
        if self._deadlines.gave_up_s is not None:
            return Times(first_s, self._deadlines.gave_up_s - self.first_id_s, ids + 1)
        return Times(first_s, self.last_id_s - self.first_id_s, ids)

    @property
    def holds_room(self) -> bool:
        """Stages keep pages and windows for it, as far as we know."""
        return self._books.account is not None or self.generation.opening

    @property
    def refused_by(self) -> frozenset[PeerKey]:
        """The stages that are to blame for that no id came, as of `blame.py`."""
        return frozenset(self._blame.stages)

    def fail(self, text: str, code: Code) -> None:
        """End the generation, unless it is over, and tell every stage how far it is paid."""
        if not self.generation.over:
            self._send_all(self.generation.fail(text, code))
            self._after_change()

    def fail_to_keep(self, error: JournalError) -> None:
        """Our disk takes no records, so nothing more may be owed; what is owed by then is signed once it takes some."""
        if self.generation.over and not self.cannot_keep:
            logger.error("receipts of an answer that is over cannot be kept: %s", error)
        self.cannot_keep = True
        self.fail(f"its receipts cannot be kept: {error}", Code.INTERNAL)

    def give_up(self, patience_s: float) -> None:
        """Nothing came for so long. Of several stages one that does not accept may wait for its link to the next."""
        awaited = [self.plan.stages[place].key for place in self._books.awaited]
        self._blame.note_silence()
        who = f"stage {short_names(awaited)} did not accept" if awaited else "no id came"
        self.fail(f"{who} within {patience_s:.0f} s", Code.SILENT)

    @property
    def reserve(self) -> int:
        """Nano-credits that its contracts may come to."""
        return sum(contract.record.reserve for contract in self.plan.contracts)

    @property
    def cost(self) -> int:
        """Nano-credits that this client has signed for."""
        return sum(self.costs)

    @property
    def costs(self) -> tuple[int, ...]:
        """The same, of each stage."""
        return self._books.costs

    @property
    def unpaid(self) -> ClientAccount | None:
        """The account, where a stage may still propose what it is owed.

        None where every final receipt is complete, or no id came: for such a prompt nothing is signed any more.
        """
        return self._books.account if self.generation.ids and not self._books.are_final else None

    # Messages

    async def _watch_links(self, deaths: trio.MemoryReceiveChannel[Incoming]) -> None:
        async for peer, why in deaths:
            assert isinstance(why, LinkDead)  # messages come to `take_message`
            self._lose(peer, why)

    def take_message(self, sender: PeerKey, message: SessionMessage) -> None:
        """Take what came from a stage; where it breaks the protocol the generation fails, and nothing else."""
        with self._contained:
            try:
                match message:
                    case Sampled():
                        self._take_ids(sender, message)
                    case Propose():
                        self._take_proposal(sender, message)
                    case Stored():
                        self._pass_on(sender, message)
                        self._books.note_stored(self.generation.route.index(sender), message.seq)
                        self._after_change()
                    case Accept() if not self.generation.over:  # too late, nothing is done under it
                        self._take_accept(sender, message)
                    case _:
                        self._pass_on(sender, message)
            except RemoteProtocolError as error:
                self._blame.note_fault(sender, error)
                self.fail(f"stage {short_name(sender)} broke the protocol: {error}", error.code)

    def _take_accept(self, sender: PeerKey, message: Accept) -> None:
        """Check the stage's signature. With the last one the prompt is sent, once the contracts are stored."""
        place = self.generation.route.index(sender)
        request = self.plan.contracts[place]
        contract = verify_contract(request.body, request.signatures[0], message.signature)
        sends = self.generation.receive(sender, message)
        self._books.agree(place, contract)
        if not self.generation.opening:
            self._patience.note_opened(trio.current_time())
            self._books.when_agreed(partial(self._begin, sends))
        self._after_change()

    def _begin(self, sends: Sequence[Send]) -> None:
        self.returning.has_begun = True
        if not self.generation.over:
            self._send_all(sends)

    def _take_ids(self, sender: PeerKey, message: Sampled) -> None:
        """Deliver ids, and count those that were taken: what comes after the end is dropped."""
        generation = self.generation
        known = len(generation.ids)
        generation.receive(sender, message)
        self._after_change()
        if not (ids := generation.ids[known:]):
            return
        self._patience.note_ids(len(ids), trio.current_time())
        if not known:
            self._company.first_id(self)  # no checkpoint before it
        if refusals := self._books.add_ids(ids):
            self._refuse(refusals)

    def _lose(self, peer: PeerKey, why: LinkDead) -> None:
        unsettled = bool(self.generation.ids) and not self._books.are_settled
        if not self.returning.takes(peer, why, unsettled):
            self._lose_for_good(peer, why)

    def _lose_for_good(self, peer: PeerKey, why: LinkDead) -> None:
        self._write_off(peer)
        self._blame.note_lost(peer)
        self.fail(f"the link to stage {short_name(peer)} broke: {why}", Code.LOST)
        self._after_change()

    def _look_sooner(self) -> None:
        self._deadlines.look_sooner()

    def _write_off(self, peer: PeerKey) -> None:
        """Settle what the stage has not proposed at next contact, and have no other's proposals wait for its word."""
        self._refuse(self._books.lose(self.generation.route.index(peer)))

    def _write_off_away(self) -> None:
        """Stages to which we do not come back."""
        for peer in self.returning.stop():
            self._write_off(peer)
        self._after_change()

    def _pass_on(self, sender: PeerKey, message: SessionMessage) -> None:
        """Let the generation decide, and send what follows."""
        if isinstance(message, SessionRefused | Close):
            self._blame.note_end(sender, message)
        if isinstance(message, SessionRefused):
            self.retry_s = message.retry_ms / 1000 or None
            self._company.refused(sender, message)
        self._send_all(self.generation.receive(sender, message))
        self._after_change()

    def _after_change(self) -> None:
        """Wake those who wait for a change."""
        if self.generation.over:
            if not self.over.is_set():
                self._books.give_up()  # not a step later: what comes next may be a proposal
                self.over.set()
            if not self.generation.ids or self._books.are_settled:  # where no id came nothing is to be signed
                self._paid.set()
        self.changed.set()
        self.changed = trio.Event()

    def _break(self) -> None:
        """End after a fault of ours."""
        self.fail("a fault of this client's own, which its log tells", Code.INTERNAL)
        self._paid.set()

    # Receipts

    def _take_proposal(self, sender: PeerKey, message: Propose) -> None:
        self._pass_on(sender, message)
        place = self.generation.route.index(sender)
        self._refuse(self._books.propose(place, message, trio.current_time()))
        self._deadlines.refuse_late()
        self._deadlines.look_sooner()

    def _refuse(self, refusals: Sequence[Refuse]) -> None:
        for refusal in refusals:
            stage = short_name(self.generation.route[refusal.stage])
            self.fail(f"receipt {refusal.seq} of stage {stage} is not signed: {refusal.text}", refusal.code)

    # Sending

    def _open(self, peer: PeerKey, message: Open) -> None:
        if self._link_to(peer) is None:  # it died before the session was open, and nobody told us
            self._blame.note_lost(peer)
            self.fail(f"stage {short_name(peer)} vanished while the route opened", Code.LOST)
        else:
            self._send(peer, message)

    def _say(self, place: int, message: Signed) -> None:
        self._send(self.generation.route[place], message)

    def _send_all(self, sends: Sequence[Send]) -> None:
        for send in sends:
            self._send(send.to, send.message)

    def _send(self, peer: PeerKey, message: Message) -> None:
        priority = Priority.PREFILL if isinstance(message, Prompt) else Priority.CONTROL
        if isinstance(message, Close):
            self._company.closed(peer, message)
        link = self._link_to(peer)
        try:
            if link is not None:
                link.send_nowait(message, priority)
        except LinkDead:
            return  # `lose` follows
