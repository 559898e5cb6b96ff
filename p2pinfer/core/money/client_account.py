"""The client's side of all contracts of one route: which receipts it may sign now (receipts.md, 5.3).

The client counts for itself: ids it was given, positions that follow from them, roots of both id boundaries. A
proposal is signed when it lies within that count and its roots agree with those of its neighbours at the same
position; until then it waits here. The caller stores what it signs before it sends it, and says so; what cannot be
stored is withdrawn, however much was decided meanwhile.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, TypeAlias

from p2pinfer.core.money.counted_ids import CountedIds
from p2pinfer.core.money.proposals import Agreement, Proposals, Waiting, mismatch
from p2pinfer.core.records.contract import Contract
from p2pinfer.core.records.delivered import Delivered
from p2pinfer.core.records.receipt import FINAL, Receipt, verify_proposal
from p2pinfer.core.records.records import SignedRecord
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import Disputed, LocalProtocolError, RemoteProtocolError
from p2pinfer.core.values.keys import PrivateKey
from p2pinfer.core.values.units import RecordId, Roles

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


class ClientAccount:
    """All contracts of one generation, head first.

    A stage is named by its place in the route. `now` is the caller's monotonic clock, in seconds.
    """

    def __init__(
        self, contracts: Sequence[SignedRecord[Contract]], prompt: Sequence[int], secret: bytes, key: PrivateKey
    ) -> None:
        _check_route([contract.record for contract in contracts], len(prompt))
        self._stages = [Proposals(contract) for contract in contracts]
        self._over = False
        self._fresh: set[int] = set()  # positions at which a root is known since the proposals there were looked at
        self._is_fresh = False  # a stage has ended since: all are to be looked at again
        self._key = key
        self._ids = CountedIds(prompt, secret)

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
        account = cls(contracts, (0,) * kept.prompt, bytes(32), key)
        account._ids = CountedIds.resumed(kept)
        for stage in account._stages:
            stage.resume(complete.get(stage.contract.id))
        return account

    def kept(self) -> Delivered:
        """The record that is needed to sign later what is not signed yet."""
        return self._ids.kept(min(stage.signed for stage in self._stages))

    def signed(self, stage: int) -> int:
        """Positions that are signed for a stage."""
        return self._stages[stage].signed

    @property
    def cadence(self) -> int:
        """Positions from one proposal of a stage to its next."""
        return self._stages[0].contract.record.limits.cadence

    @property
    def unsigned(self) -> bool:
        """Ids prove work that is not signed for."""
        return self._ids.delivered > 0 and any(stage.signed < self.counted for stage in self._stages)

    @property
    def counted(self) -> int:
        """Positions that are computed by the client's own count."""
        return self._ids.counted

    @property
    def closed(self) -> bool:
        """Every stage's final receipt is complete, but for lost stages."""
        return all(stage.lost or stage.is_final for stage in self._stages)

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
        return self._stages[stage].is_final

    def add_ids(self, ids: Sequence[int]) -> list[Decision]:
        """The tail delivered these ids; return what follows."""
        known = self._ids.counted
        self._ids.add(ids)
        for stage in self._stages:
            if stage.waiting:
                self._fresh.update(range(known + 1, self._ids.counted + 2))  # out of the tail, and into the head
                return self._release()
        return []  # nearly always: no proposal waits

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
        committed = at.check(signed.record)
        at.last, at.proposed = signed.record, committed
        self._fresh.add(committed)
        self._is_fresh |= signed.record.state == FINAL
        roots = signed.record.in_root, signed.record.out_root
        if at.roots.setdefault(committed, roots) != roots or self._contradicts_us(stage, committed):
            raise mismatch(f"roots at {committed} positions are not those of before, or of the ids delivered")
        if self._agreement(stage, committed) is Agreement.BROKEN:
            raise Disputed(f"roots at {committed} positions are not those of the other sides", Code.RECEIPT_MISMATCH)
        ahead_since = now if committed > max(self.counted, self._ids.prompt) else None
        at.waiting.append(Waiting(committed, signed, ahead_since=ahead_since))
        return self._release()

    def lost(self, stage: int) -> list[Decision]:
        """A stage is gone and will propose no more: its neighbours' receipts no longer wait for its roots."""
        self._stages[stage].lost = self._is_fresh = True
        return self._release()

    def note_stored(self, stage: int, receipt: SignedRecord[Receipt]) -> None:
        """A receipt that was signed is durable."""
        self._stages[stage].note_stored(receipt)

    def withdraw(self) -> None:
        """Take back what is signed and could not be stored: with what comes next it is decided anew."""
        for stage in self._stages:
            stage.withdraw()

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

    def _release(self) -> list[Decision]:
        """Sign the highest proposal of each stage that may be signed; it stands for all before it."""
        decisions: list[Decision] = []
        for place, stage in enumerate(self._stages):
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

    def _counts(self, stage: Proposals, committed: int) -> bool:
        """These positions are computed, as far as the client can tell."""
        if not self._ids.delivered:
            return self._is_needed(stage, committed)
        if committed > self._ids.prompt:
            return committed <= self.counted
        return all(other.proposed >= committed or other.ended for other in self._stages)

    def _is_needed(self, stage: Proposals, committed: int) -> bool:
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
        of_prompt = place == 0 and committed <= self._ids.prompt  # later ids a head has of the tail
        given = self._root_before(place, committed) if of_prompt else None
        got = self._root_after(place, committed) if place == len(self._stages) - 1 else None
        return given not in (None, in_root) or got not in (None, out_root)

    def _root_before(self, place: int, committed: int) -> bytes | None:
        """The root of the rows that came in, by the predecessor's word or the client's own ids; None while unknown."""
        if place > 0:
            roots = self._stages[place - 1].roots.get(committed)
            return roots and roots[1]
        return self._ids.into_head(committed)

    def _root_after(self, place: int, committed: int) -> bytes | None:
        """The root of the rows that went out, by the successor's word or the ids delivered; None while unknown."""
        if place < len(self._stages) - 1:
            roots = self._stages[place + 1].roots.get(committed)
            return roots and roots[0]
        return self._ids.out_of_tail(committed)


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
