"""The places of one request among those who wait for room at nodes (protocols/inference.md, 7.2).

A node without room gives a ticket and says when to come back; it says so again when it is our turn, in the name of the
session that it refused. So news of a place may come when that session is long over.
"""

from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import trio

from p2pinfer.core.room.last_turns import TURN_S
from p2pinfer.core.room.queue import MAX_RETRY_S, MAX_TOLD_S, TURN_MS
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import LinkDead
from p2pinfer.core.values.keys import short_name
from p2pinfer.core.values.units import PeerKey, SessionId
from p2pinfer.core.wire.session_messages import Close, SessionRefused
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.outbox import Priority
from p2pinfer.overlay.pipe import hear_nothing

MISSED_S: Final = 3.0  # past the time that we were told, we ask ourselves: whose turn it is hears of it as a rule


@dataclass(frozen=True, slots=True)
class _Place:
    """A place at one node.

    session: the last that it refused
    before:  so many wait before us
    room_s:  when there may be room for us, monotonic
    again_s: when to ask again, likewise: a long wait is asked about meanwhile
    is_turn: the node keeps room for us for a moment
    """

    session: SessionId
    before: int
    room_s: float
    again_s: float
    is_turn: bool


class Places:
    """ticket:  goes with every Open of the request
    on_news: hears when a node may be asked again, monotonic; and whether it is our turn there, which is now
    """

    def __init__(self, ticket: bytes, on_news: Callable[[PeerKey, float, bool], None]) -> None:
        self.ticket = ticket
        self.sessions: set[SessionId] = set()  # of this request
        self._on_news = on_news
        self._places: dict[PeerKey, _Place] = {}

    def note(self, node: PeerKey, message: SessionRefused) -> None:
        """A node has no room, or has some now."""
        if message.ticket == self.ticket and message.retry_ms:
            now, told_s = trio.current_time(), message.retry_ms / 1000
            again_s = now + min(told_s, MAX_RETRY_S)
            is_turn = message.retry_ms == TURN_MS
            room_s = now + min(told_s, MAX_TOLD_S)
            self._places[node] = _Place(message.session, message.place, room_s, again_s, is_turn)
            self._on_news(node, again_s if is_turn else again_s + MISSED_S, is_turn)

    def has(self, node: PeerKey) -> bool:
        """We have a place there."""
        return node in self._places

    @property
    def has_turn(self) -> bool:
        """A node keeps room for us."""
        now = trio.current_time()
        return any(place.is_turn and now < place.again_s + TURN_S for place in self._places.values())

    def words(self, node: PeerKey) -> str:
        """For how many and how long we wait there."""
        if (place := self._places.get(node)) is None:
            return f"node {short_name(node)} is full"
        wait_s = max(0.0, place.room_s - trio.current_time())
        return f"node {short_name(node)} is full: {place.before} wait before you, some {wait_s:.0f} s"

    def give_back(self, link_to: Callable[[PeerKey], Link | None], used: Collection[bytes] = ()) -> None:
        """Say that we do not wait any more. used: nodes at which we have room"""
        for node, place in self._places.items():
            if node not in used and (link := link_to(node)) is not None:
                give_back(link, place.session)
        self._places.clear()
        self._on_news = hear_nothing  # nobody waits, and who did is held no longer


def give_back(link: Link, session: SessionId) -> None:
    """Give up the place that a node gave us as it refused this session."""
    if link.has_room(Priority.CONTROL):
        with suppress(LinkDead):
            link.send_nowait(Close(session, 0, Code.CANCELLED, 0, ""))
