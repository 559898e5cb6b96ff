"""Credit: the unpaid work that a node risks, for each client and for all (protocols/receipts.md, "Credit").

Work is counted in layer-tokens: positions times layers. A contract takes what it could leave unsigned when it opens: so
no two contracts of one client ever wait for each other's receipts, and a client that opens many learns of the limit at
once. It takes that out of its client's own credit, which grows with the work that the client has signed for in full;
where that is too little, out of what all newcomers share. Once its session is over, only what was done and not signed
stays taken: all that was done, whatever its client says that it takes.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from p2pinfer.core.records.contract import Contract
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import Refused
from p2pinfer.core.values.units import PeerKey, RecordId

NEWCOMER_LIFE_S: Final = 900  # from `issued` to `expires`, at most, for a client that has signed nothing in full yet
CREDIT_PART: Final = 2  # of the work signed for in full, one part in so many is credit
NETWORK_PART: Final = 8  # of what newcomers share and other networks leave, one network has one part in so many
LEAST: Final = 16  # positions that a contract with anything unsigned takes at least: its records cost something, too
RELEASE_S: Final = 3_600  # after its session, what a newcomer left unsigned takes nothing more from the others
HOUR_S: Final = 3_600
RETRY_S: Final = 1.0  # after a refusal for want of room, which open contracts may give back at any time
DEBT_S: Final = 7 * 86_400  # after its session, generated positions left unsigned count no more for their client
GIVEN_UP: Final = 64  # positions past the prompt and every proposal: ids on their way to a client that gives up
MAX_UNSIGNED: Final = 4_096  # contracts that are remembered for what nobody signed, once that takes from nobody else


@dataclass(frozen=True, slots=True)
class Risk:
    """Unpaid work that the owner risks, in layer-tokens.

    base:      for a key as a newcomer
    cap:       for any one key
    newcomers: for all newcomers together
    least:     for a contract with anything unsigned
    """

    base: int
    cap: int
    newcomers: int
    least: int = 1


@dataclass(frozen=True, slots=True)
class Debtor:
    """A client that opens a contract, as its credit sees it.

    network: where it comes from; None on our own machine, where keys share one address whoever they are
    signed:  work it has signed for in full, under earlier contracts
    own:     it is a key of the node's owner
    """

    key: PeerKey
    network: str | None = None
    signed: int = 0
    own: bool = False


@dataclass(frozen=True, slots=True)
class Debt:
    """Work that was done and not signed under a contract that is over.

    lasting: it counts for its client longer than for others
    ended:   when its session was over, Unix seconds by our clock; what a client writes into contracts decides nothing
    """

    work: int
    lasting: bool
    ended: int

    @property
    def until(self) -> int:
        """The time from which it no longer counts for its client, Unix seconds."""
        return self.ended + (DEBT_S if self.lasting else RELEASE_S)


@dataclass(frozen=True, slots=True)
class Left:
    """A contract whose session is over, in positions.

    worked:   given to the engine, whatever became of them
    proposed: that a proposal covers
    paid:     signed for
    ended:    Unix seconds
    """

    contract: Contract
    worked: int
    proposed: int
    paid: int
    ended: int

    @property
    def unsigned(self) -> int:
        """Positions at risk."""
        return self.worked - self.paid

    @property
    def given_up(self) -> int:
        """Positions of these that nobody can sign any more."""
        return self.worked - self.proposed

    @property
    def debt(self) -> Debt:
        """The debt that it leaves, of all that is unsigned.

        It lasts where a proposal asks for generated positions, or more of them are given up than an honest client
        leaves on their way. Prefill alone does not: where a route fails before the first id, nothing proves to an
        honest client that a stage has worked.
        """
        prompt = self.contract.prompt
        lasting = self.proposed > max(self.paid, prompt) or self.worked - max(self.proposed, prompt) > GIVEN_UP
        return Debt(self.unsigned * len(self.contract.span), lasting, self.ended)


@dataclass(frozen=True, slots=True)
class _Taken:
    """The work that one contract takes. newcomer: from what newcomers share; unpaid: once its session is over."""

    client: Debtor
    work: int
    newcomer: bool
    unpaid: Debt | None = None

    def is_shared(self, now: int) -> bool:
        return self.newcomer and (self.unpaid is None or now < self.unpaid.ended + RELEASE_S)


class Budget:
    """The work that open contracts take, and that was left unsigned under those that are over.

    `now` is the wall clock, Unix seconds, here and below.
    """

    def __init__(self, risk: Risk) -> None:
        self.risk = risk
        self._taken: dict[RecordId, _Taken] = {}

    def credit(self, client: Debtor) -> int:
        """Work that the client may leave unsigned whatever others do."""
        return self.risk.cap if client.own else min(self.risk.cap, client.signed // CREDIT_PART)

    def take(self, contract: RecordId, client: Debtor, work: int, life_s: int, now: int) -> None:
        """Take `work` for a contract that opens. life_s: from its `issued` to its `expires`.

        Raises Refused: BAD_STATE, LAPSED, WINDOW_FULL, or BAD_TERMS for a new client's contract that lasts too long.
        """
        if contract in self._taken:
            raise Refused("this contract is open, or was worked under and not paid up", Code.BAD_STATE)
        if life_s > NEWCOMER_LIFE_S and not client.signed and not client.own:
            text = f"a contract of {life_s} s, limit {NEWCOMER_LIFE_S} s for a client that has signed nothing here yet"
            raise Refused(text, Code.BAD_TERMS)
        newcomer = work > self._credit_left(client)
        if newcomer:
            self._check_newcomer(client, work, now)
        self._taken[contract] = _Taken(client, work, newcomer)

    def recall(self, contract: RecordId, client: Debtor, unpaid: Debt) -> None:
        """An earlier process of this node left something unpaid; whatever the limits, it is at risk."""
        self._taken[contract] = _Taken(client, unpaid.work, unpaid.work > self._credit_left(client))
        self.keep(contract, unpaid)

    def keep(self, contract: RecordId, unpaid: Debt) -> None:
        """A contract is over, and of what it took only this was done and not signed."""
        taken = self._taken.pop(contract, None)
        if taken is not None and unpaid.work > 0:
            self._taken[contract] = replace(taken, work=max(unpaid.work, self.risk.least), unpaid=unpaid)

    def give_back(self, contract: RecordId) -> None:
        """Nothing is at risk under a contract any more. Giving back twice changes nothing."""
        self._taken.pop(contract, None)

    def forget(self, now: int) -> None:
        """Let go of what nobody will sign any more."""
        over = {id_: one.unpaid for id_, one in self._taken.items() if one.unpaid is not None}
        past = [id_ for id_, unpaid in over.items() if unpaid.until < now]
        for contract in past:
            del self._taken[contract]
        # Keys are free, and so are debts of theirs, an hour's share of the newcomers' after the other
        debts = [id_ for id_ in over if id_ in self._taken and not self._taken[id_].is_shared(now)]
        for contract in debts[:-MAX_UNSIGNED]:  # who left them first, first
            del self._taken[contract]

    def room(self, client: Debtor, now: int) -> int:
        """Work that one more contract of the client may take."""
        left = self.risk.base - self._taken_by(client, newcomer=True)
        return max(0, self._credit_left(client), min(left, self._room(client, now)))

    def is_taken(self, contract: RecordId) -> bool:
        return contract in self._taken

    def is_own(self, contract: RecordId) -> bool:
        """True if the owner is the client: what is owed goes in a circle."""
        return contract in self._taken and self._taken[contract].client.own

    def is_newcomer(self, contract: RecordId) -> bool:
        """True if a contract takes from what newcomers share."""
        return contract in self._taken and self._taken[contract].newcomer

    def _credit_left(self, client: Debtor) -> int:
        return self.credit(client) - self._taken_by(client, newcomer=False)

    def _check_newcomer(self, client: Debtor, work: int, now: int) -> None:
        left = self.risk.base - self._taken_by(client, newcomer=True)
        owed = [taken for taken in self._taken.values() if taken.client.key == client.key and taken.unpaid]
        if work > left:
            unpaid = _sum(owed)
            if owed and work <= left + unpaid:
                hours = -(-(max(taken.unpaid.until for taken in owed if taken.unpaid) - now) // HOUR_S)
                raise Refused(
                    f"{unpaid} layer-tokens under {len(owed)} earlier contracts of this client are unsigned: "
                    f"sign for them (`p2pinfer owed`), or wait up to {hours} h",
                    Code.LAPSED,
                )
            text = f"{work} layer-tokens at risk, {max(0, left)} left for this client"
            raise Refused(text, Code.WINDOW_FULL, RETRY_S)
        if work > (room := self._room(client, now)):
            raise Refused(f"{work} layer-tokens at risk, {room} left for newcomers", Code.WINDOW_FULL, RETRY_S)

    def _room(self, client: Debtor, now: int) -> int:
        """Work that is left of the newcomers' share for one more of a network, so that no network shuts out another."""
        shared = [taken for taken in self._taken.values() if taken.is_shared(now)]
        if client.network is None:
            return max(0, self.risk.newcomers - _sum(shared))
        network = _sum(taken for taken in shared if taken.client.network == client.network)
        others = _sum(shared) - network
        return max(0, (self.risk.newcomers - others) // NETWORK_PART - network)

    def _taken_by(self, client: Debtor, *, newcomer: bool) -> int:
        return _sum(
            taken for taken in self._taken.values() if taken.client.key == client.key and taken.newcomer == newcomer
        )


def _sum(taken: Iterable[_Taken]) -> int:
    return sum(one.work for one in taken)
