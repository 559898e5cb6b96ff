"""One stage's proposals at its client, signed and waiting (protocols/receipts.md, 5.3).

Which of them may be signed now is for `client_account.py`, which knows the other stages.
"""

from dataclasses import dataclass, field
from enum import Enum, auto

from p2pinfer.core.records.contract import Contract
from p2pinfer.core.records.receipt import FINAL, Receipt
from p2pinfer.core.records.records import SignedRecord, countersign
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import RemoteProtocolError
from p2pinfer.core.values.keys import PrivateKey


class Agreement(Enum):
    """Of a stage's boundary roots with what is known of the other sides."""

    WHOLE = auto()
    OPEN = auto()  # another side has not proposed yet
    BROKEN = auto()


@dataclass(slots=True)
class Waiting:
    """A proposal that may not be signed yet.

    agreement:   as it was when something new was known of its roots
    ahead_since: when it was first beyond the client's count
    """

    committed: int
    signed: SignedRecord[Receipt]
    agreement: Agreement = Agreement.OPEN
    ahead_since: float | None = None


@dataclass(slots=True)
class Proposals:
    """Of one stage, under one contract."""

    contract: SignedRecord[Contract]
    bodies: dict[int, bytes] = field(default_factory=dict)  # by number, to tell a second body
    roots: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)  # in and out, by committed positions
    waiting: list[Waiting] = field(default_factory=list)  # in order of number
    last: Receipt | None = None  # the highest proposed
    proposed: int = 0  # positions of it
    complete: SignedRecord[Receipt] | None = None
    stored: SignedRecord[Receipt] | None = None  # the highest complete one that is stored
    unstored: list[Waiting] = field(default_factory=list)  # complete, or below one that is; beyond what is stored
    withdrawn: bool = False  # something that waits would be complete, had it been stored
    lost: bool = False

    @property
    def ended(self) -> bool:
        """No more proposals will come."""
        return self.lost or (self.last is not None and self.last.state == FINAL)

    @property
    def signed(self) -> int:
        """Positions that are signed."""
        return self.contract.record.work.committed(self.complete.record.usage) if self.complete else 0

    @property
    def is_final(self) -> bool:
        """The final receipt is signed."""
        return self.complete is not None and self.complete.record.state == FINAL

    def resume(self, complete: SignedRecord[Receipt] | None) -> None:
        """The stage has ended. complete: the highest receipt signed"""
        self.lost = True
        if complete is not None:
            self.complete, self.stored, self.last = complete, complete, complete.record
            self.proposed = self.signed
            self.bodies[complete.record.seq] = complete.body
            self.roots[self.proposed] = complete.record.in_root, complete.record.out_root

    def check(self, receipt: Receipt) -> int:
        """Hold a proposal to its contract, and to those before it; return its positions.

        What a stage may not have computed yet it does not propose: so few proposals wait, whatever it sends.
        """
        terms, signed = self.contract.record, self.signed
        if self.last is not None and (why := receipt.follows(self.last)):
            raise mismatch(why)
        committed = terms.work.committed(receipt.usage)
        if receipt.state != FINAL and committed % terms.limits.cadence:
            raise mismatch(f"{committed} positions are no multiple of the cadence {terms.limits.cadence}")
        if committed > signed + terms.limits.window:
            raise mismatch(f"{committed} positions, {signed} are signed, and the window is {terms.limits.window}")
        return committed

    def sign(self, ready: Waiting, key: PrivateKey) -> SignedRecord[Receipt]:
        """One that waits is complete; it stands for those before it."""
        count = self.waiting.index(ready) + 1
        self.unstored += self.waiting[:count]
        self.waiting, self.withdrawn = self.waiting[count:], False
        self.complete = countersign(ready.signed, key)
        return self.complete

    def note_stored(self, receipt: SignedRecord[Receipt]) -> None:
        """A receipt that was signed is durable."""
        seq = receipt.record.seq
        if self.stored is None or self.stored.record.seq < seq:
            self.stored = receipt
            self.unstored = [waiting for waiting in self.unstored if waiting.signed.record.seq > seq]

    def withdraw(self) -> None:
        """Take back what is signed and could not be stored."""
        if self.unstored:
            self.complete, self.withdrawn = self.stored, True
            self.waiting, self.unstored = self.unstored + self.waiting, []


def mismatch(why: str) -> RemoteProtocolError:
    return RemoteProtocolError(why, Code.RECEIPT_MISMATCH)
