"""The network that a peer comes from, as far as its IP address tells, and the reach of that address.

Keys cost nothing, addresses do: what strangers may take is counted by the network they come from. An IPv4 address is a
network of its own; of IPv6 whoever holds one address holds its /64, and may hold the /48 around it.
"""

import ipaddress
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Final

_NOT_GLOBAL: Final = tuple(  # IANA's registries of special-purpose addresses; Python's own reading of them changes
    map(
        ipaddress.ip_network,
        (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
            *("192.0.0.0/24", "192.0.2.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
            *("240.0.0.0/4", "2001::/23", "2001:db8::/32", "3fff::/20", "fc00::/7", "fe80::/10"),
        ),
    )
)

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


def source_named(key: str) -> Source:
    """The source of this key."""
    within = f"{key.partition('/')[0]}1" if "/" in key else key  # an address, of an IPv6 network
    return source_of(within) if key else NOWHERE


@lru_cache(maxsize=4_096)  # those of all links, asked for again and again
def site_of(source: Source) -> Source:
    """Return what one customer of a provider holds, where that is more than a network: an IPv6 /48."""
    if ":" not in source.key or source.scope is Scope.LOOPBACK:
        return source
    return Source(str(ipaddress.ip_network(source.key).supernet(new_prefix=48)), source.scope)


def plain_ip(ip: IP) -> IP:
    """An IPv4 address that is written as an IPv6 one as itself."""
    return (ip.version == 6 and ip.ipv4_mapped) or ip


def scope_of(ip: IP) -> Scope:
    if ip.is_loopback:
        return Scope.LOOPBACK
    if ip.is_link_local:
        return Scope.LINK
    return Scope.PRIVATE if any(ip in network for network in _NOT_GLOBAL) else Scope.PUBLIC
