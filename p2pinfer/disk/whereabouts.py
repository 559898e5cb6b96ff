"""The addresses where clients of this machine meet a data folder's node: a file `node.addresses`, while it runs.

Clients and nodes look into folders that they know, and into those that are on the user's roll (`roll.py`). One of them
may lie on a mount that hangs, as one over a network does whose server is gone: it holds up nobody but its own thread.
A node that was killed leaves its file behind. So whoever reads it looks if somebody holds the folder's lock; and at
worst dials an address of this machine where another program answers, or nobody, which the handshake tells.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain, islice
from math import inf
from pathlib import Path
from typing import Final, TypeVar

import trio

from p2pinfer.core.swarm.address import endpoint_of
from p2pinfer.disk.atomic import write_atomic
from p2pinfer.disk.locks import is_held
from p2pinfer.disk.places import node_addresses, node_lock
from p2pinfer.disk.plain import read_small
from p2pinfer.disk.roll import entered

MODE: Final = 0o600
MAX_FILE: Final = 8_192  # bytes
MAX_HERE: Final = 16  # addresses of a node
MAX_NODES: Final = 8  # that are named to who looks; they know the others
LOOK_S: Final = 1.0  # for the disk; a folder that takes longer has no node, as far as can be told
LOOPBACK: Final = {4: "/ip4/127.0.0.1", 6: "/ip6/::1"}

T = TypeVar("T")


def from_here(listened: Iterable[str], told: Iterable[str], name: str) -> list[str]:
    """Addresses at which this machine reaches a node, loopback first.

    listened: as the owner gave them; a port of 0 says nothing
    told:     as others are told; a forwarded port is among them, and may not be reached from inside
    name:     the peer's
    """
    suffix = f"/p2p/{name}"
    found: dict[str, None] = {}
    addresses = [address.removesuffix(suffix) for address in (*listened, *told)]
    endpoints = [endpoint for address in addresses if (endpoint := endpoint_of(address)) is not None]
    for ip, port in endpoints:
        found[f"{LOOPBACK[ip.version]}/tcp/{port}{suffix}"] = None
    for address in addresses:
        endpoint = endpoint_of(address)
        if not address.endswith("/tcp/0") and (endpoint is None or not endpoint[0].is_unspecified):
            found[address + suffix] = None
    return list(found)[:MAX_HERE]


def tell(data: Path, addresses: Sequence[str]) -> None:
    """Write where the node is. Raises OSError."""
    write_atomic(node_addresses(data), "".join(f"{address}\n" for address in addresses).encode(), MODE)


def untell(data: Path) -> None:
    """The node ends. A file that cannot be removed is stale, and harmless."""
    with suppress(OSError):
        node_addresses(data).unlink(missing_ok=True)


class NodesHere:
    """Looks for the nodes that run on these folders. on_roll: and for this user's others, the last one started first"""

    def __init__(self, folders: Iterable[Path], on_roll: bool = False) -> None:
        self._folders = tuple(folders)
        self._on_roll = on_roll
        self._looked_at: set[Path] = set()  # now, each in a thread: one that hangs has one, however often we look
        self._threads = trio.CapacityLimiter(inf)  # of those that all share, each that hangs would be missing for good
        self._roll = trio.CapacityLimiter(1)

    async def find(self) -> list[str]:
        """Addresses of MAX_NODES of them at most. What cannot be read within LOOK_S names nobody."""
        found: dict[Path, list[str]] = {}
        with trio.move_on_after(LOOK_S):
            for data in (*self._folders, *(await self._in_thread(entered, self._roll) if self._on_roll else ())):
                found.setdefault(data, [])
            async with trio.open_nursery() as nursery:
                for data in found.keys() - self._looked_at:
                    nursery.start_soon(self._look, data, found)
        running = islice(filter(None, found.values()), MAX_NODES)
        return list(dict.fromkeys(chain.from_iterable(running)))

    async def _look(self, data: Path, found: dict[Path, list[str]]) -> None:
        found[data] = await self._in_thread(partial(self._read, data), self._threads)

    def _read(self, data: Path) -> list[str]:
        self._looked_at.add(data)
        try:
            return _addresses(data)
        finally:
            self._looked_at.discard(data)

    @staticmethod
    async def _in_thread(read: Callable[[], list[T]], own: trio.CapacityLimiter) -> list[T]:
        return await trio.to_thread.run_sync(read, abandon_on_cancel=True, limiter=own)  # type: ignore[call-arg]  # old stubs


def _addresses(data: Path) -> list[str]:
    try:
        lines = read_small(node_addresses(data), MAX_FILE).decode("ascii").splitlines()
    except (OSError, ValueError):
        return []
    return lines[:MAX_HERE] if is_held(node_lock(data)) else []
