"""A node's view of its own reach: who can come, whom it met. It warns in the log, and leaves a note for `doctor`."""

import json
import logging
import time
from collections import Counter
from dataclasses import asdict, dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Final

import trio

from p2pinfer.core.address import endpoint_of
from p2pinfer.core.source import Scope, source_of
from p2pinfer.disk.atomic import write_atomic
from p2pinfer.disk.plain import read_small
from p2pinfer.node.settings import Network as NetworkSettings
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.network import Network

LOOK_S: Final = 30.0  # after the start, for somebody to come, and between looks for what changed
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
    """

    addresses: tuple[str, ...]
    met: int
    came: int
    seen: tuple[str, ...]
    at: int

    @property
    def is_behind_router(self) -> bool:
        """Peers from outside see it elsewhere than where it is, as far as it knows."""
        ends = [end for one in self.addresses if (end := endpoint_of(one)) is not None]
        return bool(self.seen) and not any(source_of(str(ip)).key in self.seen for ip, _ in ends)

    @property
    def is_only_here(self) -> bool:
        """Nobody beyond this machine can dial it."""
        return all((end := endpoint_of(one)) is not None and end[0].is_loopback for one in self.addresses)


class Outlook:
    """Watches, for as long as `run` runs. path: where the note for `doctor` is"""

    def __init__(self, network: Network, settings: NetworkSettings, path: Path) -> None:
        self._network = network
        self._settings = settings
        self._path = path
        self._met: set[bytes] = set()
        self._came: set[bytes] = set()
        self._seen: dict[str, str] = {}  # by the network that tells it: peers cost nothing

    def note(self, link: Link) -> None:
        """Somebody is linked to us."""
        for peers in (self._met, *([] if link.dialled else [self._came])):
            if len(peers) < MAX_MET:
                peers.add(link.peer)
        seen, teller = _network(link.hello.seen), link.source.key
        if seen is None or link.source.scope is not Scope.PUBLIC:
            return
        if teller in self._seen or len(self._seen) < MAX_MET:
            self._seen[teller] = seen

    async def run(self) -> None:
        """Warn once where nobody can come, and note what changes, until cancelled."""
        await trio.sleep(LOOK_S)
        if why := lonely(self._sight(), self._settings):
            logger.warning("%s", why)
        noted: Sight | None = None
        while True:
            sight = self._sight()
            if noted is None or _has_news(noted, sight):
                noted = sight
                self._write(sight)
            with trio.move_on_after(LOOK_S):
                await self._network.wait_moved()

    def _sight(self) -> Sight:
        seen = tuple(network for network, _ in Counter(self._seen.values()).most_common(MAX_SEEN))
        return Sight(self._network.addresses(), len(self._met), len(self._came), seen, int(time.time()))

    def _write(self, sight: Sight) -> None:
        try:
            write_atomic(self._path, json.dumps(asdict(sight)).encode(), 0o600)
        except OSError as error:  # the node needs it for nothing
            logger.info("cannot write %s: %s", self._path, error.strerror)


def lonely(sight: Sight, settings: NetworkSettings) -> str:
    """The sentence for a node that nobody can reach and that goes to nobody; empty for any other."""
    if not sight.is_only_here or settings.bootstrap or sight.met:
        return ""
    where = f"it can be dialled at {', '.join(sight.addresses)} only" if sight.addresses else "it has no address"
    return (
        f"nobody beyond this machine can reach this node, so it earns nothing: {where}, it knows nobody to meet, and "
        f"nobody came; --listen {ANYWHERE} lets other machines in (network.listen), --bootstrap MULTIADDR joins the "
        "swarm of a node that is there (network.bootstrap)"
    )


def _network(text: str) -> str | None:
    """What a peer said, where it is a public network; None for anything else."""
    try:
        network = ip_network(text)
    except ValueError:
        return None
    return text if network.is_global and "%" not in text else None  # a zone is any text at all


def _has_news(old: Sight, new: Sight) -> bool:
    """Counts that go up are worth no write; the first one is."""
    return _news(old) != _news(new)


def _news(sight: Sight) -> tuple[object, ...]:
    return sight.addresses, sight.met > 0, sight.came > 0, set(sight.seen)


def last_sight(path: Path) -> Sight | None:
    """The note that a node left, or None."""
    try:
        fields = json.loads(read_small(path, MAX_FILE))
        addresses, seen = (tuple(map(str, fields[name])) for name in ("addresses", "seen"))
        sight = Sight(addresses, int(fields["met"]), int(fields["came"]), seen, int(fields["at"]))
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None  # it is a help, and no more
    return sight
