"""How much unpaid work a node risks, and for whom (protocols/receipts.md, "The shared window").

A contract takes its whole window when it opens. So no two contracts of one client ever wait for each other's receipts,
and a client that opens many learns of the limit at once. When its session is over nothing more is at risk than what was
done and not signed, and only that stays taken.
"""

from dataclasses import dataclass, replace
from typing import Final

from p2pinfer.core.codes import Code
from p2pinfer.core.errors import Refused
from p2pinfer.core.units import PeerKey, RecordId

NEWCOMER_LIFE_S: Final = 900  # from `issued` to `expires`, at most, for a key without credit at the node


@dataclass(frozen=True, slots=True)
class Risk:
    """What the owner risks, in positions of unpaid work.

    base:      for a key without history, and again for each of its clean contracts
    cap:       for any one key
    strangers: for all keys without history together
    """

    base: int
    cap: int
    strangers: int

    def __post_init__(self) -> None:
        if not 0 < self.base <= self.cap or self.strangers < self.base:
            raise ValueError(f"{self}: needs 0 < base <= cap and base <= strangers")


@dataclass(frozen=True, slots=True)
class History:
    """What the journal knows of a client key: contracts whose final receipt is complete, and those never paid up."""

    clean: int = 0
    lapsed: int = 0


class Budget:
    """The windows of the contracts that are open now, and what was left unpaid under those that are over."""

    def __init__(self, risk: Risk) -> None:
        self._risk = risk
        self._taken: dict[RecordId, _Taken] = {}

    def limit(self, history: History) -> int:
        """Positions that a key of this history may have unpaid."""
        return min(self._risk.cap, self._risk.base * (1 + history.clean))

    def room(self, client: PeerKey, history: History) -> int:
        """Positions still free for a new contract of `client`."""
        own = self.limit(history) - self._taken_by(client)
        return max(0, own if history.clean else min(own, self._risk.strangers - self._taken_by_strangers()))

    def take(self, contract: RecordId, client: PeerKey, window: int, history: History) -> None:
        """Take `window` positions for a contract that opens.

        Raises Refused: LAPSED, or WINDOW_FULL where there is no room.
        """
        if contract in self._taken:
            raise Refused("this contract is open already", Code.BAD_STATE)
        if history.lapsed:
            raise Refused(f"{history.lapsed} contracts of this client were never paid up", Code.LAPSED)
        if window > (room := self.room(client, history)):
            raise Refused(f"a window of {window} positions asked, {room} left for this client", Code.WINDOW_FULL)
        self._taken[contract] = _Taken(client, window, not history.clean)

    def recall(self, contract: RecordId, client: PeerKey, unpaid: int, history: History) -> None:
        """An earlier process of this node left `unpaid` positions; whatever the limits, they are at risk."""
        self._taken[contract] = _Taken(client, unpaid, not history.clean)

    def keep(self, contract: RecordId, unpaid: int) -> None:
        """A contract is over, and of what it took only `unpaid` positions were done and not signed."""
        taken = self._taken.pop(contract, None)
        if taken is not None and unpaid > 0:
            self._taken[contract] = replace(taken, positions=unpaid)

    def give_back(self, contract: RecordId) -> None:
        """Nothing is at risk under a contract any more. Giving back twice changes nothing."""
        self._taken.pop(contract, None)

    def _taken_by(self, client: PeerKey) -> int:
        return sum(taken.positions for taken in self._taken.values() if taken.client == client)

    def _taken_by_strangers(self) -> int:
        return sum(taken.positions for taken in self._taken.values() if taken.stranger)


@dataclass(frozen=True, slots=True)
class _Taken:
    """What one contract takes. stranger: whether its client was one at the time."""

    client: PeerKey
    positions: int
    stranger: bool
