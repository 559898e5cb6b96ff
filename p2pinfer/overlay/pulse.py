"""The pulse of a link: when to ping, and when to take its peer for gone (protocols/wire.md, 3.4).

Decides; `link.py` pings.

A ping is four writes of two machines and as many wake-ups. Where a session runs its peers' death is to be known within
seconds, so those links are pinged all the time; so are those on which what was said is not acknowledged. On all others
whatever comes shows that the peer lives, renewals of its offer most of all, and only who hears nothing for long asks.
"""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import trio

from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import RemoteProtocolError

PING_S: Final = 2.0  # a ping this often, where it matters
SILENT_PINGS: Final = 3  # so many without a pong, and the peer is gone; as many measure a new link
QUIET_S: Final = 30.0  # without a byte from the peer, before it is pinged; nodes renew their offers sooner
CHECK_S: Final = 1.0  # for a peer to prove that a link lives, beside two round trips, in
CHECK_PARTS: Final = 8  # parts, between which what has come is read
CHECK_UNMEASURED_S: Final = 5.0  # where no round trip is known yet


class Pulse:
    """Of one link, from its first ping on.

    heard_s:    when something came last
    pong_came:  is set by the next pong, or when the link dies
    was_unread: since the latest ping that is due, what came was left unread for a while
    """

    def __init__(self, now: float) -> None:
        self.heard_s = now
        self.pong_came = trio.Event()
        self.was_unread = False
        self._pings: deque[int] = deque()  # times of those that wait for their pong
        self._awaits_s: float | None = None  # since when what was said may not be acknowledged
        self._resting: trio.CancelScope | None = None
        self._is_stirred = False
        self._is_unread = False

    @property
    def rests(self) -> bool:
        """True while no ping is due for now: then the link has to tell of what is said."""
        return self._resting is not None

    def note_ping(self, at_us: int) -> None:
        self._pings.append(at_us)

    def note_pong(self, at_us: int) -> None:
        """Raises RemoteProtocolError where it answers no ping of ours."""
        if at_us not in self._pings:
            raise RemoteProtocolError("a pong of no ping of ours", Code.BAD_STATE)
        while self._pings.popleft() != at_us:
            pass  # of several pings the latest need be answered only
        self.pong_came.set()
        self.pong_came = trio.Event()

    @contextmanager
    def unread(self) -> Iterator[None]:
        """Leave unread meanwhile what comes; pongs may lie there, which is not held against the peer."""
        self._is_unread = self.was_unread = True
        try:
            yield
        finally:
            self._is_unread = False

    def note_said(self) -> None:
        """Something was said to the peer that it has to acknowledge."""
        if self._resting is not None and self._awaits_s is None:
            self._awaits_s = trio.current_time()
            self._resting.deadline = min(self._resting.deadline, self._awaits_s + PING_S)

    def note_ack(self, *, awaits: bool) -> None:
        """The peer has acknowledged what was said. awaits: something of it is left"""
        if self._resting is not None and not awaits:
            self._awaits_s = None
            self._resting.deadline = self.heard_s + QUIET_S

    def stir(self) -> None:
        """It begins to matter whether the peer lives: ping at once, unless that is done all the time."""
        self._is_stirred = True
        if self._resting is not None:
            self._resting.cancel()

    async def check(self, ping: Callable[[], None], rtt_s: float | None) -> bool:
        """True if `pong_came` in time. A stalled process of ours counts for one part of it at most."""
        pong_came = self.pong_came
        within_s = CHECK_UNMEASURED_S if rtt_s is None else CHECK_S + 2 * rtt_s
        ping()
        for _ in range(CHECK_PARTS):
            with trio.move_on_after(within_s / CHECK_PARTS):
                await pong_came.wait()
                break
        return pong_came.is_set()

    async def watch(self, ping: Callable[[], None], is_needed: Callable[[], bool], awaits: Callable[[], bool]) -> None:
        """Return when the peer is silent. A stalled process of ours counts as one ping at most.

        is_needed: True while it matters whether the peer lives
        awaits:    True while something that was said is not acknowledged
        """
        pings = unanswered = 0
        while unanswered < SILENT_PINGS:
            pong_came = self.pong_came
            self.was_unread = self._is_unread
            ping()
            pings += 1
            await trio.sleep(PING_S)
            if pong_came.is_set():
                unanswered = 0
            elif not self.was_unread:
                unanswered += 1
            if pong_came.is_set() and pings >= SILENT_PINGS and not is_needed():
                await self._rest(awaits)

    async def _rest(self, awaits: Callable[[], bool]) -> None:
        """Wait until a ping is due."""
        self._is_stirred = False
        while True:
            if not awaits():
                self._awaits_s = None
            elif self._awaits_s is None:
                self._awaits_s = trio.current_time()
            due_s = self.heard_s + QUIET_S
            if self._awaits_s is not None:
                due_s = min(due_s, self._awaits_s + PING_S)
            if self._is_stirred or due_s <= trio.current_time():
                return
            try:
                with trio.CancelScope(deadline=due_s) as self._resting:
                    await trio.sleep_forever()
            finally:
                self._resting = None
