"""Recall: a node dials acquaintances of which it hears nothing any more, seldom, whatever links there are.

The swarm may have fallen apart, and every peer that all knew be gone: then nobody here can tell of the other part.
"""

from math import inf
from random import Random

import trio

from p2pinfer.core.values.units import PeerKey
from p2pinfer.overlay.book import KeptBook
from p2pinfer.overlay.directory import Directory
from p2pinfer.overlay.leads import Leads
from p2pinfer.overlay.meeting import APART_S


async def keep_recalling(lots: Random, directory: Directory, book: KeptBook, leads: Leads) -> None:
    """Dial one at a time of those neither linked nor on offer, in turn, until cancelled; first who was there last."""
    recalled: dict[PeerKey, float] = {}  # when
    while True:
        await trio.sleep(lots.uniform(*APART_S))
        met = await book.leads()
        on_offer = {known.node for known in directory.offers()}
        unheard = {lead.peer: recalled.get(lead.peer, -inf) for lead in met if lead.peer not in on_offer}
        fresh = [lead for lead in met if lead.peer in unheard and leads.is_fresh(lead)]
        if fresh:
            lead = min(fresh, key=lambda one: unheard[one.peer])
            recalled = unheard | {lead.peer: trio.current_time()}
            await leads.follow(lead)
