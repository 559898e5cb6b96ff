"""Rows of a prompt on their way to the next stage: they wait for the link in a task of their own."""

from collections import deque
from collections.abc import Callable

import trio

from p2pinfer.core.values.errors import LinkDead
from p2pinfer.core.values.units import PeerKey
from p2pinfer.core.wire.session_messages import Forward
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.outbox import Priority


class PromptRows:
    """Of one session; bounded by its successor's credit."""

    def __init__(self, successor: PeerKey | None, link_to: Callable[[PeerKey], Link | None]) -> None:
        self._successor = successor
        self._link_to = link_to
        self._waiting: deque[Forward] = deque()
        self._came = trio.Event()

    def add(self, rows: Forward) -> None:
        """Send them after those that wait."""
        self._waiting.append(rows)
        self._came.set()

    async def run(self) -> None:
        """Send what is added, until cancelled."""
        while True:
            await self._came.wait()
            self._came = trio.Event()
            while self._waiting:
                await self._send(self._waiting.popleft())

    async def _send(self, rows: Forward) -> None:
        assert self._successor is not None
        if (link := self._link_to(self._successor)) is None:
            return  # we are told of its death as of a message
        for part in rows.split(link.frame_budget()):
            try:
                await link.send(part, Priority.PREFILL)
            except LinkDead:
                return
