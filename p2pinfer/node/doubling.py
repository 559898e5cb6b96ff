"""Notices that another process uses this node's key; the one that came later ends, and both owners are told."""

import logging
import time

import trio

from p2pinfer.core.doubles import is_double, is_elder
from p2pinfer.core.errors import KeyInUse
from p2pinfer.core.offer import Offer
from p2pinfer.node.offering import Offering

logger = logging.getLogger(__name__)


class Doubling:
    """offering: what we have announced; None as long as that is nothing."""

    def __init__(self, boot: bytes) -> None:
        self.offering: Offering | None = None
        self._boot = boot
        self._began_s = trio.current_time()
        self._told: set[bytes] = set()
        self._is_later = trio.Event()

    def hear(self, offer: Offer) -> None:
        """Take an offer that our key signed, as somebody passed it on."""
        if not is_double(offer, self._boot, int(time.time()), trio.current_time() - self._began_s):
            return
        if is_elder(offer, self._boot, self.offering.made if self.offering else 0):
            self._is_later.set()
        elif offer.boot not in self._told:
            self._told.add(offer.boot)
            logger.error("another process was started with this node's key: %s", ADVICE)

    async def run(self) -> None:
        """Raises KeyInUse once another process has the older right to the key."""
        await self._is_later.wait()
        raise KeyInUse(f"another process runs with this node's key, and was there first: {ADVICE}")


ADVICE = (
    "is this data folder a copy, restored or in an image of a machine? "
    "A machine of its own needs an identity of its own: name a new folder with --data"
)
