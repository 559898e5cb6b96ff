"""The addresses where we can be dialled now: the owner's, or else the listeners', as the interfaces stand."""

import logging
from collections.abc import AsyncIterator, Callable, Iterable, Sequence

import trio

from p2pinfer.core.swarm.address import endpoint_of, may_tell
from p2pinfer.core.swarm.own_address import OwnAddress, in_order
from p2pinfer.core.swarm.source import IP, Source
from p2pinfer.overlay.libp2p.interfaces import changes, own_addresses
from p2pinfer.overlay.libp2p.tcp import host_of
from p2pinfer.overlay.pipe import Address

logger = logging.getLogger(__name__)


class Whereabouts:
    """Our addresses, which change while we run.

    name:      the peer's, which ends each of them
    places:    where listeners are; 0.0.0.0 and :: stand for all interfaces
    announced: what is told in place of those
    """

    def __init__(
        self,
        name: str,
        places: Sequence[tuple[IP, int]] = (),
        announced: Sequence[str] = (),
        look: Callable[[], Iterable[OwnAddress]] = own_addresses,
    ) -> None:
        self._suffix = f"/p2p/{name}"
        self._places = tuple(places)
        self._announced = [address.removesuffix(self._suffix) for address in announced]
        self._look = look
        self._moved = trio.Event()
        self._named = {ip for ip, _ in places if not ip.is_unspecified}
        self._seen: set[IP] = set()  # of those that were named: on some interface, ever
        self._listening: tuple[str, ...] = ()
        self._look_around()

    def addresses(self) -> tuple[Address, ...]:
        """All addresses at which we can be dialled, the most useful first, loopback last."""
        return tuple(Address(one + self._suffix) for one in self._announced or self._listening)

    def local(self) -> tuple[Address, ...]:
        """Those at which a local network may reach us."""
        beyond = (one for one in self._listening if (ends := endpoint_of(one)) and not ends[0].is_loopback)
        return tuple(Address(one + self._suffix) for one in beyond)

    def told(self, to: Source) -> tuple[Address, ...]:
        """Those that are of use to somebody there."""
        return tuple(one for one in self.addresses() if may_tell(one, to))

    def listening(self) -> tuple[str, ...]:
        """Return where the listeners are now."""
        return self._listening

    def is_ours(self, address: str) -> bool:
        """True for an address of our own, by whatever name."""
        endpoint = endpoint_of(address)
        return any(endpoint == endpoint_of(one) for one in (*self._announced, *self._listening))

    async def wait_moved(self) -> None:
        """Wait until some address has come or gone."""
        await self._moved.wait()

    async def follow(self, changing: Callable[[], AsyncIterator[None]] = changes) -> None:
        """Look again whenever something may have changed, until cancelled."""
        async for _ in changing():
            before = self._listening
            try:
                self._look_around()
            except OSError as error:  # they stand as they were
                logger.info("the interfaces cannot be looked at: %s", error)
            if before != self._listening:
                logger.info("the addresses here are now %s", ", ".join(self._listening) or "none")
                self._moved.set()
                self._moved = trio.Event()

    def _look_around(self) -> None:
        there = list(self._look()) if self._places else []
        ips = {one.ip for one in there}
        self._seen |= ips & self._named
        # What no interface ever had is the owner's word, as 127.0.0.2, at which one may listen all the same
        there += [OwnAddress(ip, ip.max_prefixlen) for ip in self._named if ip not in self._seen]
        found = ((one.ip, port) for one in in_order(there) for ip, port in self._places if _leads_to(one.ip, ip))
        self._listening = tuple(dict.fromkeys(f"/ip{ip.version}/{ip}/tcp/{port}" for ip, port in found))


def expected(listen: Sequence[str]) -> tuple[str, ...]:
    """Return where a peer that listens at these multiaddrs could be dialled, the most useful first; opens none."""
    places = [end for one in listen if (end := host_of(one)) is not None]
    return Whereabouts("", places).listening()


def _leads_to(ip: IP, place: IP) -> bool:
    """True if a listener at `place` takes what comes to `ip`."""
    return ip == place or (place.is_unspecified and ip.version == place.version)
