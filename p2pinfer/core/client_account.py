"""The client's side of all contracts of one route: which receipts it may sign now (receipts.md, 5.3).

The client counts for itself: ids it was given, positions that follow from them, roots of both id boundaries. A
proposal is signed when it lies within that count and its roots agree with those of its neighbours at the same
position; until then it waits here. The caller stores what it signs before it sends it, and says so; what cannot be
stored is withdrawn, however much was decided meanwhile.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import pairwise
from typing import Final, TypeAlias

from p2pinfer.core.codes import Code
from p2pinfer.core.contract import Contract
from p2pinfer.core.delivered import Delivered, delivered
from p2pinfer.core.errors import Disputed, LocalProtocolError, RemoteProtocolError
from p2pinfer.core.keys import PrivateKey
from p2pinfer.core.receipt import FINAL, Receipt, verify_proposal
from p2pinfer.core.records import SignedRecord, countersign
from p2pinfer.core.tree import Salt, Tree
from p2pinfer.core.units import RecordId, Roles

AHEAD_S: Final = 2.0  # a proposal may be faster than the ids that justify it, but not by more


@dataclass(frozen=True, slots=True)
class Sign:
    """Store this complete receipt of stage number `stage`, then send it."""

    stage: int
    receipt: SignedRecord[Receipt]


@dataclass(frozen=True, slots=True)
class Repeat:
    """The stage asked for what is signed already: send its highest complete receipt again."""

    stage: int
    receipt: SignedRecord[Receipt]


@dataclass(frozen=True, slots=True)
class Refuse:
    """Tell the stage that its proposal `seq` is not signed."""

    stage: int
    seq: int
    code: Code
    text: str


Decision: TypeAlias = Sign | Repeat | Refuse


class Agreement(Enum):
    """Of a stage's boundary roots with what is known of the other sides."""

    WHOLE = auto()
    OPEN = auto()  # another side has not proposed yet
    BROKEN = auto()


@dataclass(slots=True)
class _Waiting:
    """A proposal that may not be signed yet.

    agreement:   as it was when something new was known of its roots
    ahead_since: when it was first beyond the client's count
    """

    committed: int
    signed: SignedRecord[Receipt]
    agreement: Agreement = Agreement.OPEN
    ahead_since: float | None = None


@dataclass(slots=True)
class _Stage:
    """One stage's proposals, signed and waiting."""

    contract: SignedRecord[Contract]
    bodies: dict[int, bytes] = field(default_factory=dict)  # by number, to tell a second body
    roots: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)  # in and out, by committed positions
    waiting: list[_Waiting] = field(default_factory=list)  # in order of number
    last: Receipt | None = None  # the highest proposed
    proposed: int = 0  # positions of it
    complete: SignedRecord[Receipt] | None = None
    stored: SignedRecord[Receipt] | None = None  # the highest complete one that is stored
    unstored: list[_Waiting] = field(default_factory=list)  # complete, or below one that is; beyond what is stored
    withdrawn: bool = False  # something that waits would be complete, had it been stored
    lost: bool = False

    @property
    def ended(self) -> bool:
        """No more proposals will come."""
        return self.lost or (self.last is not None and self.last.state == FINAL)

    def sign(self, ready: _Waiting, key: PrivateKey) -> SignedRecord[Receipt]:
        """One that waits is complete; it stands for those before it."""
        count = self.waiting.index(ready) + 1
        self.unstored += self.waiting[:count]
        self.waiting, self.withdrawn = self.waiting[count:], False
        self.complete = countersign(ready.signed, key)
        return self.complete


class ClientAccount:
    """All contracts of one generation, head first.

    A stage is named by its place in the route. `now` is the caller's monotonic clock, in seconds.
    """

    def __init__(
        self, contracts: Sequence[SignedRecord[Contract]], prompt: Sequence[int], secret: bytes, key: PrivateKey
    ) -> None:
        _check_route([contract.record for contract in contracts], len(prompt))
        self._stages = [_Stage(contract) for contract in contracts]
        self._over = False
        self._fresh: set[int] = set()  # positions at which a root is known since the proposals there were looked at
        self._is_fresh = False  # a stage has ended since: all are to be looked at again
        self._salt = Salt(secret)
        self._key = key
        self._prompt = len(prompt)
        self._inputs, self._outputs = Tree(), Tree()  # ids into the head, ids out of the tail
        self._inputs.add(self._salt.leaf(at, id_.to_bytes(4, "big")) for at, id_ in enumerate(prompt))

    @classmethod
    def resumed(
        cls,
        contracts: Sequence[SignedRecord[Contract]],
        complete: Mapping[RecordId, SignedRecord[Receipt]],
        kept: Delivered,
        key: PrivateKey,
    ) -> "ClientAccount":
        """The account of a generation that is over, from what was kept of it; its stages have ended.

        complete: the highest receipt signed, by contract
        """
        account = cls(contracts, (0,) * kept.prompt, bytes(32), key)  # these ids and this salt are used no more
        account._inputs, account._outputs = kept.trees()
        for stage in account._stages:
            stage.lost = True
            if (signed := complete.get(stage.contract.id)) is not None:
                stage.complete, stage.stored, stage.last = signed, signed, signed.record
                stage.proposed = stage.contract.record.work.committed(signed.record.usage)
                stage.bodies[signed.record.seq] = signed.body
                stage.roots[stage.proposed] = signed.record.in_root, signed.record.out_root
        return account

    def kept(self) -> Delivered:
        """The record that is needed to sign later what is not signed yet."""
        return delivered(self._inputs, self._outputs, self._prompt, min(map(self.signed, range(len(self._stages)))))

    def signed(self, stage: int) -> int:
        """Positions that are signed for a stage."""
        complete = self._stages[stage].complete
        return self._stages[stage].contract.record.work.committed(complete.record.usage) if complete else 0

    @property
    def cadence(self) -> int:
        """Positions from one proposal of a stage to its next."""
        return self._stages[0].contract.record.limits.cadence

    @property
    def unsigned(self) -> bool:
        """Ids prove work that is not signed for."""
        return len(self._outputs) > 0 and any(self.signed(at) < self.counted for at in range(len(self._stages)))

    @property
    def counted(self) -> int:
        """Positions that are computed by the client's own count."""
        return self._prompt + len(self._outputs) - 1

    @property
    def closed(self) -> bool:
        """Every stage's final receipt is complete, but for lost stages."""
        return all(stage.lost or _is_final(stage.complete) for stage in self._stages)

    @property
    def deadline(self) -> float | None:
        """The earliest time at which `late` has something to say."""
        times = [waiting.ahead_since for stage in self._stages for waiting in stage.waiting]
        return min((time + AHEAD_S for time in times if time is not None), default=None)

    def complete(self, stage: int) -> SignedRecord[Receipt] | None:
        """The highest receipt signed for a stage."""
        return self._stages[stage].complete

    def is_final(self, stage: int) -> bool:
        """The final receipt of a stage is signed."""
        return _is_final(self._stages[stage].complete)

    def add_ids(self, ids: Iterable[int]) -> list[Decision]:
        """The tail delivered these ids; return what follows."""
        rows = [id_.to_bytes(4, "big") for id_ in ids]
        position = self._prompt + len(self._outputs)
        leaves = self._salt.leaves(position, rows)
        self._inputs.add(leaves)
        self._outputs.add(leaves)
        self._fresh.update(range(position, position + len(rows) + 1))  # out of the tail, and into the head
        return self._release()

    def propose(self, stage: int, body: bytes, signature: bytes, now: float) -> list[Decision]:
        """Take a proposal; return what follows, for this stage and for others that waited for it.

        Raises RemoteProtocolError: BAD_RECORD, BAD_SIGNATURE, RECEIPT_MISMATCH or RECEIPT_CONFLICT; Disputed where its
        roots are not another stage's, of which one lies. Nothing of this proposal is signed then, or ever.
        """
        at = self._stages[stage]
        signed = verify_proposal(body, signature, at.contract)
        seq = signed.record.seq
        if at.bodies.setdefault(seq, body) != body:
            raise RemoteProtocolError(f"a second body under receipt number {seq}", Code.RECEIPT_CONFLICT)
        if at.complete is not None and seq <= at.complete.record.seq:
            return [Repeat(stage, at.complete)]
        if any(waiting.signed.record.seq == seq for waiting in at.waiting):
            return self._release() if at.withdrawn else []
        committed = self._check(at, signed.record, self.signed(stage))
        at.last, at.proposed = signed.record, committed
        self._fresh.add(committed)
        self._is_fresh |= signed.record.state == FINAL
        roots = signed.record.in_root, signed.record.out_root
        if at.roots.setdefault(committed, roots) != roots or self._contradicts_us(stage, committed):
            raise _mismatch(f"roots at {committed} positions are not those of before, or of the ids delivered")
        if self._agreement(stage, committed) is Agreement.BROKEN:
            raise Disputed(f"roots at {committed} positions are not those of the other sides", Code.RECEIPT_MISMATCH)
        ahead_since = now if committed > max(self.counted, self._prompt) else None
        at.waiting.append(_Waiting(committed, signed, ahead_since=ahead_since))
        return self._release()

    def lost(self, stage: int) -> list[Decision]:
        """A stage is gone and will propose no more: its neighbours' receipts no longer wait for its roots."""
        self._stages[stage].lost = self._is_fresh = True
        return self._release()

    def note_stored(self, stage: int, receipt: SignedRecord[Receipt]) -> None:
        """A receipt that was signed is durable."""
        at, seq = self._stages[stage], receipt.record.seq
        if at.stored is None or at.stored.record.seq < seq:
            at.stored = receipt
            at.unstored = [waiting for waiting in at.unstored if waiting.signed.record.seq > seq]

    def withdraw(self) -> None:
        """Take back what is signed and could not be stored: with what comes next it is decided anew."""
        for stage in self._stages:
            if stage.unstored:
                stage.complete, stage.withdrawn = stage.stored, True
                stage.waiting, stage.unstored = stage.unstored + stage.waiting, []

    def give_up(self) -> None:
        """The generation is over: where no id came, nothing more is signed."""
        self._over = True

    def wait_anew(self, now: float) -> None:
        """Ids may be lost with the link to the tail: what is beyond the count waits from now on."""
        for waiting in (waiting for stage in self._stages for waiting in stage.waiting):
            if waiting.ahead_since is not None:
                waiting.ahead_since = max(now, waiting.ahead_since)

    def late(self, now: float) -> list[Refuse]:
        """Refuse what stayed beyond the count for AHEAD_S. It is still signed if the ids come after all."""
        refusals = []
        for place, stage in enumerate(self._stages):
            for waiting in stage.waiting:
                if waiting.ahead_since is not None and now - waiting.ahead_since >= AHEAD_S:
                    waiting.ahead_since = None
                    text = f"{waiting.committed} positions claimed, {self.counted} counted"
                    refusals.append(Refuse(place, waiting.signed.record.seq, Code.RECEIPT_AHEAD, text))
        return refusals

    def _check(self, stage: _Stage, receipt: Receipt, complete: int) -> int:
        """Hold a proposal to its contract, of which so many positions are signed; return its positions.

        What a stage may not have computed yet it does not propose: so few proposals wait, whatever it sends.
        """
        terms = stage.contract.record
        if stage.last is not None and (why := receipt.follows(stage.last)):
            raise _mismatch(why)
        committed = terms.work.committed(receipt.usage)
        if receipt.state != FINAL and committed % terms.limits.cadence:
            raise _mismatch(f"{committed} positions are no multiple of the cadence {terms.limits.cadence}")
        if committed > complete + terms.limits.window:
            raise _mismatch(f"{committed} positions, {complete} are signed, and the window is {terms.limits.window}")
        return committed

    def _release(self) -> list[Decision]:
        """Sign the highest proposal of each stage that may be signed; it stands for all before it."""
        decisions: list[Decision] = []
        for place, stage in enumerate(self._stages):
            if not stage.waiting:
                continue  # nearly always
            ready = None
            for waiting in tuple(stage.waiting):
                if waiting.committed <= self.counted:
                    waiting.ahead_since = None
                if self._is_fresh or waiting.committed in self._fresh:
                    waiting.agreement = self._agreement(place, waiting.committed)
                match waiting.agreement:
                    case Agreement.BROKEN:
                        text = f"roots at {waiting.committed} positions differ"
                        decisions.append(Refuse(place, waiting.signed.record.seq, Code.RECEIPT_MISMATCH, text))
                        stage.waiting.remove(waiting)
                    case Agreement.WHOLE if self._counts(stage, waiting.committed):
                        ready = waiting
            if ready is not None:
                decisions.append(Sign(place, stage.sign(ready, self._key)))
        self._fresh.clear()
        self._is_fresh = False
        return decisions

    def _counts(self, stage: _Stage, committed: int) -> bool:
        """These positions are computed, as far as the client can tell."""
        if len(self._outputs) == 0:
            return self._is_needed(stage, committed)
        if committed > self._prompt:
            return committed <= self.counted
        return all(other.proposed >= committed or other.ended for other in self._stages)

    def _is_needed(self, stage: _Stage, committed: int) -> bool:
        """Without these positions signed, the stage would stop before the end of the prompt.

        Until an id has come nothing proves that anything was computed: all stages may be one liar with free keys. None
        of them has ended, so no final is signed either.
        """
        terms = stage.contract.record
        return (
            not self._over
            and committed <= terms.limits.signed_ahead(terms.prompt)
            and all(other.proposed >= committed and not other.ended for other in self._stages)
        )

    def _agreement(self, place: int, committed: int) -> Agreement:
        """Compare a stage's roots with what must stand on the other side of both boundaries."""
        mine = self._stages[place].roots[committed]
        others = self._root_before(place, committed), self._root_after(place, committed)
        if any(other is not None and other != root for root, other in zip(mine, others, strict=True)):
            return Agreement.BROKEN
        neighbours = place - 1, place + 1
        for other, neighbour in zip(others, neighbours, strict=True):
            if other is None and not (0 <= neighbour < len(self._stages) and self._stages[neighbour].ended):
                return Agreement.OPEN
        return Agreement.WHOLE

    def _contradicts_us(self, place: int, committed: int) -> bool:
        """A head states another prompt than it had of us, or a tail other ids than we had of it."""
        in_root, out_root = self._stages[place].roots[committed]
        of_prompt = place == 0 and committed <= self._prompt  # later ids a head has of the tail
        given = self._root_before(place, committed) if of_prompt else None
        got = self._root_after(place, committed) if place == len(self._stages) - 1 else None
        return given not in (None, in_root) or got not in (None, out_root)

    def _root_before(self, place: int, committed: int) -> bytes | None:
        """The root of the rows that came in, by the predecessor's word or the client's own ids; None while unknown."""
        if place > 0:
            roots = self._stages[place - 1].roots.get(committed)
            return roots and roots[1]
        return self._inputs.root(committed) if committed <= len(self._inputs) else None

    def _root_after(self, place: int, committed: int) -> bytes | None:
        """The root of the rows that went out, by the successor's word or the ids delivered; None while unknown."""
        if place < len(self._stages) - 1:
            roots = self._stages[place + 1].roots.get(committed)
            return roots and roots[0]
        count = max(0, committed + 1 - self._prompt)
        return self._outputs.root(count) if count <= len(self._outputs) else None


def _mismatch(why: str) -> RemoteProtocolError:
    return RemoteProtocolError(why, Code.RECEIPT_MISMATCH)


def _is_final(receipt: SignedRecord[Receipt] | None) -> bool:
    return receipt is not None and receipt.record.state == FINAL


def _check_route(contracts: Sequence[Contract], prompt: int) -> None:
    """Contracts we made ourselves must fit one another, or their roots could not be compared."""
    if not contracts or Roles.HEAD not in contracts[0].roles or Roles.TAIL not in contracts[-1].roles:
        raise LocalProtocolError("a route runs from a head to a tail")
    if contracts[0].span.first or len({(contract.model, contract.numerics) for contract in contracts}) > 1:
        raise LocalProtocolError("a route has the layers of one model, from the first, in one numerics class")
    if any(contract.prompt != prompt for contract in contracts):
        raise LocalProtocolError(f"contracts for another prompt than the one of {prompt} ids")
    for a, b in pairwise(contracts):
        if (a.span.last, a.codecs[1], a.limits.cadence, a.limits.max_chunk) != (
            *(b.span.first, b.codecs[0]),
            *(b.limits.cadence, b.limits.max_chunk),
        ):
            raise LocalProtocolError(f"contracts for layers {a.span} and {b.span} do not fit each other")
