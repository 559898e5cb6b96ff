"""Receipts of generations that are over: signed ones are sent until their node has stored them (receipts.md).

A node that comes back with a proposal we signed already gets our signature again. One we never signed is signed as far
as what was delivered justifies it, by what the journal kept of that, also after a restart of ours. What it does not
justify is a claim: it is signed when a person says so, and one window at most.
"""

import logging
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

import trio

from p2pinfer.client.books import Purse
from p2pinfer.client.farewells import Farewells
from p2pinfer.client.signatures import store_signed
from p2pinfer.core.money.client_account import ClientAccount
from p2pinfer.core.money.ledger import Earned
from p2pinfer.core.records.contract import Contract
from p2pinfer.core.records.receipt import Receipt, verify_proposal
from p2pinfer.core.records.records import SignedRecord, countersign
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import JournalError, LinkDead, RemoteProtocolError
from p2pinfer.core.values.keys import short_name
from p2pinfer.core.values.units import Nanocredits, PeerKey, RecordId, SessionId
from p2pinfer.core.wire.session_messages import Accept, Close, Propose, SessionMessage, Signed, Stored
from p2pinfer.disk.journal_reader import Unpaid
from p2pinfer.overlay.contained import Contained
from p2pinfer.overlay.link import Link

MAX_REMEMBERED: Final = 64  # generations in memory; a long one takes some 100 kB
MAX_CLAIMS: Final = 256
MAX_WAITING: Final = 256  # messages on one link; what they say is said again at the next contact

Settle = Callable[[], Awaitable[None]]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Claim:
    """A node's proposal that nothing here justifies. signed: the highest receipt signed under the contract."""

    contract: SignedRecord[Contract]
    session: SessionId
    proposal: SignedRecord[Receipt]
    signed: SignedRecord[Receipt] | None

    @property
    def positions(self) -> int:
        """Positions claimed beyond what is signed."""
        return self.claimed - _positions(self.contract, self.signed)

    @property
    def claimed(self) -> int:
        """Positions claimed in all."""
        return _positions(self.contract, self.proposal)

    @property
    def amount(self) -> Nanocredits:
        """Nano-credits that signing it adds to the debt."""
        return Nanocredits(self.proposal.record.amount - (self.signed.record.amount if self.signed else 0))

    @property
    def within_window(self) -> bool:
        """No more is claimed than a node may work ahead of signatures."""
        return self.positions <= self.contract.record.limits.window


class ClientSettlement:
    """Generations under way take care of themselves. farewells: of those that are over"""

    def __init__(self, purse: Purse, nursery: trio.Nursery) -> None:
        self.purse = purse
        self.farewells = Farewells()
        self._journal = purse.journal
        self._key = purse.key
        self._nursery = nursery
        self._accounts: OrderedDict[SessionId, ClientAccount] = OrderedDict()  # the oldest first
        self._waiting: dict[Link, deque[Settle]] = {}  # a link has a task while something waits on it
        self._one_at_a_time = trio.Lock()  # what is signed for one stage may be due to its neighbour's word
        self.claims: dict[RecordId, Claim] = {}  # by contract, the highest of each

    async def remember(self, session: SessionId, account: ClientAccount, now: int) -> None:
        """A generation is over, and some of its stages are not paid up: their links broke, or they are slow."""
        self._remember(session, account)
        try:
            await self.keep(session, account, now)
        except JournalError as error:
            logger.error("what an answer left unsigned is not known after a restart: %s", error)

    async def keep(self, session: SessionId, account: ClientAccount, now: int) -> None:
        """Make durable what is needed to sign later what is not signed yet; now: Unix seconds."""
        if account.unsigned:
            await self._journal.keep(session, self._key.public, account.kept(), now)
        else:
            await self._journal.drop(session)

    def greet(self, link: Link) -> None:
        """A node may be back: send it what it has not stored."""
        self._settle(link, partial(self._send_unstored, link))

    def take(self, link: Link, message: SessionMessage) -> None:
        """A message of a session that is not open here."""
        match message:
            case Propose():
                self._settle(link, partial(self._answer, link, message))
            case Stored():
                self._settle(link, partial(self._acknowledge, link.peer, message))
            case Accept():
                self._close(link, message)

    async def sign(self, claim: Claim) -> None:
        """Sign a claim on a person's word, store it, and leave it to `greet` to send it.

        Raises RemoteProtocolError for more than one window.
        """
        if not claim.within_window:
            raise RemoteProtocolError(
                f"{claim.positions} positions claimed, the window has {claim.contract.record.limits.window}",
                Code.RECEIPT_MISMATCH,
            )
        async with self._one_at_a_time:
            await self._journal.complete(countersign(claim.proposal, self._key))
            self.claims.pop(claim.contract.id, None)
            self._accounts.pop(claim.session, None)
            await self._drop_if_paid(claim.session)

    # Each link in a task of its own: a node that does not read what it is sent holds up nobody but itself

    def _settle(self, link: Link, settle: Settle) -> None:
        waiting = self._waiting.setdefault(link, deque())
        if not waiting:
            self._nursery.start_soon(self._run, link, waiting)
        if len(waiting) < MAX_WAITING:
            waiting.append(settle)

    async def _run(self, link: Link, waiting: deque[Settle]) -> None:
        """One after the other, until none waits."""
        while waiting:
            with Contained(f"a settlement with stage {short_name(link.peer)}"):
                try:
                    await waiting[0]()
                except JournalError as error:
                    logger.error("nothing is settled with %s, for the journal fails: %s", short_name(link.peer), error)
            waiting.popleft()
        del self._waiting[link]

    # What is proposed

    async def _answer(self, link: Link, message: Propose) -> None:
        """Sign what may be signed, and send what the node has not stored. What waits for ids becomes a claim."""
        async with self._one_at_a_time:
            is_ours = await self._take_proposal(link, message)
        if is_ours:
            await self._send_unstored(link)

    async def _take_proposal(self, link: Link, message: Propose) -> bool:
        """Say if it is about a session of ours, with that node."""
        unpaid = await self._journal.read(lambda reader: reader.unpaid(message.session))
        place = _place(unpaid, link.peer)
        if unpaid is None or place is None or unpaid.client != self._key.public:
            return False
        try:
            signed = await self._sign_justified(unpaid, place, message)
            if not signed:
                self._claim(unpaid, place, message)
        except RemoteProtocolError as error:
            why = "a receipt of an earlier answer is not signed for stage %s: %s"
            logger.warning(why, short_name(link.peer), error)
        return True

    async def _sign_justified(self, unpaid: Unpaid, place: int, message: Propose) -> bool:
        """Say if the proposal is signed, now or before. Raises RemoteProtocolError for one that never will be."""
        if (account := self._account(unpaid)) is None:
            signed = unpaid.complete.get(unpaid.contracts[place].id)
            proposal = verify_proposal(message.receipt, message.signature, unpaid.contracts[place])
            return signed is not None and proposal.record.seq <= signed.record.seq
        decisions = account.propose(place, message.receipt, message.signature, trio.current_time())
        signs = await store_signed(self._journal, account, decisions)
        for decision in signs:
            self.claims.pop(decision.receipt.record.contract, None)
        if signs and not account.unsigned:
            await self._journal.drop(unpaid.session)
        return bool(decisions)

    def _account(self, unpaid: Unpaid) -> ClientAccount | None:
        """The account of a session, from memory or from what was kept of it."""
        account = self._accounts.get(unpaid.session)
        if account is None and unpaid.delivered is not None:
            account = ClientAccount.resumed(unpaid.contracts, unpaid.complete, unpaid.delivered, self._key)
            self._remember(unpaid.session, account)
        return account

    def _remember(self, session: SessionId, account: ClientAccount) -> None:
        self._accounts[session] = account
        while len(self._accounts) > MAX_REMEMBERED:
            self._accounts.popitem(last=False)

    def _claim(self, unpaid: Unpaid, place: int, message: Propose) -> None:
        """Keep a proposal for a person to look at; the last one under a contract says all."""
        contract = unpaid.contracts[place]
        signed = unpaid.complete.get(contract.id)
        proposal = verify_proposal(message.receipt, message.signature, contract)
        if signed is not None and (why := proposal.record.follows(signed.record)):
            raise RemoteProtocolError(why, Code.RECEIPT_MISMATCH)
        claim, held = Claim(contract, unpaid.session, proposal, signed), self.claims.get(contract.id)
        better = held is None or claim.claimed >= held.claimed
        if better and claim.within_window and (contract.id in self.claims or len(self.claims) < MAX_CLAIMS):
            self.claims[contract.id] = claim

    async def _drop_if_paid(self, session: SessionId) -> None:
        unpaid = await self._journal.read(lambda reader: reader.unpaid(session))
        if unpaid is not None and unpaid.delivered is not None:
            account = ClientAccount.resumed(unpaid.contracts, unpaid.complete, unpaid.delivered, self._key)
            if not account.unsigned:
                await self._journal.drop(session)

    # What is signed

    @staticmethod
    def _close(link: Link, late: Accept) -> None:
        """A stage accepts what the client has given up: it lets go of its pages at once."""
        with suppress(LinkDead):  # it lets go of them anyway
            link.send_nowait(Close(late.session, late.epoch, Code.CANCELLED, 0, ""))

    async def _send_unstored(self, link: Link) -> None:
        for earned in await self._unstored(link.peer):
            receipt = earned.receipt
            try:
                await link.send(Signed(earned.session, receipt.body, receipt.signatures[1]))
            except LinkDead:
                return

    async def _acknowledge(self, node: PeerKey, message: Stored) -> None:
        for earned in await self._unstored(node):
            if earned.session == message.session:
                await self._journal.acknowledge(earned.contract.id, message.seq)

    async def _unstored(self, node: PeerKey) -> Sequence[Earned]:
        return await self._journal.read(lambda reader: reader.unstored(self._key.public, node))


def _place(unpaid: Unpaid | None, node: PeerKey) -> int | None:
    contracts = unpaid.contracts if unpaid is not None else ()
    return next((at for at, contract in enumerate(contracts) if contract.record.node == node), None)


def _positions(contract: SignedRecord[Contract], receipt: SignedRecord[Receipt] | None) -> int:
    return contract.record.work.committed(receipt.record.usage) if receipt is not None else 0
