"""Contracts that are not worth the room that their records take (protocols/receipts.md, 5.4).

Nothing that both sides signed is ever thrown away, and promises cost a stranger nothing. So who promises little is not
served without end: contracts signed for less than SMALL positions are counted, by day and network. Of others a node's
own speed bounds the number. A client that has paid, for each small contract of this day, as many positions as a larger
one has, is counted apart: a stranger of the same network cannot take that away without paying as much.
"""

from collections import Counter
from typing import Final

from p2pinfer.core.money.budget import NETWORK_PART, Debtor
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import Refused
from p2pinfer.core.values.units import PeerKey

SMALL: Final = 128  # positions; a contract signed for less is small, and hardly a document and its answer
SMALL_A_DAY: Final = 65_536  # small contracts, of all networks, and again of payers; their records take 2 kB each
DAY_S: Final = 86_400


def is_small(proposed: int, paid: int) -> bool:
    """A contract left records, and not much is signed under it; both in positions."""
    return proposed > 0 and paid < SMALL


def day_of(now: int) -> int:
    """Return the beginning of the day (UTC) of a time; both in Unix seconds."""
    return now - now % DAY_S


class SmallContracts:
    """Small contracts of this day. `now` is the wall clock, Unix seconds; layers: those of the contract."""

    def __init__(self) -> None:
        self._day = 0
        self._of_payers, self._of_others = _Count(), _Count()
        self._clients: Counter[PeerKey] = Counter()

    def add(self, client: Debtor, layers: int, now: int) -> None:
        """One more of a client is over. What is told late of the day before counts no more."""
        self._turn(now)
        if day_of(now) < self._day:
            return
        self._count_of(client, layers).add(client.network)
        self._clients[client.key] += 1

    def check(self, client: Debtor, layers: int, now: int) -> None:
        """Raises Refused (BUSY) where a client's network has had its part of what the others leave."""
        self._turn(now)
        count = self._count_of(client, layers)
        if not count.has_room(client.network):
            raise Refused(
                f"{count.networks[client.network]} contracts of the client's network came to less than {SMALL} "
                f"positions: no more today (UTC), but of clients that signed {SMALL} in full for each of theirs",
                Code.BUSY,
            )

    def _count_of(self, client: Debtor, layers: int) -> "_Count":
        paid = client.signed >= SMALL * layers * (self._clients[client.key] + 1)
        return self._of_payers if paid else self._of_others

    def _turn(self, now: int) -> None:
        """Begin the next day. The one before comes again only where the clock was far off."""
        if (day := day_of(now)) > self._day or day < self._day - DAY_S:
            self._day = day
            self._of_payers, self._of_others = _Count(), _Count()
            self._clients.clear()


class _Count:
    """networks: contracts of each; None is our own machine, which counts for the total alone"""

    def __init__(self) -> None:
        self.networks: Counter[str | None] = Counter()
        self._all = 0

    def add(self, network: str | None) -> None:
        self.networks[network] += 1
        self._all += 1

    def has_room(self, network: str | None) -> bool:
        mine = self.networks[network]
        left = SMALL_A_DAY - (self._all - mine)  # by the others
        return mine < (left if network is None else left // NETWORK_PART)
