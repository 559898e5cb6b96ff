"""The address book: peers that were met, kept in the data folder, so that a swarm is found again without its first.

A file of JSON, `peers.json` (disk/shared_file.py). Nodes and clients of one folder share it, and each adds to it what
it knows.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import trio

from p2pinfer.core.swarm.acquaintances import MAX_ADDRESS, MAX_PLACES, Acquaintance, Acquaintances, KnownAddress
from p2pinfer.core.values.errors import UsageError
from p2pinfer.core.values.keys import parse_peer_name, peer_name
from p2pinfer.disk.shared_file import SharedFile, parse_time

AHEAD_S: Final = 60  # of stored times before our clock: more of them and one of the two is wrong
DOUBT_S: Final = 3_600.0  # of our running; by then somebody has set a clock that was wrong
TIMES: Final = ("met", "linked", "failed", "served")
MAX_NETWORK: Final = 64  # characters


class AddressBook(Acquaintances):
    """The peers that a data folder's nodes and clients met."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = SharedFile(path, "the address book", _parse)
        self._loaded_s: float | None = None  # when it was read first
        self._is_early = False  # by our clock, before what is written there

    async def load(self, now: int) -> bool:
        """Take in what the file holds; False where it could not be read, and may be later."""
        if (found := await self._file.read()) is not None:
            self._is_early = self._doubts(found, now)
            self.take(found, now)
            if not self._is_early:  # times that are still to come, of a clock that was wrong, are now
                self._known = {one.peer: one.retimed(lambda time: min(time, now)) for one in self._known.values()}
        return self._file.is_read

    async def save(self, now: int) -> None:
        """Write down what was noted, where it is news."""
        if not self.is_news:
            return
        await self.load(now)  # others write, too
        kept = self.keep(now)
        if not self._is_early:
            self.is_news = False
            is_written = await self._file.write({"peers": [_plain(one) for one in kept]})
            self.is_news = self.is_news or not is_written

    def _doubts(self, found: Sequence[Acquaintance], now: int) -> bool:
        """True if our clock may be wrong, where times that are still to come are written: nothing is lost for it."""
        if self._loaded_s is None:
            self._loaded_s = trio.current_time()
        newest = max((one.noted for one in found), default=0)
        return newest > now + AHEAD_S and trio.current_time() < self._loaded_s + DOUBT_S


def _parse(found: Any) -> list[Acquaintance]:
    """Raises ValueError for what is no address book."""
    if not isinstance(found, dict) or not isinstance(found.get("peers"), list):
        raise ValueError("there is no list of peers in it")
    return [_acquaintance(one) for one in found["peers"]]


def _plain(one: Acquaintance) -> dict[str, object]:
    return {
        "peer": peer_name(one.peer),
        "network": one.network,
        "addresses": {place.address: [place.reached, place.told] for place in one.places},
        **{name: getattr(one, name) for name in TIMES},
    }


def _acquaintance(found: Any) -> Acquaintance:
    """Raises ValueError."""
    if not isinstance(found, dict):
        raise ValueError("a peer is no object")
    peer, network, addresses = found.get("peer"), found.get("network"), found.get("addresses")
    if not isinstance(peer, str) or not isinstance(network, str) or not isinstance(addresses, dict):
        raise ValueError("a peer lacks its name, network or addresses")
    if len(network) > MAX_NETWORK or len(addresses) > MAX_PLACES or any(len(one) > MAX_ADDRESS for one in addresses):
        raise ValueError("a peer has too many addresses, or too long ones")
    try:
        key = parse_peer_name(peer)
    except UsageError as error:
        raise ValueError(str(error)) from None
    places = tuple(_place(address, times) for address, times in addresses.items())
    return Acquaintance(key, network, places, **{name: parse_time(found.get(name)) for name in TIMES})


def _place(address: str, times: Any) -> KnownAddress:
    if not isinstance(times, list) or len(times) != 2:
        raise ValueError("an address lacks when it was reached, or when it was told")
    return KnownAddress(address, *map(parse_time, times))
