"""Rows that come before their session is open here: a neighbour may be ready first (protocols/wire.md, WIRE-14)."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from p2pinfer.core.values.units import PeerKey, SessionId
from p2pinfer.core.wire.session_messages import Forward
from p2pinfer.overlay.limits import ALL_EARLY, ALL_EARLY_BYTES

EARLY_S: Final = 2.0  # rows may come so long before their session is open here
MAX_EARLY: Final = 64  # messages with rows of one link that wait for their session
MAX_EARLY_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class _Early:
    peer: PeerKey
    message: Forward
    came_s: float


class EarlyRows:
    """Of all links. Rows of a session that is over are forgotten here, too."""

    def __init__(self) -> None:
        self._waiting: deque[_Early] = deque()  # in the order they came

    def keep(self, peer: PeerKey, message: Forward, now: float) -> None:
        """Keep a message if there is room for it, of its link and in all."""
        while self._waiting and self._waiting[0].came_s < now - EARLY_S:
            self._waiting.popleft()
        own = [early.message for early in self._waiting if early.peer == peer]
        size = len(message.rows)
        if (
            len(own) < MAX_EARLY
            and len(self._waiting) < ALL_EARLY
            and size + sum(len(one.rows) for one in own) <= MAX_EARLY_BYTES
            and size + sum(len(one.message.rows) for one in self._waiting) <= ALL_EARLY_BYTES
        ):
            self._waiting.append(_Early(peer, message, now))

    def take(self, session: SessionId, now: float) -> Iterator[tuple[PeerKey, Forward]]:
        """The messages that came for a session, and their senders; they wait no longer."""
        taken = [early for early in self._waiting if early.message.session == session]
        for early in taken:
            self._waiting.remove(early)
        return ((early.peer, early.message) for early in taken if early.came_s >= now - EARLY_S)

    def forget(self, peer: PeerKey) -> None:
        """The link to a peer is gone."""
        self._waiting = deque(early for early in self._waiting if early.peer != peer)
