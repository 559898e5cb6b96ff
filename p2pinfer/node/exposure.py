"""What a node has at risk with its clients: work done and not signed (protocols/receipts.md, 5.4).

An open contract takes its window out of its client's budget. Once its session is over only what was really left unpaid
stays taken, until it is signed, or the contract lapses and its client is refused. A restart forgets nothing of it that
was proposed.
"""

from dataclasses import dataclass, replace
from functools import partial

from p2pinfer.core.budget import Budget, History
from p2pinfer.core.contract import Contract
from p2pinfer.core.receipt import Receipt
from p2pinfer.core.records import SignedRecord
from p2pinfer.core.stage_account import StageAccount
from p2pinfer.core.units import RecordId
from p2pinfer.disk.journal import Journal
from p2pinfer.disk.journal_reader import LAPSE_S, JournalReader


@dataclass(frozen=True, slots=True)
class _Left:
    """A contract that is over. committed: positions done under it; paid: signed for; lapses: Unix seconds."""

    committed: int
    paid: int
    lapses: int


class Exposure:
    """Takes windows for contracts and gives them back; `now` is the wall clock in Unix seconds."""

    def __init__(self, budget: Budget, journal: Journal) -> None:
        self._budget = budget
        self._journal = journal
        self._open: set[RecordId] = set()
        self._left: dict[RecordId, _Left] = {}

    async def recall(self, now: int) -> None:
        """Count what earlier processes of this node proposed and nobody signed."""
        newest = {contract.id: (contract, proposal) for contract, proposal in await self._journal.read(_pending)}
        for contract, proposal in newest.values():
            if (lapses := contract.record.expires + LAPSE_S) >= now:
                paid, history = await self._journal.read(partial(_standing, contract=contract, now=now))
                done = _committed(contract, proposal)
                self._left[contract.id] = _Left(done, paid, lapses)
                self._budget.recall(contract.id, contract.record.client, done - paid, history)

    async def take(self, contract: SignedRecord[Contract], now: int) -> None:
        """Take the window of a contract that opens. Raises Refused: LAPSED, WINDOW_FULL or BAD_STATE."""
        for id_ in [id_ for id_, left in self._left.items() if left.lapses < now]:
            self._forget(id_)
        terms = contract.record
        history = await self._journal.read(lambda reader: reader.history(terms.client, now))
        self._budget.take(contract.id, terms.client, terms.limits.window, history)
        self._open.add(contract.id)

    def is_open(self, contract: RecordId) -> bool:
        """Whether a session of ours still takes care of this contract."""
        return contract in self._open

    def end(self, contract: SignedRecord[Contract], account: StageAccount | None) -> None:
        """The contract's session is over, or never began; its account says what was done and what was paid."""
        self._open.discard(contract.id)
        if account is None:
            self._forget(contract.id)
        else:
            self._keep(contract.id, _Left(account.committed, account.paid, contract.record.expires + LAPSE_S))

    def settle(self, contract: SignedRecord[Contract], receipt: SignedRecord[Receipt]) -> None:
        """A receipt of a contract that is over was completed."""
        if (left := self._left.get(contract.id)) is not None:
            self._keep(contract.id, replace(left, paid=max(left.paid, _committed(contract, receipt))))

    def _keep(self, contract: RecordId, left: _Left) -> None:
        if left.committed <= left.paid:
            self._forget(contract)
        else:
            self._left[contract] = left
            self._budget.keep(contract, left.committed - left.paid)

    def _forget(self, contract: RecordId) -> None:
        self._left.pop(contract, None)
        self._budget.give_back(contract)


def _pending(reader: JournalReader) -> list[tuple[SignedRecord[Contract], SignedRecord[Receipt]]]:
    return reader.pending()


def _standing(reader: JournalReader, contract: SignedRecord[Contract], now: int) -> tuple[int, History]:
    """Positions paid under a contract, and what is known of its client."""
    earned = reader.complete(contract.id)
    paid = _committed(contract, earned.receipt) if earned is not None else 0
    return paid, reader.history(contract.record.client, now)


def _committed(contract: SignedRecord[Contract], receipt: SignedRecord[Receipt]) -> int:
    return contract.record.work.committed(receipt.record.usage)
