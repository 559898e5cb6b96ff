"""Where a data folder's node is to be met by clients of this machine: a file `node.addresses`, while the node runs.

Clients and nodes look into folders that they know, and into those that are on the user's roll (`roll.py`).
A node that was killed leaves its file behind. So whoever reads it looks if somebody holds the folder's lock; and at
worst dials an address of this machine where another program answers, or nobody, which the handshake tells.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path
from typing import Final

from p2pinfer.core.address import endpoint_of
from p2pinfer.disk.atomic import write_atomic
from p2pinfer.disk.locks import is_held
from p2pinfer.disk.places import node_addresses, node_lock
from p2pinfer.disk.plain import read_small
from p2pinfer.disk.roll import entered

MODE: Final = 0o600
MAX_FILE: Final = 8_192  # bytes
MAX_HERE: Final = 16  # addresses of a node
MAX_NODES: Final = 8  # that are named to who looks; they know the others
LOOPBACK: Final = {4: "/ip4/127.0.0.1", 6: "/ip6/::1"}


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
    """The node ends. What cannot be removed is stale, and harmless."""
    with suppress(OSError):
        node_addresses(data).unlink(missing_ok=True)


def nodes_here(folders: Iterable[Path], on_roll: bool = False) -> list[str]:
    """Addresses of the nodes that run on these folders; blocks for the disk. What cannot be read names nobody.

    on_roll: and of this user's other nodes, the last one started first; MAX_NODES in all
    """
    known = dict.fromkeys([*folders, *(entered() if on_roll else ())])
    running = islice(filter(None, map(_addresses, known)), MAX_NODES)
    return list(dict.fromkeys(chain.from_iterable(running)))


def _addresses(data: Path) -> list[str]:
    try:
        lines = read_small(node_addresses(data), MAX_FILE).decode("ascii").splitlines()
    except (OSError, ValueError):
        return []
    return lines[:MAX_HERE] if is_held(node_lock(data)) else []
