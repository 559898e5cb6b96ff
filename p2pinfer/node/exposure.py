"""The risk of a node with its clients: work done and not signed (protocols/receipts.md, 5.4).

An open contract takes what it could leave unsigned. Once its session is over only what was really left unpaid stays
taken, until it is signed or too old to count. A restart forgets nothing of it that was proposed. Of what was given up
there is no record: it is less than one receipt's positions, and a commit for each session of a stranger costs more.
Contracts that are not worth the room that their records take are counted beside it.
"""

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import trio

from p2pinfer.core.money.budget import Budget, Debtor, Left, Risk
from p2pinfer.core.money.ledger import Earned
from p2pinfer.core.money.small_contracts import SmallContracts, day_of, is_small
from p2pinfer.core.money.stage_account import StageAccount
from p2pinfer.core.records.contract import Contract
from p2pinfer.core.records.receipt import Receipt
from p2pinfer.core.records.records import SignedRecord
from p2pinfer.core.swarm.source import Source
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import Refused, UsageError
from p2pinfer.core.values.units import PeerKey, RecordId
from p2pinfer.disk.journal import Journal
from p2pinfer.disk.journal_reader import JournalReader
from p2pinfer.disk.key_files import own_keys

LOOK_S: Final = 10.0  # between looks into the data folder for new keys of the owner's own clients
PAGE: Final = 64  # contracts of an earlier process that are read at once, some milliseconds' work, and
PAGE_S: Final = 0.1  # between two such pages

logger = logging.getLogger(__name__)


class Exposure:
    """Takes work at risk for contracts and gives it back; `now` is the wall clock in Unix seconds.

    folder: has the keys of the owner's own clients
    """

    def __init__(self, journal: Journal, folder: Path, risk: Risk) -> None:
        self.budget = Budget(risk)
        self.small = SmallContracts()
        self._journal = journal
        self._folder = folder
        self._own: frozenset[PeerKey] = frozenset()
        self._looked_s = -LOOK_S
        self._unread = ""  # why the keys could not be read, as it was told
        self._open: dict[RecordId, Debtor] = {}
        self._left: dict[RecordId, Left] = {}

    def dare(self, risk: Risk) -> None:
        """From now on risk so much."""
        self.budget.risk = risk

    async def recall(self, now: int) -> None:
        """Count what earlier processes of this node proposed and nobody signed."""
        newest = {contract.id: (contract, proposal) for contract, proposal in await self._journal.read(_pending)}
        for contract, proposal in newest.values():
            terms = contract.record
            paid, signed = await self._journal.read(partial(_standing, contract=contract))
            proposed = _committed(terms, proposal)
            left = Left(terms, proposed, proposed, paid, proposal.record.time)
            # Where it came from is not known any more: it counts for no network
            client = Debtor(terms.client, None, signed, await self.is_owners(terms))
            if left.ended >= day_of(now):
                self._count_small(client, left, now)
            if left.debt.until >= now:
                self._left[contract.id] = left
                self.budget.recall(contract.id, client, left.debt)

    async def recall_small(self, now: int) -> None:
        """Count the small contracts that earlier processes of this node had today and that nobody owes anything under.

        now: when this process started. There may be thousands: a few at a time, beside what clients want of the node.
        """
        after = day_of(now), RecordId(b"")
        while page := await self._journal.read(partial(_settled, after=after, until=now)):
            for earned, signed in page:
                terms, positions = earned.contract.record, _committed(earned.contract.record, earned.receipt)
                client = Debtor(terms.client, None, signed, await self.is_owners(terms))
                self._count_small(client, Left(terms, positions, positions, positions, now), now)
            last = page[-1][0]
            after = last.receipt.record.time, last.contract.id
            await trio.sleep(PAGE_S)

    async def take(self, contract: SignedRecord[Contract], source: Source, now: int) -> None:
        """Take what a contract that opens could leave unpaid.

        Raises Refused: LAPSED, WINDOW_FULL, BAD_TERMS, BUSY where its network had too many small contracts today, or
        BAD_STATE where it was worked under before.
        """
        self.budget.forget(now)
        self._left = {id_: left for id_, left in self._left.items() if self.budget.is_taken(id_)}
        terms = contract.record
        worked_under, signed = await self._journal.read(partial(_history, contract=contract))
        if worked_under:
            raise Refused("this contract was worked under before", Code.BAD_STATE)
        client = Debtor(terms.client, source.network, signed, await self.is_owners(terms))
        if not client.own:
            self.small.check(client, len(terms.span), now)
        work = min(terms.limits.window, terms.limits.max_positions) * len(terms.span)
        self.budget.take(contract.id, client, work, terms.expires - terms.issued, now)
        self._open[contract.id] = client

    def is_open(self, contract: RecordId) -> bool:
        """True if a session of ours still takes care of this contract."""
        return contract in self._open

    def debtors(self) -> set[PeerKey]:
        """Clients of contracts that are over and of which work is not signed for."""
        return {PeerKey(left.contract.client) for left in self._left.values()}

    def is_newcomer(self, contract: RecordId) -> bool:
        """True if an open contract takes from what newcomers share."""
        return self.budget.is_newcomer(contract)

    def is_own(self, contract: RecordId) -> bool:
        """True if the client of an open contract is the owner."""
        return self.budget.is_own(contract)

    def end(self, contract: SignedRecord[Contract], account: StageAccount | None, now: int) -> None:
        """The contract's session is over, or never began; its account says what was done and what was paid."""
        client = self._open.pop(contract.id, None)
        if account is None:
            self._forget(contract.id)
            return
        left = Left(contract.record, account.worked, account.proposed, account.paid, now)
        self._keep(contract.id, left)
        if client is not None:
            self._count_small(client, left, now)

    def settle(self, contract: SignedRecord[Contract], receipt: SignedRecord[Receipt]) -> None:
        """A receipt of a contract that is over was completed."""
        if (left := self._left.get(contract.id)) is not None:
            self._keep(contract.id, replace(left, paid=max(left.paid, _committed(contract.record, receipt))))

    def _count_small(self, client: Debtor, left: Left, now: int) -> None:
        if not client.own and is_small(left.proposed, left.paid):
            self.small.add(client, len(left.contract.span), now)

    def _keep(self, contract: RecordId, left: Left) -> None:
        if not left.unsigned:
            self._forget(contract)
        else:
            self._left[contract] = left
            self.budget.keep(contract, left.debt)

    def _forget(self, contract: RecordId) -> None:
        self._left.pop(contract, None)
        self.budget.give_back(contract)

    async def is_owners(self, terms: Contract) -> bool:
        """True if the client is the owner: what it owes goes in a circle."""
        if terms.client == bytes(terms.owner):
            return True
        if terms.client not in self._own and trio.current_time() >= self._looked_s + LOOK_S:
            self._looked_s = trio.current_time()
            try:
                self._own = await trio.to_thread.run_sync(own_keys, self._folder)
            except UsageError as error:
                if (why := str(error)) != self._unread:
                    self._unread = why
                    logger.warning("the owner's own clients are not told from others: %s", why)
        return terms.client in self._own


def _pending(reader: JournalReader) -> list[tuple[SignedRecord[Contract], SignedRecord[Receipt]]]:
    return reader.pending()


def _settled(reader: JournalReader, after: tuple[int, RecordId], until: int) -> list[tuple[Earned, int]]:
    """The next contracts that all is signed of, and the work that their clients have signed for in full."""
    page = reader.settled(after, until, PAGE)
    return [(earned, reader.signed(earned.contract.record.client)) for earned in page]


def _standing(reader: JournalReader, contract: SignedRecord[Contract]) -> tuple[int, int]:
    """Positions paid under a contract, and the work that its client has signed for in full."""
    earned = reader.complete(contract.id)
    paid = _committed(contract.record, earned.receipt) if earned is not None else 0
    return paid, reader.signed(contract.record.client)


def _history(reader: JournalReader, contract: SignedRecord[Contract]) -> tuple[bool, int]:
    """True if a contract is known, and the work that its client has signed for in full."""
    return reader.contract(contract.id) is not None, reader.signed(contract.record.client)


def _committed(contract: Contract, receipt: SignedRecord[Receipt]) -> int:
    return contract.work.committed(receipt.record.usage)
