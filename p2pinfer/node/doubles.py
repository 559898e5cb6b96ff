"""Notices that another process uses this node's key; the one that came later ends, and both owners are told."""

import logging
from collections.abc import Callable

import trio

from p2pinfer.core.records.offer import Offer
from p2pinfer.core.swarm.doubles import is_double, is_elder, is_twin
from p2pinfer.core.values.errors import KeyInUse
from p2pinfer.disk.boots import Boots

logger = logging.getLogger(__name__)


class Doubling:
    """boots: our own starts. unix: the time of day"""

    def __init__(self, boots: Boots, unix: Callable[[], int]) -> None:
        self._boots = boots
        self._unix = unix
        self._began_s = trio.current_time()
        self._told: set[bytes] = set()
        self._is_later = trio.Event()
        self._who = ""

    def hear(self, offer: Offer) -> None:
        """Take an offer that our key signed, as somebody passed it on."""
        boots, running_s = self._boots, trio.current_time() - self._began_s
        is_twins = is_twin(offer, boots.boot, boots.made, boots.latest.get(offer.seq))
        if not is_twins and not is_double(offer, boots.boot, boots.past, self._unix(), running_s):
            return
        if is_elder(offer, boots.boot, boots.past, boots.made):
            self._is_later.set()
            self._who = (
                "and began as this one, before the machine was copied or set back"
                if is_twins
                else "and was there first"
            )
        elif offer.boot not in self._told:
            self._told.add(offer.boot)
            logger.error("another process was started with this node's key: %s", ADVICE)

    async def run(self) -> None:
        """Raises KeyInUse once another process has the older right to the key."""
        await self._is_later.wait()
        raise KeyInUse(f"another process runs with this node's key, {self._who}: {ADVICE}")


ADVICE = (
    "is this data folder a copy, restored or in an image of a machine? "
    "A machine of its own needs an identity of its own: name a new folder with --data"
)
