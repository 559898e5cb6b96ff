"""Notices that another process uses this node's key; the one that came later ends, and both owners are told."""

import logging
import time

import trio

from p2pinfer.core.doubles import is_double, is_elder
from p2pinfer.core.errors import KeyInUse
from p2pinfer.core.offer import Offer
from p2pinfer.disk.boots import Boots

logger = logging.getLogger(__name__)


class Doubling:
    """boots: our own starts."""

    def __init__(self, boots: Boots) -> None:
        self._boots = boots
        self._began_s = trio.current_time()
        self._told: set[bytes] = set()
        self._is_later = trio.Event()

    def hear(self, offer: Offer) -> None:
        """Take an offer that our key signed, as somebody passed it on."""
        boots = self._boots
        if not is_double(offer, boots.boot, boots.past, int(time.time()), trio.current_time() - self._began_s):
            return
        if is_elder(offer, boots.boot, boots.past, boots.made):
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
