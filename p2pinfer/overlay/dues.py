"""The messages that a link owes by itself: acks, pings and pongs (protocols/wire.md, 3.2 to 3.4).

Each is kept in one place, so that no queue can be too full for it.
"""

from collections.abc import Callable
from typing import Final

import trio

from p2pinfer.core.wire.frames import encode_frame
from p2pinfer.core.wire.messages import Ack, Ping, Pong
from p2pinfer.overlay.pulse import Pulse

ACK_S: Final = 0.1  # after a message that is not acknowledged yet


class Dues:
    """Of one link.

    pulse:       the link's
    flush:       has what is due written at the end of the turn
    received:    bytes that came so far, the last of them at `received_s`; so many are acknowledged
    ack_wanted:  set by a message that is to be acknowledged
    """

    def __init__(self, received: int, pulse: Pulse, flush: Callable[[], None]) -> None:
        self.received = received
        self.received_s = trio.current_time()
        self.ack_wanted = trio.Event()
        self.acknowledged = received
        self.pulse = pulse
        self._flush = flush
        self._rode = trio.Event()  # an ack left with something else
        self._ack_due = False
        self._ping_due = False
        self._pong_due: int | None = None  # the peer's clock, to be returned

    def acknowledge(self) -> None:
        self._ack_due = True
        self._flush()

    def ping(self) -> None:
        self._ping_due = True
        self._flush()

    def answer(self, ping: Ping) -> None:
        self._pong_due = ping.at_us
        self._flush()

    def take(self) -> list[bytes]:
        """The frames of what is due, which is due no more."""
        frames = []
        if self._pong_due is not None:
            frames.append(encode_frame(Pong(self._pong_due)))
            self._pong_due = None
        if self._may_ride:
            self._ack_due = True
            self._rode.set()
        if self._ack_due:
            frames.append(encode_frame(Ack(self.received, _microseconds(self.received_s))))
            self._ack_due = False
            self.acknowledged = self.received
        if self._ping_due:
            ping = Ping(_microseconds(trio.current_time()))
            frames.append(encode_frame(ping))
            self.pulse.note_ping(ping.at_us)
            self._ping_due = False
        return frames

    @property
    def _may_ride(self) -> bool:
        """An ack is wanted, and the link rests: a question's leaves with the answer, and wakes nobody once more."""
        return self.pulse.rests and self.ack_wanted.is_set() and self.received > self.acknowledged

    async def keep_acknowledging(self) -> None:
        """Acknowledge the last bytes of a burst. Words of two idle peers ask for no ack, or the two would chatter."""
        while True:
            await self.ack_wanted.wait()
            with trio.move_on_after(ACK_S):
                await self._rode.wait()
            self.ack_wanted, self._rode = trio.Event(), trio.Event()
            if self.received > self.acknowledged:
                self.acknowledge()


def _microseconds(seconds: float) -> int:
    return int(seconds * 1e6)
