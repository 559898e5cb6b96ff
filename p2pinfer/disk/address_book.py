"""The address book: peers that were met, kept in the data folder, so that a swarm is found again without its first.

A file of JSON, `peers.json`, readable by its user alone: whom somebody asked is nobody's business. Nodes and clients of
one folder share it, and each adds to it what it knows. It is a help and nothing more: what cannot be read is put aside,
what cannot be written is lost, and both are told in a sentence.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import trio

from p2pinfer.core.acquaintances import MAX_ADDRESS, MAX_PLACES, Acquaintance, Acquaintances, Place
from p2pinfer.core.errors import UsageError
from p2pinfer.core.keys import parse_peer_name, peer_name
from p2pinfer.disk.atomic import write_atomic
from p2pinfer.disk.plain import read_small

MODE: Final = 0o600
MAX_FILE: Final = 1 << 20  # bytes; a full book takes a third
ASIDE: Final = ".damaged"
AHEAD_S: Final = 60  # of stored times before our clock: more of them and one of the two is wrong
DOUBT_S: Final = 3_600.0  # of our running; by then somebody has set a clock that began in 1970
TIMES: Final = ("met", "linked", "failed", "served")
MAX_NETWORK: Final = 64  # characters


class AddressBook(Acquaintances):
    """The peers that a data folder's nodes and clients met."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._is_ours = True  # we may write it
        self._loaded_s: float | None = None  # when it was read first
        self._is_early = False  # by our clock, before what is written there

    async def load(self, now: int) -> str:
        """Take in what the file holds; return a complaint, or nothing."""
        try:
            found = await trio.to_thread.run_sync(_read, self._path)
            self._is_early = self._doubts(found, now)
            self.take(found)
            if not self._is_early:
                self._known = {peer: _until(one, now) for peer, one in self._known.items()}
        except OSError as error:
            self._is_ours = False
            return f"the address book {self._path} cannot be read, and is left as it is: {error.strerror}"
        except (ValueError, RecursionError) as error:
            return f"the address book {self._path} is damaged ({error}); {self._put_aside()}"
        return ""

    async def save(self, now: int) -> str:
        """Write down what was noted, where it is news; return a complaint, or nothing."""
        if not self.is_news:
            return ""
        complaint = await self.load(now)  # others write, too
        kept = self.keep(now)
        self.is_news = False
        if self._is_early:
            self.is_news = True
        elif self._is_ours:
            try:
                await trio.to_thread.run_sync(_write, self._path, kept)
            except OSError as error:
                self.is_news = True
                return f"the address book {self._path} cannot be written: {error.strerror}"
        return complaint

    def _doubts(self, found: Sequence[Acquaintance], now: int) -> bool:
        """True if our clock may be wrong, where times that are still to come are written: nothing is lost for it."""
        if self._loaded_s is None:
            self._loaded_s = trio.current_time()
        newest = max((max(one.linked, one.failed, one.served) for one in found), default=0)
        return newest > now + AHEAD_S and trio.current_time() < self._loaded_s + DOUBT_S

    def _put_aside(self) -> str:
        aside = self._path.with_name(self._path.name + ASIDE)
        try:
            self._path.replace(aside)
        except OSError as error:
            return f"it cannot be put aside: {error.strerror}"
        return f"it is put aside as {aside.name}, and a new one begun"


def _read(path: Path) -> list[Acquaintance]:
    """Raises OSError; ValueError and RecursionError for what is no address book."""
    try:
        data = read_small(path, MAX_FILE)
    except FileNotFoundError:
        return []
    found = json.loads(data)
    if not isinstance(found, dict) or not isinstance(found.get("peers"), list):
        raise ValueError("there is no list of peers in it")
    return [_acquaintance(one) for one in found["peers"]]


def _write(path: Path, kept: Sequence[Acquaintance]) -> None:
    write_atomic(path, json.dumps({"peers": [_plain(one) for one in kept]}, indent=1).encode(), MODE)


def _plain(one: Acquaintance) -> dict[str, object]:
    return {
        "peer": peer_name(one.peer),
        "network": one.network,
        "addresses": {place.address: [place.reached, place.told] for place in one.places},
        **{name: getattr(one, name) for name in TIMES},
    }


def _until(one: Acquaintance, now: int) -> Acquaintance:
    """Times that are still to come, of a clock that was wrong, are now."""
    places = tuple(Place(place.address, min(place.reached, now), min(place.told, now)) for place in one.places)
    return replace(one, places=places, **{name: min(getattr(one, name), now) for name in TIMES})


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
    return Acquaintance(key, network, places, **{name: _time(found.get(name)) for name in TIMES})


def _place(address: str, times: Any) -> Place:
    if not isinstance(times, list) or len(times) != 2:
        raise ValueError("an address lacks when it was reached, or when it was told")
    return Place(address, *map(_time, times))


def _time(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError("a time is no number of seconds")
    return value
