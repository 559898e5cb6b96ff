"""Addresses of peers, and which of them may be dialled on another's word (protocols/wire.md, 6.1).

A stranger may name any address as a peer's. A peer that dials it for him tells him what is there, or knocks there in
his place; so only plain IP addresses are dialled, and those of this machine or of a private network for nobody outside
it.
"""

import ipaddress
import re
from functools import lru_cache
from typing import Final

from p2pinfer.core.swarm.source import IP, Scope, Source, scope_of, site_of, source_of
from p2pinfer.core.values.errors import UsageError

_ADDRESS: Final = re.compile(r"/ip[46]/([0-9a-fA-F:.]{2,45})/tcp/([1-9][0-9]{0,4})(?:/p2p/[0-9A-Za-z]{1,80})?")

_WRITTEN: Final = re.compile(r"/(ip4|ip6|dns|dns4|dns6)/([^/\s%]{1,253})/tcp/([0-9]{1,5})(?:/p2p/[0-9A-Za-z]{1,80})?")
MAX_PORT: Final = 65_535


def host_and_port(address: str) -> tuple[str, int]:
    """IP address or name, and port, of a multiaddr that a person may write: /ip4/HOST/tcp/PORT, or ip6 or dns.

    Raises UsageError for any other.
    """
    try:
        return _host_and_port(address)
    except ValueError as error:
        example = "/ip4/127.0.0.1/tcp/4001"
        raise UsageError(f"{address!r:.200} is no address like {example}: {error}") from None


def _host_and_port(address: str) -> tuple[str, int]:
    if (match := _WRITTEN.fullmatch(address)) is None:
        raise ValueError("not TCP over IP")
    kind, host, port = match[1], match[2], int(match[3])
    if port > MAX_PORT:
        raise ValueError(f"port {port}, limit {MAX_PORT}")
    if kind.startswith("dns"):
        if not _is_name(host):
            raise ValueError(f"{host} is no name of a machine")
        return host, port
    ip = ipaddress.ip_address(host)
    if kind != f"ip{ip.version}":
        raise ValueError(f"{host} is no address of {kind}")
    return str(ip), port


def _is_name(host: str) -> bool:
    try:
        return bool(host.encode("idna"))  # as whoever looks it up does
    except UnicodeError:
        return False


def endpoint_of(address: str) -> tuple[IP, int] | None:
    """IP address and port of a multiaddr of TCP over IP, with a peer's name or without; None for any other."""
    if (match := _ADDRESS.fullmatch(address)) is None:
        return None
    try:
        ip, port = ipaddress.ip_address(match[1]), int(match[2])
    except ValueError:
        return None
    return (ip, port) if address.startswith(f"/ip{ip.version}/") and port < 1 << 16 else None


@lru_cache(maxsize=16_384)  # all that are known, which are looked at every few seconds
def site_at(address: str) -> str | None:
    """The site that an address leads to; None on our own machine, and where there is no IP."""
    endpoint = endpoint_of(address)
    return None if endpoint is None else site_of(source_of(str(endpoint[0]))).network


def may_dial(address: str, word: Source) -> bool:
    """True if an address may be dialled on the word of somebody from `word`."""
    endpoint = endpoint_of(address)
    return endpoint is not None and _may_reach(endpoint[0], word.scope)


def may_tell(address: str, to: Source) -> bool:
    """True if an address is told to somebody at `to`: one that may be dialled on the word of who is there.

    A link-local one is told to nobody, for it means something else on every wire.
    """
    endpoint = endpoint_of(address)
    return endpoint is not None and scope_of(endpoint[0]) is not Scope.LINK and _may_reach(endpoint[0], to.scope)


def _may_reach(ip: IP, word: Scope) -> bool:
    if ip.is_multicast or ip.is_unspecified or _carries_ipv4(ip):
        return False
    if ip.is_loopback:
        return word is Scope.LOOPBACK
    if _is_reserved(ip):
        return False
    scope = scope_of(ip)
    return scope is Scope.PUBLIC or word in (scope, Scope.LOOPBACK)


def _is_reserved(ip: IP) -> bool:
    """True for what nobody has. Of IPv6, addresses local to a site (fec0::/10) were given back."""
    return ip.is_reserved or (ip.version == 6 and ip.is_site_local)


def _carries_ipv4(ip: IP) -> bool:
    """True for IPv6 addresses that lead to an IPv4 address inside them, which might be one that may not be dialled."""
    return ip.version == 6 and (ip.ipv4_mapped or ip.sixtofour or ip.teredo) is not None
