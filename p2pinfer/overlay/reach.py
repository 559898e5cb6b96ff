"""A link to a peer of which we know the key and some addresses."""

from collections.abc import Sequence
from typing import Final

import trio

from p2pinfer.core.codes import Code
from p2pinfer.core.errors import LinkDead, Refused, UsageError
from p2pinfer.core.keys import short_name
from p2pinfer.core.units import PeerKey
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.network import Network, peer_of

REACH_S: Final = 5.0  # for all addresses together


async def reach(network: Network, peer: PeerKey, addresses: Sequence[str]) -> Link:
    """The live link to `peer`, or a new one at the first of its addresses that answers.

    Raises Refused (UNREACHABLE).
    """
    if (link := network.link(peer)) is not None:
        return link
    with trio.move_on_after(REACH_S):
        for address in addresses:
            try:
                if peer_of(address) == peer:
                    return await network.dial(address)
            except (LinkDead, UsageError):
                continue  # another address may do
    where = ", ".join(addresses) or "any address"
    raise Refused(f"peer {short_name(peer)} cannot be reached at {where}", Code.UNREACHABLE)
