"""The books of a session of a node: what it proposes and what is signed, durable before it is said (receipts.md)."""

import logging
from collections.abc import Callable
from typing import Final

import trio

from p2pinfer.core.money.stage_account import StageAccount
from p2pinfer.core.records.receipt import Receipt
from p2pinfer.core.records.records import SignedRecord
from p2pinfer.core.values.errors import JournalError
from p2pinfer.core.values.units import SessionId
from p2pinfer.core.wire.session_messages import Propose, Stored
from p2pinfer.disk.journal import Journal
from p2pinfer.node.session_client import SessionClient

AGAIN_S: Final = 1.0  # until a disk that failed is tried again: it may have room then

logger = logging.getLogger(__name__)


class SessionBooks:
    """due: set when there may be something to write; renewed. unix: the time of day"""

    def __init__(
        self,
        session: SessionId,
        account: StageAccount,
        journal: Journal,
        client: SessionClient,
        unix: Callable[[], int],
    ) -> None:
        self.due = trio.Event()
        self._session = session
        self._account = account
        self._journal = journal
        self._client = client
        self._unix = unix
        self._to_complete: list[SignedRecord[Receipt]] = []
        self._has_contract = False  # the journal
        self._stored = 0  # the number of the last proposal that is there
        self._is_again = False  # what the client has not signed is to be proposed again
        self._fails = False  # the disk did, the last time

    async def wait_due(self) -> None:
        """Wait until there may be something to write, or the disk may do what it did not."""
        if self._fails:
            await trio.sleep(AGAIN_S)
        else:
            await self.due.wait()
        self.due = trio.Event()

    def complete(self, receipt: SignedRecord[Receipt]) -> None:
        """The client has signed it."""
        self._to_complete.append(receipt)
        self.due.set()

    def repeat(self) -> None:
        """The client may not have got what it has not signed."""
        self._is_again = True
        self.due.set()

    async def keep_contract(self) -> None:
        """Store the contract before there is work. Raises JournalError."""
        await self._journal.agree(self._account.contract, self._session)
        self._has_contract = True

    async def write(self) -> bool:
        """Propose what is due and acknowledge what is complete, each after it is durable.

        Return False where that fails: what is signed and not stored is not paid then. To write again makes up for it.
        """
        try:
            await self._complete()
            self._propose_again()
            await self._propose()
        except JournalError as error:
            if not self._fails:
                logger.error("receipts of a session cannot be kept: %s", error)
            self._fails = True
            self._account.withdraw()
            return False
        self._fails = False
        return True

    @property
    def are_settled(self) -> bool:
        """Of a session that has ended nothing more is to be signed; or it may be, at the next contact."""
        account = self._account
        return not account.committed or account.closed or (self._client.is_lost and not account.is_due)

    def unsigned(self) -> list[Propose]:
        """Return what the client has not signed, of what is stored."""
        return [self._proposal(one.signed) for one in self._account.pending if one.seq <= self._stored]

    async def _complete(self) -> None:
        while self._to_complete:
            receipt = self._to_complete[0]
            await self._journal.complete(receipt, stored=True)
            del self._to_complete[0]
            self._account.note_stored(receipt)
            self._client.say(Stored(self._session, receipt.record.seq))

    def _propose_again(self) -> None:
        if self._is_again:
            self._is_again = False
            for proposal in self.unsigned():
                self._client.say(proposal)

    async def _propose(self) -> None:
        self._account.due(self._unix())
        for proposal in self._account.pending:
            if proposal.seq > self._stored:
                await self._store(proposal.signed)
                self._client.say(self._proposal(proposal.signed))

    async def _store(self, proposal: SignedRecord[Receipt]) -> None:
        if self._has_contract:
            await self._journal.propose(proposal)
        else:
            await self._journal.propose_first(proposal, self._account.contract, self._session)
            self._has_contract = True
        self._stored = proposal.record.seq

    def _proposal(self, signed: SignedRecord[Receipt]) -> Propose:
        return Propose(self._session, signed.body, signed.signatures[0])
