"""Two processes with one key: machines made from one image, a data folder copied or restored elsewhere.

The evidence is an offer that the key signed, of another boot, made while this process runs. Nobody else can make one,
and one of an earlier process of ours is older than we are, or is one that we know of: a clock may have been set back
between two starts, and whoever kept an old offer could end us by it.

Contracts and receipts of the two never contradict each other, for each names one offer of one boot; but they cut each
other's links, and nobody earns.
"""

from collections.abc import Mapping
from typing import Final

from p2pinfer.core.offer import Offer, State

MARGIN_S: Final = 5  # clocks of two machines differ, and seconds are whole


def is_double(offer: Offer, boot: bytes, past: Mapping[bytes, int], now: int, running_s: float) -> bool:
    """True if another process made this offer of our key while we run.

    past:      our earlier boots, and the highest seq of their offers, but for those that said that the node leaves
    now:       wall clock, Unix seconds: the present one, so that it may have been wrong at our start
    running_s: since our start, monotonic
    """
    if offer.boot == boot or offer.seq <= past.get(offer.boot, 0) or offer.state is State.LEAVING:
        return False
    return -MARGIN_S <= now - offer.issued < running_s - MARGIN_S


def is_elder(offer: Offer, boot: bytes, made: int) -> bool:
    """True if the other process is the one that stays; made: offers that we made, as many as the time we run."""
    return (offer.seq, offer.boot) > (made, boot)
