"""A node that nobody has dialled, and what it does about that (protocols/wire.md, 6, "Dialled by others").

Who dials first is linked to all whom it knows, and nobody else needs to dial it: whether it can be reached is known to
nobody then, and all that holds it in the swarm is what it was told itself. So it has a peer that it dialled turn their
link round: it ends the link with the word that it wants to be dialled.
"""

from collections.abc import Collection
from typing import Final

import trio

from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.units import PeerKey
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.lots import drawn_links
from p2pinfer.overlay.network import Network
from p2pinfer.overlay.pipe import Address

UNDIALLED_S: Final = 120.0, 3_600.0  # before a node that nobody has dialled asks for it: at first, and at most
REDIAL_S: Final = 10.0  # for a peer that was asked to dial; so long it is not dialled for a node's own sake


class Dialled:
    """Knows from how far away we were dialled where we are now; asks one peer after the other, ever more rarely.

    Who comes from this machine shows nothing to those beyond it, and who comes from the local network nothing to those
    beyond that.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._asked: dict[PeerKey, float] = {}  # until when it is waited for
        self._begin()

    def _begin(self) -> None:
        self._reach = 0  # the farthest `Scope` from which somebody dialled us; 0 while nobody did
        self._place: tuple[Address, ...] = self._network.addresses()
        self._wait_s = UNDIALLED_S[0]
        self._due_s = trio.current_time() + self._wait_s

    def note_link(self, link: Link) -> None:
        """Somebody is linked."""
        if not link.dialled:
            self._reach = max(self._reach, link.source.scope)

    @property
    def awaited(self) -> Collection[PeerKey]:
        """Peers that were asked to dial us just now."""
        now = trio.current_time()
        self._asked = {peer: until_s for peer, until_s in self._asked.items() if until_s > now}
        return self._asked.keys()

    def ask(self, needed: Collection[PeerKey]) -> None:
        """If it is time, have a peer dial us in place of its link. needed: peers whose links stay as they are"""
        if self._network.addresses() != self._place:
            self._begin()
        now, links, told = trio.current_time(), self._network.links(), self._network.told
        if now < self._due_s or len(links) < 2:
            return
        beyond = (one for one in links if one.dialled and one.source.scope > self._reach and told(one.source))
        for link in drawn_links((one for one in beyond if one.peer not in needed), 1, self._network.machine.lots):
            self._due_s, self._wait_s = now + self._wait_s, min(2 * self._wait_s, UNDIALLED_S[1])
            self._asked[link.peer] = now + REDIAL_S
            link.close(Code.REDIAL, "nobody has dialled this node yet: please do")
