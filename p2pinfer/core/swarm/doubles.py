"""Two processes with one key: machines made from one image, a data folder copied or restored elsewhere.

The evidence is an offer that the key signed, of another boot, made while this process runs. Nobody else can make one,
and one of an earlier process of ours is older than we are, or is one that we know of: a clock may have been set back
between two starts, and whoever kept an old offer could end us by it.

A machine that was copied while it ran, or set back to a snapshot, makes two of one boot. They count on from one number,
so an offer of our own boot is another's if we made none of its number, or one that says something else. Neither was
there first, and both end.

Contracts and receipts of two boots never contradict each other, for each names one offer of one boot; but they cut each
other's links, and nobody earns.
"""

from collections.abc import Mapping
from typing import Final

from p2pinfer.core.records.offer import Offer, ServingState
from p2pinfer.core.records.records import MAX_SKEW_S

TOGETHER: Final = 6  # offers after which equal numbers mean that both started at once; before, a renewal may be due


def is_double(offer: Offer, boot: bytes, past: Mapping[bytes, int], now: int, running_s: float) -> bool:
    """True if another process made this offer of our key while we run.

    past:      our earlier boots, and the highest seq of their offers; one more may have said that the node leaves
    now:       wall clock, Unix seconds: the present one, so that it may have been wrong at our start
    running_s: since our start, monotonic
    """
    last = past.get(offer.boot, -1) + (offer.state == ServingState.LEAVING)
    if offer.boot == boot or offer.seq <= last:
        return False
    return -MAX_SKEW_S <= now - offer.issued < running_s - 1  # seconds are whole


def is_twin(offer: Offer, boot: bytes, made: int, own: Offer | None) -> bool:
    """True if another process of our own boot made this offer of our key.

    made: offers that we made
    own:  ours of that number, None where it is not remembered
    """
    return offer.boot == boot and (offer.seq > made or (own is not None and own != offer))


def is_elder(offer: Offer, boot: bytes, past: Mapping[bytes, int], made: int) -> bool:
    """True if the other process is the one that stays.

    made: offers that we made, as many as the time we run
    """
    if offer.state == ServingState.LEAVING:
        return False
    if offer.boot == boot or offer.boot in past:  # our folder is a copy of its, made while it ran
        return True
    return offer.seq > made or (offer.seq == made > TOGETHER and offer.boot > boot)
