"""Addresses in an owner's settings, looked at before anything is opened. Nobody is asked."""

from p2pinfer.node.settings import NetworkSettings
from p2pinfer.overlay.libp2p import check_addresses, check_announced, check_listened, expected


def local_addresses(network: NetworkSettings) -> tuple[str, ...]:
    """Return where a node with these settings could be dialled, as the interfaces stand; port 0 stands for any."""
    return expected(network.listen)


def check_network(network: NetworkSettings) -> None:
    """Raises UsageError where an address cannot be used for what it is given for."""
    check_listened(network.listen)
    check_announced(network.announce)
    check_addresses(network.bootstrap)
