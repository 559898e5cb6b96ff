"""One generation under way: opens its stages, delivers ids as they come, signs receipts (protocols/inference.md).

Decisions are `generation.py`'s and `client_account.py`'s; this sends, stores before it sends, and keeps the deadlines.
Choosing the route is the caller's.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Final

import trio

from p2pinfer.client.contracts import Plan
from p2pinfer.client.patience import STALL_S, Patience
from p2pinfer.client.promised import Times
from p2pinfer.client.signing import store_signed
from p2pinfer.core.client_account import ClientAccount, Decision, Refuse
from p2pinfer.core.codes import Code
from p2pinfer.core.contract import Contract, verify_contract
from p2pinfer.core.ending import Ending
from p2pinfer.core.errors import Disputed, JournalError, LinkDead, RemoteProtocolError
from p2pinfer.core.generation import Generation
from p2pinfer.core.keys import PrivateKey, short_name, short_names
from p2pinfer.core.receipt import FINAL
from p2pinfer.core.records import SignedRecord
from p2pinfer.core.session_messages import (
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
from p2pinfer.core.units import PeerKey
from p2pinfer.disk.journal import Journal
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.outbox import Priority

OPEN_S: Final = 15.0  # from the Open, for every stage to accept, which may link to the next one first (REACH_S)
HELD_UP_S: Final = 1.0  # past a deadline: our own process was stopped, or its machine slept
SETTLE_S: Final = 5.0  # for final receipts to be proposed, signed and acknowledged
# A stage that ends a session with one of these had that from nobody else in it. Not so the others: `idle` where another
# sent it nothing, `engine` where rows it was sent overflow in its layers, `lost` where another closed their link.
OWN_ENDS: Final = frozenset((Code.LEAVING, Code.DRAINED, Code.INTERNAL))

logger = logging.getLogger(__name__)

Incoming = tuple[PeerKey, SessionMessage | LinkDead]


class Running:
    """A generation under way. times are monotonic: opened, first_id, last_id, in seconds; None until then.

    `changed` is renewed with every change; whoever follows the pieces waits on it.
    """

    def __init__(
        self,
        plan: Plan,
        prompt: tuple[int, ...],
        vocabulary: int,
        key: PrivateKey,
        ending: Ending,
        journal: Journal,
        link_to: Callable[[PeerKey], Link | None],
        step_s: float = 0.0,
    ) -> None:
        """step_s: what is expected from one id to the next."""
        self.plan = plan
        route = [stage.key for stage in plan.stages]
        self.generation = Generation(plan.session, 0, prompt, route, vocabulary, ending)
        self.started_s = trio.current_time()
        self.first_id_s: float | None = None
        self.last_id_s: float | None = None
        self.changed = trio.Event()
        self.over = trio.Event()
        self.settled = trio.Event()  # over, and its receipts are signed, or given up
        self._prompt = prompt
        self._key = key
        self._journal = journal
        self._link_to = link_to
        self._account: ClientAccount | None = None
        self._contracts: dict[int, SignedRecord[Contract]] = {}  # by place in the route
        self._settled: set[int] = set()  # places whose final receipt the node stored, or that are gone
        self._refused_by: set[PeerKey] = set()
        self.cannot_keep = False  # its records: our disk is full
        self.retry_s: float | None = None  # a stage had no room, and says when it may have some
        self._open_by = self.started_s + OPEN_S  # however many stages dawdle: each accepts by itself
        self._patience = Patience(step_s, self.started_s)
        self._given_up_s: float | None = None  # after some ids, since no more came, or too slowly
        self.on_first_id: Callable[[], None] = lambda: None  # called in the step in which it comes
        self.on_refused: Callable[[PeerKey, SessionRefused], None] = lambda _stage, _message: None
        self._until_over = trio.CancelScope()

    async def run(self, incoming: trio.MemoryReceiveChannel[Incoming]) -> None:
        """See the generation through, and its receipts; returns when nothing more is to be done."""
        try:
            await self._run_until_over(incoming)
            await self._settle(incoming)
        finally:
            self.settled.set()

    async def _run_until_over(self, incoming: trio.MemoryReceiveChannel[Incoming]) -> None:
        try:
            with self._until_over:
                for stage, open_ in zip(self.plan.stages, self.plan.opens, strict=True):
                    self._open(stage.key, open_)
                while not self.generation.over:
                    await self._take_next(incoming)
        finally:
            self.fail("the client was closed", Code.CANCELLED)
            self.over.set()
            self._notify()

    async def wait_begun(self) -> None:
        """Wait until an id has come, or the generation has failed."""
        while not self.begun:
            await self.changed.wait()

    @property
    def begun(self) -> bool:
        """An id has come, or none will."""
        return bool(self.generation.ids) or self.generation.over

    @property
    def times(self) -> Times | None:
        """When its ids came; None where none did. One that was waited for in vain counts as if it had come then."""
        if self.first_id_s is None or self.last_id_s is None:
            return None
        first_s, ids = self.first_id_s - self.started_s, len(self.generation.ids)
        if self._given_up_s is not None:
            return Times(first_s, self._given_up_s - self.first_id_s, ids + 1)
        return Times(first_s, self.last_id_s - self.first_id_s, ids)

    @property
    def holds_room(self) -> bool:
        """Stages keep pages and windows for it, as far as we know."""
        return self._account is not None or self.generation.opening

    @property
    def refused_by(self) -> frozenset[PeerKey]:
        """The stages that refused, vanished, or broke the protocol before the first id, whatever the others did.

        Of several, none is here for what another could have brought about.
        """
        return frozenset(self._refused_by)

    def fail(self, text: str, code: Code) -> None:
        """End the generation, unless it is over, and tell every stage how far it is paid."""
        if not self.generation.over:
            for send in self.generation.fail(text, code):
                self._send(send.to, send.message)
            if self._account is not None:
                self._account.give_up()  # not a step later: what is being taken may be a proposal
            self._until_over.cancel()

    def fail_to_keep(self, error: JournalError) -> None:
        """Our disk takes no records, so nothing more may be owed; what is owed by then is signed once it takes some."""
        if self.generation.over and not self.cannot_keep:
            logger.error("receipts of an answer that is over cannot be kept: %s", error)
        self.cannot_keep = True
        self.fail(f"its receipts cannot be kept: {error}", Code.INTERNAL)

    def give_up(self, patience_s: float) -> None:
        """Nothing came for so long. Of several stages one that does not accept may wait for its link to the next."""
        awaited = [stage.key for place, stage in enumerate(self.plan.stages) if place not in self._contracts]
        if self._is_solo:
            self._blame(self.plan.stages[0].key)
        who = f"stage {short_names(awaited)} did not accept" if awaited else "no id came"
        self.fail(f"{who} within {patience_s:.0f} s", Code.SILENT)

    def _stall(self) -> None:
        """The patience with it is used up."""
        now = trio.current_time()
        if self.first_id_s is None or self.last_id_s is None:
            self.give_up(STALL_S)
            return
        self._given_up_s = now
        if now >= self.last_id_s + STALL_S:
            self.fail(f"no id came within {STALL_S:.0f} s", Code.SILENT)
            return
        ids, took_s, step_s = len(self.generation.ids), now - self.first_id_s, self._patience.step_s
        words = f"{ids} tokens in {took_s:.0f} s, where one in {step_s:.2g} s was to be expected of these nodes"
        self.fail(f"the answer came too slowly: {words}", Code.SILENT)

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
        places = range(len(self.plan.stages))
        signed = [self._account.complete(place) if self._account else None for place in places]
        return tuple(receipt.record.amount if receipt else 0 for receipt in signed)

    @property
    def unpaid(self) -> ClientAccount | None:
        """The account, where a stage may still propose what it is owed.

        None where every final receipt is complete, or no id came: for such a prompt nothing is signed any more.
        """
        account = self._account
        if (
            account is None
            or not self.generation.ids
            or all(account.is_final(place) for place in range(len(self.plan.stages)))
        ):
            return None
        return account

    # Messages

    async def _take_next(self, incoming: trio.MemoryReceiveChannel[Incoming]) -> None:
        opening = self.generation.opening
        silent_at = self._open_by if opening else self._patience.ends
        while trio.current_time() < silent_at:
            late_at = self._account.deadline if self._account is not None else None
            with trio.move_on_at(silent_at if late_at is None else min(silent_at, late_at)) as scope:
                received = await incoming.receive()
            if not scope.cancelled_caught:
                await self._take(*received)
                break
            if self._account is not None:
                await self._decide(self._account.late(trio.current_time()))
        else:
            now = trio.current_time()
            if now > silent_at + HELD_UP_S:  # it was we who did nothing: what came meanwhile lies unread
                self._open_by = now + HELD_UP_S
                self._patience.ends = now + HELD_UP_S
            elif opening:
                self.give_up(OPEN_S)
            else:
                self._stall()

    async def _take(self, sender: PeerKey, message: SessionMessage | LinkDead) -> None:
        """Take what came from a stage; where it breaks the protocol the generation fails, and nothing else."""
        try:
            match message:
                case LinkDead():
                    await self._lose(sender, message)
                case Propose():
                    await self._take_proposal(sender, message)
                case Stored():
                    await self._take_stored(sender, message)
                case Accept():
                    await self._take_accept(sender, message)
                case Sampled():
                    await self._take_ids(sender, message)
                case _:
                    self._pass_on(sender, message)
        except RemoteProtocolError as error:
            if self._is_solo or not isinstance(error, Disputed):
                self._blame(sender)
            self.fail(f"stage {short_name(sender)} broke the protocol: {error}", error.code)
        except JournalError as error:
            self.fail_to_keep(error)

    async def _take_accept(self, sender: PeerKey, message: Accept) -> None:
        """Check the stage's signature and store the contract; then the generation may go on."""
        if not self.generation.over:  # too late, nothing is done under it
            await self._agree(sender, message)
            self._patience.note_opened(trio.current_time())
        self._pass_on(sender, message)

    async def _agree(self, sender: PeerKey, message: Accept) -> None:
        place = self.generation.route.index(sender)
        request = self.plan.contracts[place]
        contract = verify_contract(request.body, request.signatures[0], message.signature)
        await self._journal.agree(contract, self.plan.session)
        self._contracts[place] = contract
        if len(self._contracts) == len(self.plan.stages):
            ordered = [self._contracts[at] for at in range(len(self.plan.stages))]
            self._account = ClientAccount(ordered, self._prompt, self.plan.secret, self._key)

    async def _take_ids(self, sender: PeerKey, message: Sampled) -> None:
        """Deliver ids, and count those that were taken: what comes after the end is dropped."""
        known = len(self.generation.ids)
        self._pass_on(sender, message)
        if not known and self.generation.ids:
            self.on_first_id()  # no checkpoint before it
        if self._account is not None and (ids := self.generation.ids[known:]):
            self.last_id_s = trio.current_time()
            self._patience.note_ids(len(ids), self.last_id_s)
            self.first_id_s = self.first_id_s or self.last_id_s
            await self._decide(self._account.add_ids(ids))

    async def _lose(self, peer: PeerKey, why: LinkDead) -> None:
        place = self.generation.route.index(peer)
        self._settled.add(place)  # what it has not proposed is settled at next contact
        if self._account is not None:
            await self._decide(self._account.lost(place))
        self._blame(peer)
        self.fail(f"the link to stage {short_name(peer)} broke: {why}", Code.LOST)

    def _blame(self, peer: PeerKey) -> None:
        """Before the first id, another may take its place."""
        if not self.begun:
            self._refused_by.add(peer)

    @property
    def _is_solo(self) -> bool:
        return len(self.plan.stages) == 1

    def _is_proof(self, sender: PeerKey, message: SessionRefused | Close) -> bool:
        """The stage did not serve, and no other one can have brought that about."""
        code = Code.read(message.code)
        if self._is_solo:
            return True
        if isinstance(message, SessionRefused):
            return code is not Code.UNREACHABLE
        is_head = sender == self.generation.route[0]  # its engine is given ids, none of which overflows
        return code in OWN_ENDS or (code is Code.ENGINE and is_head)

    def _pass_on(self, sender: PeerKey, message: SessionMessage) -> None:
        """Let the generation decide, and send what follows."""
        if isinstance(message, SessionRefused | Close) and self._is_proof(sender, message):
            self._blame(sender)
        if isinstance(message, SessionRefused):
            self.retry_s = message.retry_ms / 1000 or None
            self.on_refused(sender, message)
        for send in self.generation.receive(sender, message):
            self._send(send.to, send.message)
        self._notify()

    # Receipts

    async def _take_proposal(self, sender: PeerKey, message: Propose) -> None:
        self._pass_on(sender, message)
        if self._account is None:
            return
        place = self.generation.route.index(sender)
        now = trio.current_time()
        await self._decide(self._account.propose(place, message.receipt, message.signature, now))
        await self._decide(self._account.late(now))

    async def _decide(self, decisions: Sequence[Decision]) -> None:
        assert self._account is not None
        await store_signed(self._journal, self._account, decisions)
        refused = [decision for decision in decisions if isinstance(decision, Refuse)]
        for decision in decisions:
            if isinstance(decision, Refuse):
                continue
            signed = Signed(self.plan.session, decision.receipt.body, decision.receipt.signatures[1])
            self._send(self.generation.route[decision.stage], signed)
        for decision in refused:  # after what is owed was sent, since it ends the generation
            stage = short_name(self.generation.route[decision.stage])
            self.fail(f"receipt {decision.seq} of stage {stage} is not signed: {decision.text}", decision.code)

    async def _take_stored(self, sender: PeerKey, message: Stored) -> None:
        self._pass_on(sender, message)
        place = self.generation.route.index(sender)
        complete = self._account.complete(place) if self._account else None
        if complete is not None and complete.record.state == FINAL and complete.record.seq == message.seq:
            self._settled.add(place)
            await self._journal.acknowledge(complete.record.contract, message.seq)

    async def _settle(self, incoming: trio.MemoryReceiveChannel[Incoming]) -> None:
        """Sign the last receipts, until every stage has stored its final one or time is up."""
        if self._account is not None:
            self._account.give_up()
        over_at = trio.current_time() + SETTLE_S
        while self._unsettled():
            with trio.move_on_at(over_at) as scope:
                received = await incoming.receive()
            if scope.cancelled_caught:
                return
            await self._take(*received)

    def _unsettled(self) -> bool:
        """Final receipts are still to be signed; where no id came none is."""
        return bool(self.generation.ids) and not self._settled.issuperset(range(len(self.plan.stages)))

    # Sending

    def _open(self, peer: PeerKey, message: Open) -> None:
        if self._link_to(peer) is None:  # it died before the session was open, and nobody told us
            self._blame(peer)
            self.fail(f"stage {short_name(peer)} vanished while the route opened", Code.LOST)
        self._send(peer, message)

    def _send(self, peer: PeerKey, message: SessionMessage) -> None:
        priority = Priority.PREFILL if isinstance(message, Prompt) else Priority.CONTROL
        link = self._link_to(peer)
        try:
            if link is not None:
                link.send_nowait(message, priority)
        except LinkDead:
            return  # `lose` follows

    def _notify(self) -> None:
        self.changed.set()
        self.changed = trio.Event()
