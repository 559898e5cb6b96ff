"""The addresses of this machine's interfaces, what is known of each, and when they change.

Linux says by itself when they do (netlink, rtnetlink(7)); elsewhere they are looked at every LOOK_S.
"""

import errno
import ipaddress
import logging
import re
import socket
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil
import trio

from p2pinfer.core.swarm.own_address import OwnAddress
from p2pinfer.core.swarm.source import IP

LOOK_S: Final = 5.0  # between looks, where the system does not tell
SETTLE_S: Final = 0.5  # after a change, for the others that come with it
# Interfaces of container engines and hypervisors; the bridge of a LAN is br0, and has the default route
VIRTUAL: Final = re.compile(r"(docker|br-|veth|virbr|vnet|vmnet|vboxnet|lxc|lxd|podman|cni|flannel|cali|kube|bridge\d)")
# What leaves for these two leaves by the default route; nothing is sent to them
OUTSIDE: Final = ((socket.AF_INET, "198.41.0.4"), (socket.AF_INET6, "2001:503:ba3e::2:30"))
IPV6_ADDRESSES: Final = Path("/proc/net/if_inet6")
UNUSABLE: Final = 0x08 | 0x20 | 0x40  # of its flags: a duplicate, deprecated, and not yet known to be no duplicate
GROUPS: Final = 0x1 | 0x10 | 0x100 | 0x40 | 0x400  # of netlink: links, addresses and routes, IPv4's and IPv6's
BUFFER: Final = 65_536

logger = logging.getLogger(__name__)


def own_addresses() -> list[OwnAddress]:
    """All addresses of interfaces that are up."""
    defaults = set(_defaults())
    unusable = set(_unusable())
    stats = psutil.net_if_stats()
    found = []
    for name, entries in psutil.net_if_addrs().items():
        stat = stats.get(name)
        if stat is not None and not stat.isup:
            continue
        has_carrier = stat is None or not stat.flags or "running" in stat.flags.split(",")
        is_virtual = not has_carrier or VIRTUAL.match(name) is not None
        for entry in entries:
            ip = _ip(entry.address)
            if ip is not None and ip not in unusable:
                prefix = _prefix(ip, entry.netmask)
                found.append(OwnAddress(ip, prefix, ip in defaults, is_virtual and not ip.is_loopback))
    return found


def _ip(text: str) -> IP | None:
    try:
        return ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None  # a hardware address


def _prefix(ip: IP, netmask: str | None) -> int:
    with suppress(ValueError):
        if netmask:
            return bin(int(ipaddress.ip_address(netmask))).count("1")
    return ip.max_prefixlen


def _defaults() -> Iterator[IP]:
    """The addresses from which this machine would speak to the internet."""
    for family, outside in OUTSIDE:
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((outside, 9))  # of UDP this sends nothing
            yield ipaddress.ip_address(probe.getsockname()[0])


def _unusable() -> Iterator[IP]:
    """Of IPv6, the addresses that are there and of no use."""
    with suppress(OSError, ValueError, IndexError):
        for line in IPV6_ADDRESSES.read_text().splitlines():
            digits, *_, flags, _name = line.split()
            if int(flags, 16) & UNUSABLE:
                yield ipaddress.IPv6Address(bytes.fromhex(digits))


async def changes() -> AsyncGenerator[None, None]:
    """Comes round at once, and then whenever addresses, interfaces or routes may have changed."""
    if (told := _open_netlink()) is not None:
        with told:
            yield  # for what changed before anybody listened
            while await _changed(told):
                yield
    while True:
        yield
        await trio.sleep(LOOK_S)


async def _changed(told: socket.socket) -> bool:
    """Wait for the next changes; False where the system tells of them no more."""
    try:
        await trio.lowlevel.wait_readable(told.fileno())
        await trio.sleep(SETTLE_S)
        _drain(told)
    except OSError as error:
        logger.info("the system tells no more of changes of the network: %s", error)
        return False
    return True


def _open_netlink() -> socket.socket | None:
    """A socket that becomes readable at each change; None where there is no such thing."""
    if sys.platform != "linux":
        return None
    try:
        told = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
    except OSError:
        return None  # a sandbox without it
    try:
        told.bind((0, GROUPS))
    except OSError:
        told.close()
        return None
    return told


def _drain(told: socket.socket) -> None:
    while True:
        try:
            told.recv(BUFFER)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ENOBUFS:  # more changes than fit are changes all the same
                raise
