"""The contracts and receipts of one generation at its client: stored first, sent then (receipts.md, RCT-26, RCT-33).

What may be signed is decided at once, as messages come. What follows is written by a task of its own, so that ids wait
for no disk: all that is due in one commit, and with it what the client needs in order to sign the rest after it was
killed. That is due with the first id, with every multiple of the cadence, for a node may ask for these, and at the end;
what comes between is kept now and then.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import floor, inf
from typing import Final

import trio

from p2pinfer.client.contracts import Plan
from p2pinfer.core.money.client_account import ClientAccount, Decision, Refuse
from p2pinfer.core.records.contract import Contract
from p2pinfer.core.records.receipt import Receipt
from p2pinfer.core.records.records import SignedRecord
from p2pinfer.core.values.errors import JournalError
from p2pinfer.core.values.keys import PrivateKey
from p2pinfer.core.wire.session_messages import Propose, Signed
from p2pinfer.disk.journal import Journal
from p2pinfer.disk.journal_changes import Keep
from p2pinfer.overlay.pipe import hear_nothing

KEEP_S: Final = 1.0  # a client that is killed forgets what came within it, beyond the last multiple of the cadence


@dataclass(frozen=True, slots=True)
class Purse:
    """The key that pays, and the journal that has written down what for."""

    key: PrivateKey
    journal: Journal


class Books:
    """account: of the generation, once every stage has accepted.

    unix: the time of day
    say:  sends a signature to the stage of that place
    fail: takes the error where the journal takes no records
    """

    def __init__(
        self,
        plan: Plan,
        prompt: Sequence[int],
        purse: Purse,
        unix: Callable[[], int],
        say: Callable[[int, Signed], None],
        fail: Callable[[JournalError], None],
    ) -> None:
        self.account: ClientAccount | None = None
        self._plan = plan
        self._prompt = prompt
        self._key = purse.key
        self._journal = purse.journal
        self._unix = unix
        self._say = say
        self._fail = fail
        self._contracts: dict[int, SignedRecord[Contract]] = {}  # by place in the route
        self._on_agreed: Callable[[], None] | None = None  # called once the contracts are stored
        self._to_say: set[int] = set()  # places whose highest receipt is to be stored, and sent
        self._acknowledged: list[SignedRecord[Receipt]] = []  # that their nodes have
        self._settled: set[int] = set()  # places whose final receipt the node stored, or that are gone
        self._kept = 0  # positions that the journal can prove
        self._keep_from = inf  # so many are to be kept at once, and
        self._keep_s = _next_s(trio.current_time())  # at this time whatever there is
        self._due = trio.Event()
        self._closed = False

    # Contracts

    @property
    def awaited(self) -> list[int]:
        """Places whose stages have not accepted yet."""
        return [place for place in range(len(self._plan.stages)) if place not in self._contracts]

    def agree(self, place: int, contract: SignedRecord[Contract]) -> None:
        """A stage accepted. With the last one all may begin, as soon as the contracts are stored: see `when_agreed`."""
        self._contracts[place] = contract
        if not self.awaited:
            ordered = [self._contracts[at] for at in range(len(self._plan.stages))]
            self.account = ClientAccount(ordered, self._prompt, self._plan.secret, self._key)
            self._keep_from = self.account.counted + 1

    def when_agreed(self, then: Callable[[], None]) -> None:
        """Every stage has accepted: call this once the contracts are durable."""
        self._on_agreed = then
        self._due.set()

    # What is delivered and proposed; refusals are returned

    def add_ids(self, ids: Sequence[int]) -> list[Refuse]:
        if (account := self.account) is None:
            return []
        decisions = account.add_ids(ids)
        if account.counted >= self._keep_from:
            self._due.set()
        return self._follow(decisions) if decisions else []

    def propose(self, place: int, message: Propose, now: float) -> list[Refuse]:
        """Raises RemoteProtocolError as the account does."""
        if (account := self.account) is None:
            return []
        return self._follow(account.propose(place, message.receipt, message.signature, now))

    def wait_anew(self, now: float) -> None:
        """Ids may be lost with a link: what is beyond the count waits from now on."""
        if self.account is not None:
            self.account.wait_anew(now)

    def late(self, now: float) -> list[Refuse]:
        return self.account.late(now) if self.account is not None else []

    @property
    def late_at(self) -> float:
        """The earliest time at which `late` has something to say."""
        late_at = self.account.deadline if self.account is not None else None
        return inf if late_at is None else late_at

    def lose(self, place: int) -> list[Refuse]:
        """A stage is gone: what it has not proposed is settled at its next contact."""
        self._settled.add(place)
        return self._follow(self.account.lost(place)) if self.account is not None else []

    def note_stored(self, place: int, seq: int) -> None:
        """A node has stored a receipt; only the final one is of interest."""
        if self.account is None or not self.account.is_final(place):
            return
        complete = self.account.complete(place)
        if complete is not None and complete.record.seq == seq:
            self._settled.add(place)
            self._acknowledged.append(complete)
            self._due.set()

    def give_up(self) -> None:
        """The generation is over. What it came to is kept at once."""
        if self.account is not None:
            self.account.give_up()
            self._keep_from = 0
            self._due.set()

    @property
    def are_settled(self) -> bool:
        """The final receipts of all stages are signed and stored there, but for those that are gone."""
        return self._settled.issuperset(range(len(self._plan.stages)))

    # What was signed

    @property
    def costs(self) -> tuple[int, ...]:
        """Nano-credits that are signed for each stage."""
        places = range(len(self._plan.stages))
        signed = [self.account.complete(place) if self.account else None for place in places]
        return tuple(receipt.record.amount if receipt else 0 for receipt in signed)

    @property
    def are_final(self) -> bool:
        """The final receipt of every stage is signed."""
        places = range(len(self._plan.stages))
        return self.account is not None and all(self.account.is_final(place) for place in places)

    # Writing

    async def run(self) -> None:
        """Write what is due until `close`. Cancelled, it writes what was decided by then."""
        try:
            while not self._closed:
                with trio.move_on_at(self._keep_s):
                    await self._due.wait()
                await self._write()
        finally:
            await self._write()
            if self.account is not None:
                self.account.withdraw()  # what was decided during that commit: it is decided anew at the next contact

    def close(self) -> None:
        """Nothing more comes; what is due is still written."""
        self._closed = True
        self._due.set()

    def let_go(self) -> None:
        """All is over: hold whoever holds this no longer, so that both go without a search for garbage."""
        self._say, self._fail = hear_nothing, hear_nothing

    async def _write(self) -> None:
        self._due = trio.Event()
        with trio.CancelScope(shield=True):  # commits are ours, and end by themselves
            try:
                await self._write_contracts()
                await self._write_receipts()
            except JournalError as error:
                self._fail(error)

    async def _write_contracts(self) -> None:
        if (then := self._on_agreed) is not None:
            self._on_agreed = None
            await self._journal.agree_all(list(self._contracts.values()), self._plan.session)
            then()

    async def _write_receipts(self) -> None:
        """Store what is due, then send it. Nothing of it is signed where it cannot be stored."""
        if (account := self.account) is None:
            self._keep_s = _next_s(trio.current_time())
            return
        signed = [(at, receipt) for at in sorted(self._to_say) if (receipt := account.complete(at)) is not None]
        acknowledged, keep = self._acknowledged, self._what_to_keep(account)
        self._to_say, self._acknowledged = set(), []
        if not signed and not acknowledged and keep is None:
            return
        try:
            await self._journal.keep_books([receipt for _, receipt in signed], acknowledged, keep)
        except JournalError:
            account.withdraw()
            raise
        for place, receipt in signed:
            account.note_stored(place, receipt)
            self._say(place, Signed(self._plan.session, receipt.body, receipt.signatures[1]))

    def _what_to_keep(self, account: ClientAccount) -> Keep | None:
        """The record of what was delivered and is not signed for, where it is time to make more of it durable."""
        counted, now = account.counted, trio.current_time()
        if counted < self._keep_from and now < self._keep_s:
            return None
        self._keep_s, self._keep_from = _next_s(now), (counted // account.cadence + 1) * account.cadence
        if not account.unsigned or counted == self._kept:
            return None
        self._kept = counted
        return Keep(self._plan.session, self._key.public, account.kept(), self._unix())

    def _follow(self, decisions: Sequence[Decision]) -> list[Refuse]:
        refusals = []
        for decision in decisions:
            if isinstance(decision, Refuse):
                refusals.append(decision)
            else:
                self._to_say.add(decision.stage)
                self._due.set()
        return refusals


def _next_s(now: float) -> float:
    """Return when to keep what there is then: together with other generations, in one commit."""
    return (floor(now / KEEP_S) + 1) * KEEP_S
