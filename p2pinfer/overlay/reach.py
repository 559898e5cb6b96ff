"""A link to a peer of which we know the key and some addresses."""

from collections.abc import Sequence
from typing import Final

import trio

from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import LinkDead, Refused, TurnedAway, Undialled
from p2pinfer.core.values.keys import short_name
from p2pinfer.core.values.units import PeerKey
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.network import Network
from p2pinfer.overlay.word import hearsay, word_of

REACH_S: Final = 8.0  # for all addresses together: three round trips of 2 s, and the last of 8 is dialled late


async def reach(
    network: Network,
    peer: PeerKey,
    addresses: Sequence[str],
    asker: Link | None = None,
    *,
    told_by: str | None = None,
) -> Link:
    """The live link to `peer`, or a new one at the first of its addresses that answers.

    asker:   who gave the addresses and is told of the outcome. What is there is none of its business: addresses that
             may not be dialled fail at once, and all others in the same words after the same time.
    told_by: as of `hearsay`, where nobody asks

    Raises Refused: UNREACHABLE, or BUSY after too many dials on others' word, and never because the peer is busy: it
    would have an asker blame us. Where nobody asks TurnedAway says that it is there.
    """
    if (link := network.link(peer)) is not None:
        return link
    word = hearsay(told_by) if asker is None else word_of(asker.source)
    if not network.dialable(peer, addresses, word.source):
        raise Refused(f"peer {short_name(peer)} cannot be reached: no address of it may be dialled", Code.UNREACHABLE)
    ends = trio.current_time() + REACH_S
    with trio.move_on_at(ends):
        try:
            return await network.reach(peer, addresses, word)
        except Undialled as error:
            raise Refused(str(error), Code.BUSY, 1.0) from None
        except LinkDead as error:
            if asker is None and error.code is Code.BUSY:
                text = f"peer {short_name(peer)} has no room for a link"
                raise TurnedAway(text, Code.UNREACHABLE) from None
        if asker is not None:
            await trio.sleep_until(ends)
    raise Refused(f"peer {short_name(peer)} cannot be reached", Code.UNREACHABLE)
