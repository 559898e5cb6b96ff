"""The speed of a link, and the bytes that may be under way on it (protocols/wire.md, 5).

Sockets queue whatever they are given, up to 600 ms of a slow uplink, and a decode frame then waits behind all of it.
So a sender keeps no more unacknowledged than the link carries in one round trip and 10 ms. Pure: times are arguments;
what is sent, and when, is for `overlay/writer.py`.
"""

from collections import deque
from statistics import median
from typing import Final

from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import RemoteProtocolError

QUEUE_S: Final = 0.010  # what may wait in the path's queues beside what is in flight
FRAME_S: Final = 0.005  # time on the wire of the longest frame that others may have to wait behind
MIN_WINDOW: Final = 64 * 1024  # bytes; an unmeasured link starts here, and 10 Mbit/s carries it in 52 ms
MIN_FRAME: Final = 16 * 1024  # bytes; below it the cost per frame tells
LONGEST_FRAME: Final = 1024 * 1024  # bytes; a longer frame gains nothing
ACK_BYTES: Final = 16 * 1024  # a receiver acknowledges at least this often
SAMPLE_S: Final = 0.020  # a shorter measurement is of the receiver's buffers, not of the path
RATES_KEPT: Final = 8  # the greatest of the latest rates counts: one lull does not slow the link
ROUND_TRIPS_KEPT: Final = 16  # the least of the latest counts: the path without its queues


class Pace:
    """One direction of one link: what was sent, what was acknowledged, and how fast."""

    def __init__(self, sent: int = 0) -> None:
        self.sent = sent  # bytes since the link began
        self.acknowledged = 0
        self.rate = 0.0  # bytes a second that arrived, measured by the receiver's clock; 0 while unknown
        self.rtt_s: float | None = None  # the least round trip seen lately; None before the first
        self._rates: deque[float] = deque(maxlen=RATES_KEPT)
        self._round_trips_s: deque[float] = deque(maxlen=ROUND_TRIPS_KEPT)
        self._mark: tuple[int, int] | None = None  # bytes and receiver's clock (us) where the sample began

    @property
    def usual_rtt_s(self) -> float | None:
        """The median round trip seen lately, queues included; None before the first."""
        return median(self._round_trips_s) if self._round_trips_s else None

    @property
    def unacknowledged(self) -> int:
        return self.sent - self.acknowledged

    @property
    def window(self) -> int:
        """Bytes that may be unacknowledged. Some of them have arrived, and their ack is not yet due."""
        return max(MIN_WINDOW, int(self.rate * ((self.rtt_s or 0.0) + QUEUE_S)) + ACK_BYTES)

    @property
    def frame_budget(self) -> int:
        """Bytes of the longest frame that should be sent."""
        return min(LONGEST_FRAME, max(MIN_FRAME, int(self.rate * FRAME_S)))

    def add_sent(self, size: int) -> None:
        self.sent += size

    def add_round_trip(self, rtt_s: float) -> None:
        self._round_trips_s.append(rtt_s)
        self.rtt_s = min(self._round_trips_s)

    def add_ack(self, received: int, at_us: int) -> None:
        """Take the peer's word for what has arrived, and when.

        Raises RemoteProtocolError for bytes that were never sent, or fewer than before.
        """
        if not self.acknowledged <= received <= self.sent:
            message = f"ack of {received} bytes after {self.acknowledged}, {self.sent} were sent"
            raise RemoteProtocolError(message, Code.BAD_STATE)
        self.acknowledged = received
        if self._mark is None:
            self._mark = received, at_us
            return
        elapsed_s = (at_us - self._mark[1]) / 1e6
        if elapsed_s < SAMPLE_S:
            return
        rate = (received - self._mark[0]) / elapsed_s
        self._mark = received, at_us
        # A sample with nothing left under way measures our own supply: it may raise the rate, never lower it
        if self.unacknowledged > MIN_FRAME or rate > self.rate:
            self._rates.append(rate)
            self.rate = max(self._rates)
