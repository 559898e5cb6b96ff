"""The peers that hold our layers and are there: found out by linking to them (protocols/offer.md, 4.1).

Offers of nodes that do not exist cost nothing. So only who answers counts, networks have turns, and who did not answer
comes last the next time: however many are made up, the others are found.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from math import inf
from typing import Final

import trio

from p2pinfer.core.records.offer import ServingState
from p2pinfer.core.swarm.offers import KnownOffer
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import Refused
from p2pinfer.core.values.units import PeerKey, Span
from p2pinfer.overlay.lots import drawn
from p2pinfer.overlay.network import Network
from p2pinfer.overlay.reach import REACH_S, reach

HOLDERS_S: Final = 3.0  # to link to holders of our layers; who has answered by then, and is far, has REACH_S
AT_ONCE: Final = 8  # of them
ENOUGH: Final = 2  # of each layer: one of them may go as we do
MAX_TRIED: Final = 64  # in one search


class Holders:
    """Those of one node's layers."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._absent: set[PeerKey] = set()

    async def meet(self, mine: Span, offers: Sequence[KnownOffer]) -> Collection[PeerKey]:
        """Link to nodes until each of our layers is held by enough that are there, and say which are."""
        held: Counter[int] = Counter()
        met: set[PeerKey] = set()
        dialled: set[PeerKey] = set()
        self._absent &= {known.node for known in offers}
        left = iter(self._order(mine, offers)[:MAX_TRIED])

        async def meet() -> None:
            for known in left:
                common = _common(known, mine)
                if all(held[layer] >= ENOUGH for layer in common):
                    continue
                is_new = known.node not in self._absent
                self._absent.add(known.node)
                dialled.add(known.node)
                try:
                    await reach(self._network, known.node, known.addresses, told_by=known.network)
                except Refused as refusal:
                    if refusal.code is Code.BUSY and is_new:  # nobody was dialled, which says nothing of it
                        self._absent.discard(known.node)
                    continue
                finally:
                    dialled.discard(known.node)
                self._absent.discard(known.node)
                met.add(known.node)
                held.update(common)

        async with trio.open_nursery() as timed:
            timed.start_soon(self._end_in_time, dialled, timed.cancel_scope)
            async with trio.open_nursery() as nursery:
                for _ in range(AT_ONCE):
                    nursery.start_soon(meet)
            timed.cancel_scope.cancel()
        return met

    async def _end_in_time(self, dialled: Collection[PeerKey], scope: trio.CancelScope) -> None:
        """Cancel it after HOLDERS_S; later, where the next step of somebody who is dialled is not due yet."""
        began = trio.current_time()
        until = began + HOLDERS_S
        while until > trio.current_time():
            await trio.sleep_until(until)
            until = min(began + REACH_S, max(map(self._network.due_s, dialled), default=-inf))
        scope.cancel()

    def _order(self, mine: Span, offers: Sequence[KnownOffer]) -> list[KnownOffer]:
        """Those that we are linked to, then in turn from each network, and at last those that did not answer before."""
        linked = {link.peer for link in self._network.links()}
        ours = [known for known in offers if holds(known, mine)]
        first = [known for known in ours if known.node in linked]
        new = [known for known in ours if known.node not in linked and known.node not in self._absent]
        old = [known for known in ours if known.node not in linked and known.node in self._absent]
        lots = self._network.machine.lots
        return [*first, *drawn(new, len(new), lots), *drawn(old, len(old), lots)]


def holds(known: KnownOffer, mine: Span) -> bool:
    """True if a node says that it serves some of our layers."""
    return known.offer.record.state == ServingState.SERVING and bool(_common(known, mine))


def _common(known: KnownOffer, mine: Span) -> range:
    span = known.offer.record.span
    return range(max(span.first, mine.first), min(span.last, mine.last))
