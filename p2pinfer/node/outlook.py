"""A node's view of its own reach: who can come, whom it met. It warns in the log, and leaves a note for `doctor`."""

import json
import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Final

import trio

from p2pinfer.core.swarm.address import endpoint_of
from p2pinfer.core.swarm.source import Scope, source_of
from p2pinfer.disk.atomic import write_atomic
from p2pinfer.disk.plain import read_small
from p2pinfer.node.settings import NetworkSettings as NetworkSettings
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.network import Network

LOOK_S: Final = 30.0  # after the start or a move, for somebody to come, and between looks for what changed
ROUTER_S: Final = 600.0  # behind a router for somebody to come through
NOTE_S: Final = 3_600.0  # the age of a note, at most
MAX_MET: Final = 1_000  # peers that are counted
MAX_SEEN: Final = 16  # networks at which they see us, of which each network names one
MAX_FILE: Final = 65_536  # bytes
ANYWHERE: Final = "/ip4/0.0.0.0/tcp/4001"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sight:
    """The network as a node sees it.

    addresses: where it can be dialled, as far as it knows, the most useful first
    met:       peers to which it had a link since its start
    came:      of them, those that dialled it
    seen:      networks at which peers from outside say that they see it, that of most tellers first
    at:        Unix seconds
    beyond:    of those that it met, those that are not on this machine
    outside:   those that came from the internet since its addresses are these
    """

    addresses: tuple[str, ...]
    met: int
    came: int
    seen: tuple[str, ...]
    at: int
    beyond: int = 0
    outside: int = 0

    @property
    def is_behind_router(self) -> bool:
        """Peers from outside see it elsewhere than where it is, as far as it knows."""
        ends = [end for one in self.addresses if (end := endpoint_of(one)) is not None]
        return bool(self.seen) and not any(source_of(str(ip)).key in self.seen for ip, _ in ends)

    @property
    def is_only_here(self) -> bool:
        """Nobody beyond this machine can dial it."""
        return all_here(self.addresses)


class Outlook:
    """Watches, for as long as `run` runs. path: where the note for `doctor` is"""

    def __init__(self, network: Network, settings: NetworkSettings, path: Path) -> None:
        self._network = network
        self._settings = settings
        self._path = path
        self._met: set[bytes] = set()
        self._came: set[bytes] = set()
        self._beyond: set[bytes] = set()
        self._outside: set[bytes] = set()
        self._seen: dict[str, str] = {}  # by the network that tells it: peers cost nothing
        self._place: tuple[str, ...] = network.addresses()
        self._since_s = trio.current_time()  # we are at this place
        self._warned_at: tuple[str, ...] | None = None  # once at a place is enough
        self._noted: Sight | None = None
        self._noted_s = 0.0

    def note(self, link: Link) -> None:
        """Somebody is linked to us."""
        _add(self._met, link)
        if not link.dialled:
            _add(self._came, link)
        if link.source.scope is not Scope.LOOPBACK:
            _add(self._beyond, link)
        self._note_outside(link)

    def _note_outside(self, link: Link) -> None:
        """Note what a link tells of the place where we are."""
        if link.source.scope is not Scope.PUBLIC:
            return
        if not link.dialled:
            _add(self._outside, link)
        seen, teller = _network(link.hello.seen), link.source.key
        if seen is not None and (teller in self._seen or len(self._seen) < MAX_MET):
            self._seen[teller] = seen

    async def run(self) -> None:
        """Warn where nobody can come, and note what changes, until cancelled."""
        try:
            while True:
                with trio.move_on_after(LOOK_S):
                    await self._network.wait_moved()
                self._look()
        finally:
            if self._noted is not None:  # who did not even look has less to say than the note that is there
                self._write(self._sight())

    def _look(self) -> None:
        now = trio.current_time()
        if self._network.addresses() != self._place:
            self._place, self._since_s = self._network.addresses(), now
            self._seen.clear()
            self._outside.clear()
        here_s = now - self._since_s
        if here_s >= LOOK_S:
            for link in self._network.links():  # one that outlived a move tells of this place, too
                self._note_outside(link)
        sight = self._sight()
        if self._noted is None or _has_news(self._noted, sight) or now >= self._noted_s + NOTE_S:
            self._noted, self._noted_s = sight, now
            self._write(sight)
        if here_s >= LOOK_S and self._warned_at != self._place:
            self._warn(sight, here_s)

    def _warn(self, sight: Sight, here_s: float) -> None:
        if why := out_of_reach(sight, self._settings, bool(self._network.links()), here_s):
            self._warned_at = self._place
            logger.warning("%s", why)

    def _sight(self) -> Sight:
        seen = tuple(network for network, _ in Counter(self._seen.values()).most_common(MAX_SEEN))
        counts = len(self._met), len(self._came)
        return Sight(self._place, *counts, seen, self._network.machine.unix(), len(self._beyond), len(self._outside))

    def _write(self, sight: Sight) -> None:
        try:
            write_atomic(self._path, json.dumps(asdict(sight)).encode(), 0o600)
        except OSError as error:  # the node needs it for nothing
            logger.info("cannot write %s: %s", self._path, error.strerror)


def _add(peers: set[bytes], link: Link) -> None:
    if len(peers) < MAX_MET:
        peers.add(link.peer)


def out_of_reach(sight: Sight, settings: NetworkSettings, has_links: bool, here_s: float) -> str:
    """The sentence for a node that others cannot reach, with what to do; empty for any other.

    has_links: somebody is linked to it now
    here_s:    seconds that it is where it is
    """
    if sight.is_only_here:
        return _only_here(sight, settings, has_links)
    if sight.is_behind_router and not sight.outside and here_s >= ROUTER_S:
        return _behind_router(sight)
    return ""


def _only_here(sight: Sight, settings: NetworkSettings, has_links: bool) -> str:
    """Of peers that are all on this machine, as in a trial, nobody wants to be reached from elsewhere."""
    if settings.listen and not all_here(settings.listen):
        return (
            "this machine has no network, so nobody beyond it can reach this node; nothing is to be changed for that: "
            "peers are told its addresses as soon as it has any"
        )
    where = f"it can be dialled at {', '.join(sight.addresses)} only" if sight.addresses else "it has no address"
    nobody = f"nobody beyond this machine can reach this node, so it earns nothing: {where}"
    if sight.beyond or not all_here(settings.bootstrap):
        return f"{nobody}, although it has peers on other machines; --listen {ANYWHERE} lets those in (network.listen)"
    if settings.bootstrap or has_links:
        return ""
    return (
        f"{nobody}, it knows nobody to meet, and nobody is there; --listen {ANYWHERE} lets other machines in "
        "(network.listen), and with it --bootstrap MULTIADDR joins the swarm of a node that is there "
        "(network.bootstrap)"
    )


def _behind_router(sight: Sight) -> str:
    seen = next((one for one in sight.seen if "/" not in one), "ADDRESS")
    kind = "ip6" if ":" in seen else "ip4"
    ports = [end[1] for one in sight.addresses if (end := endpoint_of(one)) is not None and not end[0].is_loopback]
    port = ports[0] if ports else 4001
    return (
        f"it seems that nobody from outside can reach this node: peers see it at {', '.join(sight.seen[:2])}, where a "
        "router or the host of a container stands before it, and nobody came through; have a TCP port forwarded from "
        f"there to port {port} here, and name it in the settings (p2pinfer node --config FILE): "
        f'network.announce = ["/{kind}/{seen}/tcp/{port}"]'
    )


def all_here(addresses: Iterable[str]) -> bool:
    """True if nobody but this machine reaches any of these; a port of 0 stands for any."""
    ends = (endpoint_of(f"{one.removesuffix('/0')}/1" if one.endswith("/tcp/0") else one) for one in addresses)
    return all(end is not None and end[0].is_loopback for end in ends)


def _network(text: str) -> str | None:
    """Return what a peer said, where it is a public network; None for anything else."""
    try:
        network = ip_network(text)
    except ValueError:
        return None
    return text if network.is_global and "%" not in text else None  # a zone is any text at all


def _has_news(old: Sight, new: Sight) -> bool:
    """Counts that go up wait for NOTE_S; the first one does not."""
    return _news(old) != _news(new)


def _news(sight: Sight) -> tuple[object, ...]:
    return sight.addresses, sight.met > 0, sight.came > 0, sight.beyond > 0, sight.outside > 0, set(sight.seen)


def last_sight(path: Path) -> Sight | None:
    """The note that a node left, or None."""
    try:
        fields = json.loads(read_small(path, MAX_FILE))
        addresses, seen = (tuple(map(str, fields[name])) for name in ("addresses", "seen"))
        met, came, at, beyond, outside = (int(fields[name]) for name in ("met", "came", "at", "beyond", "outside"))
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None  # it is a help, and no more
    return Sight(addresses, met, came, seen, at, beyond, outside)
