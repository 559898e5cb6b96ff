"""mDNS: peers on the same local network, found without knowing anybody (protocols/wire.md, 6).

https://github.com/libp2p/specs/blob/master/discovery/mdns.md, by python-zeroconf, which libp2p brings along and which
lives in threads of its own. It finds addresses; the link's handshake proves who is there. Nodes announce themselves;
clients only look. Anybody on the local network may send records, so all that is kept of them is bounded.
"""

import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import chain, repeat
from threading import Lock
from typing import Final

import trio
from zeroconf import (
    DNSOutgoing,
    DNSQuestion,
    DNSRecord,
    DNSText,
    Error,
    RecordUpdate,
    RecordUpdateListener,
    ServiceInfo,
    Zeroconf,
    const,
    current_time_millis,
)

from p2pinfer.core.swarm.address import may_dial
from p2pinfer.core.swarm.own_address import in_order
from p2pinfer.core.swarm.source import Scope, Source
from p2pinfer.core.values.units import PeerKey
from p2pinfer.core.wire.messages import MAX_ADDRESSES
from p2pinfer.overlay.libp2p.interfaces import own_addresses
from p2pinfer.overlay.libp2p.mdns_records import LOTS, MAX_NEIGHBOURS, SERVICE, BoundedZeroconf, Shelf, neighbour_of
from p2pinfer.overlay.libp2p.tcp import ip_of
from p2pinfer.overlay.news import News
from p2pinfer.overlay.pipe import Address, leads_to

FIELD: Final = b"dnsaddr="
LOCAL: Final = Source("the local network", Scope.PRIVATE)
ASK_S: Final = (1.0, 2.0, 4.0)  # between questions at first, for packets get lost; then
ASK_AGAIN_S: Final = 2_700.0  # what is known lives for 75 minutes, and is not told again in the first half of them
MAX_SAID: Final = 30  # of those we know, in a question: they need not answer; so many fit into one packet
CLOSE_S: Final = 2.0  # for zeroconf to say goodbye on the network
NEIGHBOUR_PEERS: Final = 2  # that one announcement names; an honest one names one
FAULTS: Final = (Error, RuntimeError)  # of zeroconf and the loop in its thread; those of sockets are OSErrors

logger = logging.getLogger(__name__)


class Neighbourhood:
    """The peers on the local network. Filled in zeroconf's threads, read in ours.

    news: tells of newcomers, in our thread
    """

    def __init__(self) -> None:
        self.news = News()
        self._lock = Lock()
        self._addresses: dict[str, tuple[Address, ...]] = {}  # by the name of the announcement

    def addresses(self) -> tuple[Address, ...]:
        with self._lock:
            return tuple(dict.fromkeys(address for found in self._addresses.values() for address in found))

    def add(self, name: str, addresses: Sequence[Address]) -> None:
        """Keep an announcement; where there are too many, another one goes, and nobody can tell which."""
        with self._lock:
            if addresses and name not in self._addresses and len(self._addresses) >= MAX_NEIGHBOURS:
                del self._addresses[LOTS.choice(list(self._addresses))]
            if addresses:
                self._addresses[name] = tuple(addresses)

    def remove(self, name: str) -> None:
        with self._lock:
            self._addresses.pop(name, None)


@asynccontextmanager
async def open_mdns(addresses: Sequence[Address] = ()) -> AsyncIterator[Neighbourhood]:
    """Announce these addresses and hear of others' for as long as the block lasts. They must not be loopback's.

    Without addresses we look, and are not seen: on all interfaces of this machine.

    Raises OSError where there is no network to announce or to look on.
    """
    neighbourhood = Neighbourhood()
    browsing = _Browsing(neighbourhood, trio.lowlevel.current_trio_token(), addresses)
    zeroconf = await trio.to_thread.run_sync(browsing.start)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_keep_asking, zeroconf)
            yield neighbourhood
            nursery.cancel_scope.cancel()
    finally:
        browsing.ended = True
        with trio.CancelScope(shield=True), trio.move_on_after(CLOSE_S):
            await trio.to_thread.run_sync(zeroconf.close, abandon_on_cancel=True)  # type: ignore[call-arg]  # old stubs


async def _keep_asking(zeroconf: Zeroconf) -> None:
    """Ask for those that came before us; those that come later say so by themselves."""
    for pause_s in chain(ASK_S, repeat(ASK_AGAIN_S)):
        now = current_time_millis()
        try:
            zeroconf.send(_question(zeroconf.cache.entries_with_name(SERVICE), now))
        except FAULTS as error:
            logger.info("the local network is not asked any more: %r", error)
            return
        await trio.sleep(pause_s)


def _question(known: Iterable[DNSRecord], now: float) -> DNSOutgoing:
    question = DNSOutgoing(const._FLAGS_QR_QUERY)
    question.add_question(DNSQuestion(SERVICE, const._TYPE_PTR, const._CLASS_IN))
    for record in [record for record in known if not record.is_stale(now)][:MAX_SAID]:
        question.add_answer_at_time(record, now)
    return question


class RecordListener(RecordUpdateListener):
    """Takes addresses out of records as they come, and out of the neighbourhood as they expire or are taken back."""

    def __init__(self, neighbourhood: Neighbourhood, own: str, told: Callable[[], None]) -> None:
        self._neighbourhood = neighbourhood
        self._own = own
        self._told = told

    def async_update_records(self, zc: Zeroconf, now: float, records: list[RecordUpdate]) -> None:
        for update in records:
            record = update.new
            if not isinstance(record, DNSText) or (name := neighbour_of(record)) is None or name == self._own:
                continue
            if record.is_expired(now):
                self._neighbourhood.remove(name)
            else:
                self._neighbourhood.add(name, decode_text(record.text))
        self._told()

    def async_update_records_complete(self) -> None:
        """All was said as it came."""


class _Browsing:
    """The part that runs in zeroconf's threads."""

    def __init__(
        self, neighbourhood: Neighbourhood, token: trio.lowlevel.TrioToken, addresses: Sequence[Address]
    ) -> None:
        self.ended = False
        self._neighbourhood = neighbourhood
        self._token = token
        self._addresses = addresses
        self._name = os.urandom(16).hex()  # the spec wants one that tells nothing

    def start(self) -> Zeroconf:
        """Raises OSError, for faults of zeroconf's own too: where it does not come up there is no mDNS, and no more."""
        try:
            return self._start()
        except FAULTS as error:
            raise OSError(f"zeroconf did not come up: {error!r}") from error

    def _start(self) -> Zeroconf:
        service, server = f"{self._name}.{SERVICE}", f"{self._name}.local."
        zeroconf = self._open(Shelf((service, server), self._neighbourhood.remove))
        try:
            zeroconf.add_listener(RecordListener(self._neighbourhood, service, self._tell), None)
            if self._addresses:
                zeroconf.register_service(
                    ServiceInfo(
                        SERVICE,
                        service,
                        port=4001,  # the spec's field, which nobody reads: the addresses have their own
                        properties=encode_text(self._addresses),
                        server=server,
                        addresses=[_packed(ip) for ip in self._ips()],
                    )
                )
        except BaseException:  # whatever it is: its threads would outlive us
            zeroconf.close()
            raise
        return zeroconf

    def _open(self, shelf: Shelf) -> BoundedZeroconf:
        ips = self._ips()
        if not ips:
            raise OSError("this machine has no address but loopback")
        try:
            return BoundedZeroconf(shelf, ips)
        except OSError:
            plain = [ip for ip in ips if ":" not in ip]
            if self._addresses or not plain or plain == ips:
                raise
            return BoundedZeroconf(shelf, plain)  # the machine has IPv6 addresses, and does not speak it

    def _ips(self) -> list[str]:
        if self._addresses:
            return sorted({str(ip_of(address)) for address in self._addresses})
        return [str(own.ip) for own in in_order(own_addresses()) if not own.ip.is_loopback]

    def _tell(self) -> None:
        """In our own thread, once for all that was heard meanwhile."""
        if not self.ended:
            with suppress(trio.RunFinishedError):  # the process ends
                self._token.run_sync_soon(self._neighbourhood.news.tell, idempotent=True)


def _packed(ip: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in ip else socket.AF_INET, ip)


def encode_text(addresses: Sequence[Address]) -> bytes:
    """Addresses as a TXT record has them: strings with their lengths before them."""
    strings = [FIELD + address.encode() for address in addresses]
    return b"".join(bytes([len(string)]) + string for string in strings if len(string) < 256)


def decode_text(text: bytes) -> list[Address]:
    """The addresses in a TXT record that may be dialled, of the first peers; whatever else is in it does not count."""
    found: list[Address] = []
    peers: set[PeerKey] = set()
    for one in _strings(text):
        if not may_dial(one, LOCAL) or (peer := leads_to(one)) is None:
            continue
        if peer in peers or len(peers) < NEIGHBOUR_PEERS:
            peers.add(peer)
            found.append(Address(one))
    return found[:MAX_ADDRESSES]


def _strings(text: bytes) -> Iterator[str]:
    while text:
        string, text = text[1 : 1 + text[0]], text[1 + text[0] :]
        if string.startswith(FIELD) and string.isascii():
            yield string[len(FIELD) :].decode("ascii")
