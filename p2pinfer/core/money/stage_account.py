"""The node's side of one contract: which receipts to propose, and how far it may work unpaid (receipts.md, 5.2).

    RUNNING --every multiple of the cadence--> a proposal, number position / cadence
    RUNNING --close--> CLOSING: the final proposal
    CLOSING --the client signed the final--> CLOSED

The caller stores a proposal before it sends it, stores a complete receipt before it acknowledges it, and asks
`may_compute` before every step. `core/sessions/stage.py` knows what rows mean.
"""

from dataclasses import dataclass
from math import inf
from typing import Final

from p2pinfer.core.records.contract import Contract
from p2pinfer.core.records.pricing import amount_of
from p2pinfer.core.records.receipt import FINAL, RUNNING, Receipt, check_receipt
from p2pinfer.core.records.records import SignedRecord, add_signature, decode, sign
from p2pinfer.core.records.tree import RowTree, Salt
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import LocalProtocolError, RemoteProtocolError
from p2pinfer.core.values.keys import PrivateKey, domain, verify


@dataclass(frozen=True, slots=True)
class Proposal:
    """A receipt the node signed, over `committed` positions."""

    committed: int
    signed: SignedRecord[Receipt]

    @property
    def seq(self) -> int:
        return self.signed.record.seq


class StageAccount:
    """worked: positions that the engine was given, whatever became of them; the client's word takes nothing off them
    committed: positions computed and accepted, as far as this stage has been told
    paid: positions of the highest complete receipt
    limit: positions that may be computed before the client signs more
    stored: the highest complete receipt that is durable
    """

    def __init__(self, contract: SignedRecord[Contract], secret: bytes, key: PrivateKey) -> None:
        terms = contract.record
        if key.public != terms.node:
            raise LocalProtocolError("a contract of another node")
        self.contract: Final = contract
        self.worked = 0
        self.committed = 0
        self.paid = 0
        self.complete: SignedRecord[Receipt] | None = None
        self.stored: SignedRecord[Receipt] | None = None
        self._work = terms.work
        self._key = key
        salt = Salt(secret)
        self._ahead = int(self._work.tail)  # the tail's output of a position is the id of the next
        self._inputs, self._outputs = RowTree(salt, terms.seam), RowTree(salt, self._work.first_out)
        self._pending: dict[bytes, Proposal] = {}  # by body, in order; complete ones and those before them are gone
        self._unstored: dict[bytes, Proposal] = {}  # gone from there, and beyond what is stored
        self._last: Proposal | None = None
        self._due_at: float = terms.limits.cadence  # committed positions with which the next proposal is due
        self._reason = Code.NONE
        self._time = 0
        self._renew_limit()

    def begin(self, upto: int) -> None:
        """Positions up to here go to the engine: they are at risk from now on."""
        self.worked = max(self.worked, upto)

    # Rows, as they cross the boundaries of this stage

    def add_inputs(self, position: int, rows: bytes, count: int) -> None:
        """Rows (ids at the head) that came in for positions from `position` on; rows known before are forgotten."""
        self.begin(position + count)
        if position != self._inputs.next:
            self._cut(self._inputs, position, self.committed)
        self._inputs.add(rows, count)

    def add_outputs(self, position: int, rows: bytes, count: int) -> None:
        """Rows that went out; at the tail, ids: the one of `position` was sampled from the position before."""
        if position != self._outputs.next:
            self._cut(self._outputs, position, self._outputs_end(self.committed))
        self._outputs.add(rows, count)

    @staticmethod
    def _cut(tree: RowTree, position: int, settled: int) -> None:
        """Go back to `position`; rows before `settled` are committed and stay."""
        if not settled <= position <= tree.next:
            raise LocalProtocolError(f"row {position}, {tree.next} is next and {settled} the first not committed")
        tree.cut(position)

    def _outputs_end(self, committed: int) -> int:
        """The end of the rows that went out once [0, committed) were computed."""
        return max(self._outputs.first, committed + self._ahead)

    # How far to work

    def _renew_limit(self) -> None:
        """More is paid, or nothing more is to be computed; what asks for the limit asks more often."""
        limits = self.contract.record.limits
        self.limit = self.committed if self._reason else min(self.paid + limits.window, limits.max_positions)

    def may_compute(self, upto: int) -> bool:
        """Positions [0, upto) may be computed now."""
        return upto <= self.limit

    def commit(self, positions: int) -> None:
        """Positions [0, positions) are accepted: a neighbour said so, and it never takes that back.

        Raises RemoteProtocolError (BAD_POSITION) where this stage has not computed them.
        """
        if positions > (held := min(self._inputs.next, self._outputs.next - self._ahead)):
            raise RemoteProtocolError(f"{positions} positions committed, {held} computed", Code.BAD_POSITION)
        if positions > self.committed and not self._reason:
            self.committed = positions

    def commit_step(self, first: int, last: int) -> None:
        """Commit what the client can count to once positions [first, last) were computed in a step (RCT-23).

        A row of a later position that came here shows that the ids before it were sampled. Nothing shows that yet of
        our own last row past the prompt, except at the tail.
        """
        self.commit(last if self._work.tail or last <= self.contract.record.prompt else first)

    def check_counted(self, positions: int) -> None:
        """A client that comes back counts so many positions.

        Raises RemoteProtocolError (BAD_POSITION) where it has signed for ids that it says it does not have.
        """
        if self.paid > max(positions, self.contract.record.prompt):
            raise RemoteProtocolError(f"{positions} positions counted, {self.paid} signed", Code.BAD_POSITION)

    # Receipts

    @property
    def is_due(self) -> bool:
        """`due` has something; cheap enough to be asked after every step."""
        return self.committed >= self._due_at

    def due(self, now: int) -> list[Proposal]:
        """New proposals to store and send, in order; `now` is our wall clock in Unix seconds."""
        if not self.is_due or self._owes_nothing:
            return []
        cadence = self.contract.record.limits.cadence
        first = self._last.seq + 1 if self._last else 1
        proposals = [self._propose(seq, seq * cadence, now) for seq in range(first, self.committed // cadence + 1)]
        if self._reason:
            proposals.append(self._propose(self.committed // cadence + 1, self.committed, now))
        return proposals

    def close(self, reason: Code, upto: int | None = None) -> None:
        """Commit no more; the final receipt is due. A second reason changes nothing.

        upto: the client signs no further; what was proposed stays proposed
        """
        if not reason:
            raise LocalProtocolError("a contract closes for a reason")
        if not self._reason:
            self._reason, self._due_at = reason, 0
            if upto is not None:
                self.committed = max(self.proposed, min(self.committed, upto))
            self._renew_limit()

    def abandon(self, reason: Code) -> None:
        """Close where the client has not said how far it signs: a final is due for what no proposal covers yet."""
        if self.unproposed:
            self.close(reason)

    def sign(self, body: bytes, signature: bytes) -> SignedRecord[Receipt] | None:
        """Take the client's signature; return the complete receipt to store, or None if it is no news.

        Raises RemoteProtocolError: BAD_RECORD, BAD_SIGNATURE, RECEIPT_MISMATCH, or RECEIPT_CONFLICT where the client
        signed another body under a number of ours.
        """
        if (proposal := self._pending.get(body)) is None:
            self._check_settled(body, signature)
            return None
        complete = add_signature(proposal.signed, self.contract.record.client, signature)
        check_receipt(complete.record, self.contract)
        self._take_signed(complete, proposal.committed)
        return complete

    def note_stored(self, receipt: SignedRecord[Receipt]) -> None:
        """A complete receipt is durable. So it counts again, where it was withdrawn."""
        if self.stored is not None and receipt.record.seq <= self.stored.record.seq:
            return
        self.stored = receipt
        if self.complete is None or self.complete.record.seq < receipt.record.seq:
            self._take_signed(receipt, self.contract.record.work.committed(receipt.record.usage))
        self._unstored = _after(receipt, self._unstored)

    def withdraw(self) -> None:
        """Take back what is signed and could not be stored: nobody has it once this process is gone."""
        self._pending, self._unstored = self._unstored | self._pending, {}
        self.complete = self.stored
        self.paid = self.contract.record.work.committed(self.stored.record.usage) if self.stored else 0
        self._renew_limit()

    def _take_signed(self, complete: SignedRecord[Receipt], committed: int) -> None:
        later = _after(complete, self._pending)
        self._unstored |= {body: one for body, one in self._pending.items() if body not in later}
        self.complete, self.paid, self._pending = complete, committed, later
        self._renew_limit()

    @property
    def pending(self) -> tuple[Proposal, ...]:
        """Proposals the client has not signed, to be sent again as they are."""
        return tuple(self._pending.values())

    @property
    def proposed(self) -> int:
        """Positions that the last proposal covers."""
        return self._last.committed if self._last else 0

    @property
    def unproposed(self) -> int:
        """Positions committed beyond the last proposal."""
        return self.committed - self.proposed

    @property
    def closed(self) -> bool:
        """The final receipt is complete, or none is due."""
        return self._owes_nothing or (self.complete is not None and self.complete.record.state == FINAL)

    @property
    def _owes_nothing(self) -> bool:
        """It is over, and no work was done for it."""
        return bool(self._reason) and self.committed <= self.contract.record.start

    def _propose(self, seq: int, committed: int, now: int) -> Proposal:
        terms = self.contract.record
        final = self._reason and seq > committed // terms.limits.cadence
        self._time = max(self._time, min(now, terms.expires))  # never decreasing, and none that nobody may sign
        usage = self._work.usage(committed)
        receipt = Receipt(
            contract=self.contract.id,
            seq=seq,
            usage=usage,
            amount=amount_of(terms.prices, terms.flat, usage),
            in_root=self._inputs.root(committed),
            out_root=self._outputs.root(self._outputs_end(committed)),
            time=self._time,
            state=FINAL if final else RUNNING,
            reason=self._reason if final else Code.NONE,
        )
        self._last = proposal = Proposal(committed, sign(receipt, self._key))
        self._pending[proposal.signed.body] = proposal
        self._due_at = inf if final else (seq + 1) * terms.limits.cadence
        return proposal

    def _check_settled(self, body: bytes, signature: bytes) -> None:
        """Raise for a body that is not pending, unless the client's signature on its number is not needed any more."""
        seq = decode(Receipt, body).seq
        if self.complete is not None and seq <= self.complete.record.seq:
            if seq == self.complete.record.seq and body != self.complete.body:
                raise self._conflict(body, signature, seq)
        elif any(proposal.seq == seq for proposal in self.pending):
            raise self._conflict(body, signature, seq)
        else:
            raise RemoteProtocolError(f"receipt {seq} was never proposed", Code.RECEIPT_MISMATCH)

    def _conflict(self, body: bytes, signature: bytes, seq: int) -> RemoteProtocolError:
        """Two bodies under one number: evidence against the client, if it signed this one."""
        verify(self.contract.record.client, domain(Receipt.TYPE), body, signature)
        return RemoteProtocolError(f"another body than receipt {seq} was proposed with", Code.RECEIPT_CONFLICT)


def _after(receipt: SignedRecord[Receipt], proposals: dict[bytes, Proposal]) -> dict[bytes, Proposal]:
    return {body: proposal for body, proposal in proposals.items() if proposal.seq > receipt.record.seq}
