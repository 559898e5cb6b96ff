"""How much unpaid work a node risks, and for whom (protocols/receipts.md, "The shared window").

A contract takes its whole window when it opens and gives it back when it is closed or settled. So no two contracts of
one client ever wait for each other's receipts, and a client that opens many learns of the limit at once.
"""

from dataclasses import dataclass

from p2pinfer.core.codes import Code
from p2pinfer.core.errors import Refused
from p2pinfer.core.units import PeerKey, RecordId


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
    """The windows of the contracts that are open now."""

    def __init__(self, risk: Risk) -> None:
        self._risk = risk
        self._open: dict[RecordId, tuple[PeerKey, int, bool]] = {}  # client, window, whether a stranger when it opened

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
        if contract in self._open:
            raise Refused("this contract is open already", Code.BAD_STATE)
        if history.lapsed:
            raise Refused(f"{history.lapsed} contracts of this client were never paid up", Code.LAPSED)
        if window > (room := self.room(client, history)):
            raise Refused(f"a window of {window} positions asked, {room} left for this client", Code.WINDOW_FULL)
        self._open[contract] = client, window, not history.clean

    def give_back(self, contract: RecordId) -> None:
        """A contract was closed or settled, or never began. Giving back twice changes nothing."""
        self._open.pop(contract, None)

    def _taken_by(self, client: PeerKey) -> int:
        return sum(window for key, window, _ in self._open.values() if key == client)

    def _taken_by_strangers(self) -> int:
        return sum(window for _, window, stranger in self._open.values() if stranger)
