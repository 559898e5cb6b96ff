"""Peers that were lost: dialled to see if they live, and what their silence says (protocols/wire.md, 6, "The dead").

A node that was linked to us and is gone is dialled once: only its own silence makes us stop passing its offer on. Where
nobody answers at all it may be our own network that is away: those whom we lost are dialled until somebody is there,
and then all once more.
"""

from collections.abc import Collection, Sequence
from math import inf
from typing import Final

import trio

from p2pinfer.core.swarm.offers import KnownOffer
from p2pinfer.core.swarm.source import site_of
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import Refused, TurnedAway
from p2pinfer.core.values.units import PeerKey
from p2pinfer.overlay.degree import LEAST_DEGREE
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.lots import drawn
from p2pinfer.overlay.network import Network
from p2pinfer.overlay.reach import reach
from p2pinfer.overlay.tidings import Tidings

AWAY_S: Final = 300.0  # before a peer that did not answer, or turned us away, is dialled again for its own sake
MAX_AWAY: Final = 1_024
LOOK_AROUND_S: Final = (
    5.0  # between looks for whom to dial, and dials of whom our limits, or our network, left undialled
)
MAX_SUSPECTS: Final = 64  # dialled at once to see if they live
NETWORK_SUSPECTS: Final = 4  # of them whose links led to one network: who has many keys would take all places


class Losses:
    """The peers that we lost, and those that we leave alone."""

    def __init__(self, network: Network, tidings: Tidings) -> None:
        self._network = network
        self._lots = network.machine.lots
        self._tidings = tidings
        self._away: dict[PeerKey, float] = {}  # until when a peer is left alone
        self._suspects: dict[PeerKey, KnownOffer] = {}
        self._doubted: dict[PeerKey, str | None] = {}  # suspects until they were dialled, and where their links led
        self._suspected = trio.Event()
        self._lost: dict[PeerKey, KnownOffer] = {}  # who did not answer last, to be dialled when we were cut off
        self._is_cut = False  # nobody answered while we had no link

    @property
    def away(self) -> Collection[PeerKey]:
        """The peers that are left alone now."""
        now = trio.current_time()
        self._away = {peer: until_s for peer, until_s in self._away.items() if until_s > now}
        return self._away.keys()

    def leave_alone(self, peer: PeerKey, for_s: float = AWAY_S) -> None:
        self._away.pop(peer, None)
        self._away[peer] = trio.current_time() + for_s
        if len(self._away) > MAX_AWAY:
            del self._away[next(iter(self._away))]

    async def dial(self, known: KnownOffer, addresses: Sequence[str]) -> bool | None:
        """False if the peer did not answer; None if it was not dialled, for too many are."""
        try:
            await reach(self._network, known.node, addresses, told_by=known.network)
        except TurnedAway:  # so it lives
            if self._network.links():
                self.leave_alone(known.node)
        except Refused as refusal:
            if refusal.code is Code.BUSY:  # nobody was dialled, which says nothing of it
                return None
            if any(link.peer == known.node for link in self._network.links()):
                return True  # it came to us meanwhile
            self._note_silence(known, was_tried=len(addresses) == len(known.addresses))
            return False
        self._lost.pop(known.node, None)
        return True

    def _note_silence(self, known: KnownOffer, *, was_tried: bool) -> None:
        """A peer did not answer. was_tried: at any of its addresses"""
        self._lost.pop(known.node, None)
        self._lost[known.node] = known
        if len(self._lost) > MAX_SUSPECTS:
            del self._lost[next(iter(self._lost))]
        if not self._network.links() and not self._is_cut:
            self._is_cut = True
            self._suspected.set()
        if was_tried:
            self._tidings.table.silence(known.node)

    def note_link(self) -> None:
        """Somebody is linked: if nobody was, that was our own fault as likely as theirs."""
        if self._is_cut:
            self._is_cut = False
            self._away.clear()
            self._suspects = {**self._lost, **self._suspects}
            self._lost = {}
            self._suspected.set()

    def suspect(self, link: Link) -> None:
        """A link broke: see soon if its peer lives."""
        known, network = self._tidings.table.get(link.peer), site_of(link.source).network
        if known is not None and self._has_room(network):
            self._doubted[link.peer] = network
            self._suspects[link.peer] = known
            self._suspected.set()

    def _has_room(self, network: str | None) -> bool:
        """True if one more suspect may be dialled, of those whose links led to a network."""
        same = sum(one == network for one in self._doubted.values())
        return len(self._doubted) < MAX_SUSPECTS and (network is None or same < NETWORK_SUSPECTS)

    async def keep_dialling(self) -> None:
        """Dial those whose links broke, until cancelled; the offer of one that does not answer is no offer any more.

        While nobody answers, some of them every LOOK_AROUND_S.
        """
        async with trio.open_nursery() as nursery:
            while True:
                with trio.move_on_after(LOOK_AROUND_S if self._is_cut else inf):
                    await self._suspected.wait()
                self._suspected = trio.Event()
                suspects, self._suspects = self._suspects, {}
                if self._is_cut and not suspects:
                    suspects = {one.node: one for one in drawn(self._lost.values(), LEAST_DEGREE, self._lots)}
                for known in suspects.values():
                    nursery.start_soon(self._dial_suspect, known)

    async def _dial_suspect(self, known: KnownOffer) -> None:
        """One that answers slowly holds no other. A silent peer is dialled again once a newer offer says that it lives.

        So those who fell apart from us are met as soon as we hear of them, though a stranger would be left alone.
        """
        try:
            while True:
                was_dialled = await self.dial(known, known.addresses) is not None
                if was_dialled or known.left_s(trio.current_time()) <= 0:
                    break
                await trio.sleep(LOOK_AROUND_S)
        finally:
            self._doubted.pop(known.node, None)
