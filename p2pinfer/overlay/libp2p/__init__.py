"""The network over libp2p: TCP, noise, yamux, DHT (protocols/wire.md, 2.1). Nothing else here knows libp2p."""

from p2pinfer.overlay.libp2p.ground import check_addresses, check_announced, check_listened, open_libp2p_network
from p2pinfer.overlay.libp2p.mdns import open_mdns
from p2pinfer.overlay.libp2p.parsers import bound_parsers
from p2pinfer.overlay.libp2p.whereabouts import expected

__all__ = ["check_addresses", "check_announced", "check_listened", "expected", "open_libp2p_network", "open_mdns"]

bound_parsers()  # at the import, so that no process of ours uses libp2p without it
