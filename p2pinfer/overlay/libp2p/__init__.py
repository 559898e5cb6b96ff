"""The network over libp2p's protocols: TCP, noise, yamux, DHT (protocols/wire.md, 2.1).

The package libp2p is of use for the DHT alone, in a process of its own: importing it takes a second.
"""

from p2pinfer.overlay.libp2p.ground import (
    Listening,
    check_addresses,
    check_announced,
    check_listened,
    open_libp2p_network,
)
from p2pinfer.overlay.libp2p.mdns import open_mdns
from p2pinfer.overlay.libp2p.whereabouts import expected

__all__ = [
    "Listening",
    "check_addresses",
    "check_announced",
    "check_listened",
    "expected",
    "open_libp2p_network",
    "open_mdns",
]
