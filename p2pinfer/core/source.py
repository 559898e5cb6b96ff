"""The network that a peer comes from, as far as its IP address tells, and the reach of that address.

Keys cost nothing, addresses do: what strangers may take is counted by the network they come from. An IPv4 address is a
network of its own; of IPv6 whoever holds one address holds its /64.
"""

import ipaddress
from dataclasses import dataclass
from enum import IntEnum

IP = ipaddress.IPv4Address | ipaddress.IPv6Address


class Scope(IntEnum):
    """From where an address can be reached."""

    LOOPBACK = 1  # this machine
    LINK = 2  # one wire or radio cell; where clouds keep their keys, too
    PRIVATE = 3  # a network behind a router
    PUBLIC = 4


@dataclass(frozen=True, slots=True)
class Source:
    """A network that peers come from. key: an IPv4 address or an IPv6 /64 as text; empty where there is no IP."""

    key: str = ""
    scope: Scope = Scope.LOOPBACK

    @property
    def network(self) -> str | None:
        """By what clients are counted; None on our own machine, where they share one address whoever they are."""
        return None if self.scope is Scope.LOOPBACK else self.key


NOWHERE = Source()  # of peers in this process


def source_of(text: str) -> Source:
    """The network of an IP address as sockets write it, an IPv6 one perhaps with its zone."""
    ip = plain_ip(ipaddress.ip_address(text.partition("%")[0]))
    if ip.version == 4:
        return Source(str(ip), scope_of(ip))
    return Source(str(ipaddress.ip_network((ip, 64), strict=False)), scope_of(ip))


def plain_ip(ip: IP) -> IP:
    """An IPv4 address that is written as an IPv6 one as itself."""
    return (ip.version == 6 and ip.ipv4_mapped) or ip


def scope_of(ip: IP) -> Scope:
    if ip.is_loopback:
        return Scope.LOOPBACK
    if ip.is_link_local:
        return Scope.LINK
    return Scope.PUBLIC if ip.is_global else Scope.PRIVATE
