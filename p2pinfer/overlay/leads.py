"""Leads: peers that may be there, as a file or the local network has it. They are dialled, and asked what is on offer.

What is read and heard are addresses; the link's handshake proves who is there. A peer that was tried is left alone for
a while, whatever else leads to it.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Final

import trio

from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import LinkDead, Refused, TurnedAway, UsageError
from p2pinfer.core.values.keys import short_name
from p2pinfer.core.values.units import PeerKey
from p2pinfer.overlay.directory import Directory
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.network import Network
from p2pinfer.overlay.pipe import leads_to
from p2pinfer.overlay.reach import reach
from p2pinfer.overlay.word import CHECKED

AGAIN_S: Final = 60.0  # before a peer that was tried is tried again
ALONE_AGAIN_S: Final = 5.0  # the same, while nobody is linked: it may be our own network that was away
HERE_S: Final = 1.0  # and a node of this machine, which may just have started again

HERE: Final = "as a node of this machine"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Lead:
    """A peer, where it may be, and how we know."""

    how: str
    peer: PeerKey
    addresses: Sequence[str]


def to_leads(how: str, addresses: Iterable[str]) -> list[Lead]:
    """One for each peer that addresses lead to."""
    by_peer: dict[PeerKey, list[str]] = defaultdict(list)
    for address in addresses:
        if (peer := leads_to(address)) is not None:
            by_peer[peer].append(address)
    return [Lead(how, peer, found) for peer, found in by_peer.items()]


class Leads:
    """Follows leads, and knows who was tried when. note_failed: hears who is not there."""

    def __init__(self, network: Network, directory: Directory, note_failed: Callable[[PeerKey], None]) -> None:
        self._network = network
        self._directory = directory
        self._note_failed = note_failed
        self._tried: dict[PeerKey, float] = {}  # when

    def is_fresh(self, lead: Lead) -> bool:
        """It leads to a peer that is not linked and was not tried lately."""
        known = lead.peer == self._network.key or any(link.peer == lead.peer for link in self._network.links())
        pause_s = HERE_S if lead.how is HERE else AGAIN_S if self._network.links() else ALONE_AGAIN_S
        return not known and self.tried_s(lead) + pause_s <= trio.current_time()

    def tried_s(self, lead: Lead) -> float:
        """Return when its peer was tried; -inf if it was not, or long ago."""
        return self._tried.get(lead.peer, -inf)

    def forget(self) -> None:
        """We are elsewhere: everybody may be tried again."""
        self._tried.clear()

    async def follow(self, lead: Lead) -> bool:
        """Link to the peer and ask it; False if it is not there."""
        now = trio.current_time()
        self._tried = {peer: at for peer, at in self._tried.items() if at + AGAIN_S > now} | {lead.peer: now}
        try:
            link = await self._reach(lead)
        except (LinkDead, Refused, UsageError) as error:
            logger.info("a peer known %s is not there: %s", lead.how, error)
            if isinstance(error, Refused) and error.code is Code.BUSY:  # nobody was dialled
                self._tried.pop(lead.peer, None)
            elif not isinstance(error, TurnedAway):
                self._note_failed(lead.peer)
            return False
        logger.info("met %s, known %s", short_name(lead.peer), lead.how)
        await self._directory.ask(link)
        return True

    async def _reach(self, lead: Lead) -> Link:
        if self._network.dialable(lead.peer, lead.addresses, CHECKED) or not lead.addresses:
            return await reach(self._network, lead.peer, lead.addresses, told_by="")
        return await self._network.dial(lead.addresses[0])  # a name, which a person dialled from here
