"""The network over libp2p's protocols: TCP, noise, yamux, DHT (protocols/wire.md, 2.1).

The package libp2p is of use for the DHT alone, in a process of its own: importing it takes a second.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from p2pinfer.overlay.libp2p.ground import (
    Listening,
    check_addresses,
    check_announced,
    check_listened,
    open_libp2p_network,
)
from p2pinfer.overlay.libp2p.whereabouts import expected
from p2pinfer.overlay.neighbours import Neighbours

__all__ = [
    "Listening",
    "check_addresses",
    "check_announced",
    "check_listened",
    "expected",
    "open_libp2p_network",
    "open_mdns",
]


@asynccontextmanager
async def open_mdns() -> AsyncIterator[Neighbours]:
    """Look for peers on the local network, unseen, for as long as the block lasts. Raises OSError without one."""
    from p2pinfer.overlay.libp2p.mdns import open_mdns as opened  # zeroconf takes a while to import, and few look

    async with opened() as neighbourhood:
        yield neighbourhood
