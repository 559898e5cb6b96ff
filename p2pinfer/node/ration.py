"""The bytes of files that peers may have of a node in a day: the owner's limit, for lines that are paid by the byte.

A day begins when somebody asks first, and lasts 24 hours of a clock that does not jump. What is counted is noted ahead,
a piece at a time, so that no kill lets a peer have more.
"""

import logging
from collections import Counter
from functools import partial
from typing import Final

import trio

from p2pinfer.core.codes import Code
from p2pinfer.core.errors import Refused
from p2pinfer.disk.served import Served, ServedFile

DAY_S: Final = 86_400.0
MB: Final = 1_000_000
PIECE: Final = MB  # bytes that are noted at once; as many are lost to peers where the node ends before they are used
NETWORK_PART: Final = 4  # one network has one part in so many of a day's bytes
AGAIN_S: Final = 60.0  # until a note is tried again that the disk did not take

logger = logging.getLogger(__name__)


class Ration:
    """limit: bytes a day"""

    def __init__(self, limit: int, file: ServedFile) -> None:
        self._limit = limit
        self._file = file
        served = file.read() or Served(0, int(DAY_S))
        self._used = self._noted = served.size
        self._began_s = trio.current_time() - served.passed_s
        self._had: Counter[str] = Counter()  # by network, since this process began
        self._told = False  # the owner, that today's are used up
        self._failed_s: float | None = None  # when the disk did not take a note last
        self._noting = trio.Lock()
        self._writer = trio.CapacityLimiter(1)  # a write that hangs is over before the next begins

    def check(self, size: int, network: str) -> None:
        """Raises Refused (BUSY) where so many bytes are not left today, for this network or for anybody."""
        now = trio.current_time()
        if now - self._began_s >= DAY_S:
            self._used = self._noted = 0
            self._began_s, self._told = now, False
            self._had.clear()
        if self._used + size > self._limit:
            left_s = self._began_s + DAY_S - now
            self._tell(left_s)
            raise Refused("this peer hands out no more of files today", Code.BUSY, left_s)
        if self._had[network] + size > self._limit // NETWORK_PART:
            left_s = self._began_s + DAY_S - now
            raise Refused("this peer hands out no more of files to your network today", Code.BUSY, left_s)

    async def take(self, size: int, network: str) -> None:
        """Count bytes that a peer gets now.

        Raises Refused (BUSY) where they are not left, or cannot be counted.
        """
        self.check(size, network)
        self._used += size  # at once, for others ask meanwhile
        self._had[network] += size
        if self._used > self._noted:
            try:
                await self._note_ahead()
            except Refused:
                self._used -= size
                self._had[network] -= size
                raise

    async def _note_ahead(self) -> None:
        async with self._noting:
            if self._used > self._noted:
                await self._note(min(self._limit, self._used + PIECE))

    async def _note(self, size: int) -> None:
        now = trio.current_time()
        if self._failed_s is not None and now - self._failed_s < AGAIN_S:
            raise Refused("this peer cannot count what it hands out", Code.BUSY, AGAIN_S)
        began_s = self._began_s
        write = partial(self._file.write, Served(size, int(now - began_s)))
        try:
            await trio.to_thread.run_sync(write, abandon_on_cancel=True, limiter=self._writer)  # type: ignore[call-arg]  # old stubs
        except OSError as error:
            if self._failed_s is None:
                logger.warning("peers get no files, for what they get cannot be counted: %s", error.strerror)
            self._failed_s = now
            raise Refused("this peer cannot count what it hands out", Code.BUSY, AGAIN_S) from None
        self._failed_s = None
        if began_s == self._began_s:
            self._noted = size

    def _tell(self, left_s: float) -> None:
        if not self._told:
            self._told = True
            text = "peers have had the %d MB of files they may have a day (network.files_mb_per_day): more in %.0f h"
            logger.info(text, self._limit // MB, left_s / 3_600)
