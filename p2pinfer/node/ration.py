"""The bytes of files that peers may have of a node in a day: the owner's limit, for lines that are paid by the byte.

A day begins when somebody asks first, and lasts 24 hours of a clock that does not jump. What is counted is noted ahead,
a piece at a time, so that no kill lets a peer have more. Manifests and tokenizers, without which nobody can ask a model
anything, are handed out though others have had their fill of weights.
"""

import logging
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import trio

from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import Refused
from p2pinfer.disk.served import BytesServed, ServedFile

DAY_S: Final = 86_400.0
MB: Final = 1_000_000
PIECE: Final = MB  # bytes that are noted at once; as many are lost to peers where the node ends before they are used
NETWORK_PART: Final = 4  # one network has one part in so many of a day's bytes
WEIGHTS_PART: Final = 2  # and weights have one part in so many
AGAIN_S: Final = 60.0  # until a note is tried again that the disk did not take

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Day:
    """Bytes that were handed out, of them weights, and by network since this process began. noted: on disk"""

    began_s: float
    used: int = 0
    noted: int = 0
    weights: int = 0
    had: Counter[str] = field(default_factory=Counter)

    def count(self, size: int, network: str, weights: bool) -> None:
        self.used += size
        self.weights += size if weights else 0
        self.had[network] += size


class Ration:
    """limit: bytes a day"""

    def __init__(self, limit: int, file: ServedFile) -> None:
        self._limit = limit
        self._file = file
        served = file.read() or BytesServed(0, int(DAY_S))
        size, began_s = served.size, trio.current_time() - served.passed_s
        self._day = _Day(began_s, size, size, size)  # what they were of is not noted
        self._told = False  # the owner, that today's are used up
        self._failed_s: float | None = None  # when the disk did not take a note last
        self._noting = trio.Lock()
        self._writer = trio.CapacityLimiter(1)  # a write that hangs is over before the next begins

    def check(self, size: int, network: str, *, weights: bool) -> None:
        """Raises Refused (BUSY) where so many bytes are not left today, for this network, of weights, or at all."""
        now = trio.current_time()
        if now - self._day.began_s >= DAY_S:
            self._day, self._told = _Day(now), False
        day, left_s = self._day, self._day.began_s + DAY_S - now
        if day.used + size > self._limit:
            self._tell(left_s)
            raise Refused("this peer hands out no more of files today", Code.BUSY, left_s)
        if day.had[network] + size > self._limit // NETWORK_PART:
            raise Refused("this peer hands out no more of files to your network today", Code.BUSY, left_s)
        if weights and day.weights + size > self._limit // WEIGHTS_PART:
            raise Refused("this peer hands out no more of weights today", Code.BUSY, left_s)

    async def take(self, size: int, network: str, *, weights: bool) -> None:
        """Count bytes that a peer gets now.

        Raises Refused (BUSY) where they are not left, or cannot be counted.
        """
        self.check(size, network, weights=weights)
        day, is_noted = self._day, False
        day.count(size, network, weights)  # at once, for others ask meanwhile
        try:
            if day.used > day.noted:
                await self._note_ahead(day)
            is_noted = True
        finally:
            if not is_noted:  # nobody gets them, nor where whoever asks has given up
                day.count(-size, network, weights)

    async def _note_ahead(self, day: _Day) -> None:
        async with self._noting:
            if day.used > day.noted:
                await self._note(day, min(self._limit, day.used + PIECE))

    async def _note(self, day: _Day, size: int) -> None:
        now = trio.current_time()
        if self._failed_s is not None and now - self._failed_s < AGAIN_S:
            raise Refused("this peer cannot count what it hands out", Code.BUSY, AGAIN_S)
        write = partial(self._file.write, BytesServed(size, int(now - day.began_s)))
        try:
            await trio.to_thread.run_sync(write, abandon_on_cancel=True, limiter=self._writer)  # type: ignore[call-arg]  # old stubs
        except OSError as error:
            if self._failed_s is None:
                logger.warning("peers get no files, for what they get cannot be counted: %s", error.strerror)
            self._failed_s = now
            raise Refused("this peer cannot count what it hands out", Code.BUSY, AGAIN_S) from None
        self._failed_s = None
        day.noted = size

    def _tell(self, left_s: float) -> None:
        if not self._told:
            self._told = True
            text = "peers have had the %d MB of files they may have a day (network.files_mb_per_day): more in %.0f h"
            logger.info(text, self._limit // MB, left_s / 3_600)
