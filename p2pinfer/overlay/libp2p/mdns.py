"""mDNS: peers on the same local network, found without knowing anybody (protocols/wire.md, 6).

https://github.com/libp2p/specs/blob/master/discovery/mdns.md, by python-zeroconf, which libp2p brings along and which
lives in threads of its own. What is found are addresses; the link's handshake proves who is there.
"""

import logging
import os
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

import trio
from zeroconf import ServiceBrowser, ServiceInfo, ServiceStateChange, Zeroconf

from p2pinfer.core.address import may_dial
from p2pinfer.core.messages import MAX_ADDRESSES
from p2pinfer.core.source import Scope, Source
from p2pinfer.overlay.libp2p.tcp import ip_of
from p2pinfer.overlay.pipe import Address, leads_to

SERVICE: Final = "_p2p._udp.local."
FIELD: Final = b"dnsaddr="
LOCAL: Final = Source("the local network", Scope.PRIVATE)
MAX_NEIGHBOURS: Final = 256
INFO_MS: Final = 3000  # for a neighbour to say its addresses
CLOSE_S: Final = 2.0  # for zeroconf to say goodbye on the network

logger = logging.getLogger(__name__)


class Neighbourhood:
    """Who is on the local network."""

    def __init__(self) -> None:
        self._addresses: dict[str, tuple[Address, ...]] = {}  # by the name of the announcement

    def addresses(self) -> tuple[Address, ...]:
        return tuple(dict.fromkeys(address for found in self._addresses.values() for address in found))

    def add(self, name: str, addresses: Sequence[Address]) -> None:
        if addresses and len(self._addresses) < MAX_NEIGHBOURS:
            self._addresses[name] = tuple(addresses)

    def remove(self, name: str) -> None:
        self._addresses.pop(name, None)


@asynccontextmanager
async def open_mdns(addresses: Sequence[Address]) -> AsyncIterator[Neighbourhood]:
    """Announce these addresses and hear of others' for as long as the block lasts. They must not be loopback's.

    Raises OSError where there is no network to announce on.
    """
    neighbourhood = Neighbourhood()
    browsing = _Browsing(neighbourhood, trio.lowlevel.current_trio_token(), addresses)
    zeroconf = await trio.to_thread.run_sync(browsing.start)
    try:
        yield neighbourhood
    finally:
        browsing.ended = True
        with trio.CancelScope(shield=True), trio.move_on_after(CLOSE_S):
            await trio.to_thread.run_sync(zeroconf.close, abandon_on_cancel=True)  # type: ignore[call-arg]  # old stubs


class _Browsing:
    """What runs in zeroconf's threads."""

    def __init__(
        self, neighbourhood: Neighbourhood, token: trio.lowlevel.TrioToken, addresses: Sequence[Address]
    ) -> None:
        self.ended = False
        self._neighbourhood = neighbourhood
        self._token = token
        self._addresses = addresses
        self._name = os.urandom(16).hex()  # the spec wants one that tells nothing

    def start(self) -> Zeroconf:
        ips = sorted({str(ip_of(address)) for address in self._addresses})
        zeroconf = Zeroconf(interfaces=ips)
        try:
            zeroconf.register_service(
                ServiceInfo(
                    SERVICE,
                    f"{self._name}.{SERVICE}",
                    port=4001,  # the spec's field, which nobody reads: the addresses have their own
                    properties=encode_text(self._addresses),
                    server=f"{self._name}.local.",
                    addresses=[socket.inet_pton(socket.AF_INET6 if ":" in ip else socket.AF_INET, ip) for ip in ips],
                )
            )
            ServiceBrowser(zeroconf, SERVICE, handlers=[self._hear])
        except BaseException:  # whatever it is: its threads would outlive us
            zeroconf.close()
            raise
        return zeroconf

    def _hear(self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        if self.ended or name == f"{self._name}.{SERVICE}":
            return
        with suppress(trio.RunFinishedError):  # the process ends
            if state_change is ServiceStateChange.Removed:
                self._token.run_sync_soon(self._neighbourhood.remove, name)
            elif info := zeroconf.get_service_info(service_type, name, INFO_MS):
                self._token.run_sync_soon(self._neighbourhood.add, name, decode_text(info.text or b""))


def encode_text(addresses: Sequence[Address]) -> bytes:
    """Addresses as a TXT record has them: strings with their lengths before them."""
    strings = [FIELD + address.encode() for address in addresses]
    return b"".join(bytes([len(string)]) + string for string in strings if len(string) < 256)


def decode_text(text: bytes) -> list[Address]:
    """The addresses in a TXT record that may be dialled; whatever else is in it does not count."""
    found = [Address(one) for one in _strings(text) if may_dial(one, LOCAL) and leads_to(one) is not None]
    return found[:MAX_ADDRESSES]


def _strings(text: bytes) -> Iterator[str]:
    while text:
        string, text = text[1 : 1 + text[0]], text[1 + text[0] :]
        if string.startswith(FIELD) and string.isascii():
            yield string[len(FIELD) :].decode("ascii")
