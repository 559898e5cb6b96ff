"""The network over libp2p: TCP, noise, yamux, DHT (protocols/wire.md, 2.1). Nothing else here knows libp2p."""

from p2pinfer.overlay.libp2p.ground import check_addresses, check_announced, check_listened, open_libp2p_network

__all__ = ["check_addresses", "check_announced", "check_listened", "open_libp2p_network"]
