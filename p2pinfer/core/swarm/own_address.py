"""Our own addresses, in the order in which others should try them (protocols/wire.md, 6.2).

The reach of an address cannot be seen from here; where the routes and the interfaces point can. Pure.
"""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from p2pinfer.core.swarm.source import IP, Scope, scope_of

CONTAINERS: Final = ipaddress.ip_network("172.16.0.0/12")  # where container engines make their networks
CONTAINERS_PREFIX: Final = 16  # of one of them, whose first address the host has


@dataclass(frozen=True, slots=True)
class OwnAddress:
    """An address of one of our interfaces.

    prefix:     bits of its network
    is_default: what leaves for the internet leaves from it
    is_virtual: its interface joins containers or virtual machines of this machine, or is joined to nothing
    """

    ip: IP
    prefix: int
    is_default: bool = False
    is_virtual: bool = False

    @property
    def is_useful(self) -> bool:
        """Others may reach us there, as far as can be seen."""
        return self.is_default or not (self.is_virtual or _is_of_containers(self.ip, self.prefix))


def in_order(addresses: Iterable[OwnAddress]) -> list[OwnAddress]:
    """Those that lead to the internet first, then public ones, then the LAN's, loopback last; link-local ones never."""
    told = {one for one in addresses if scope_of(one.ip) is not Scope.LINK}
    return sorted(told, key=_rank)


def _rank(one: OwnAddress) -> tuple[bool, bool, bool, bool, int, bytes]:
    is_public = scope_of(one.ip) is Scope.PUBLIC
    is_lan = not (one.is_default or is_public)
    return one.ip.is_loopback, not one.is_useful, is_lan, not one.is_default, one.ip.version, one.ip.packed


def _is_of_containers(ip: IP, prefix: int) -> bool:
    """True for the address that container engines give the host in a network of theirs."""
    if ip.version != 4 or prefix != CONTAINERS_PREFIX or ip not in CONTAINERS:
        return False
    return ip.packed[2:] == bytes([0, 1])
