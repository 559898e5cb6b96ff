"""Sessions whose Open came and that are not open yet: few enough, and what overtakes them (protocols/wire.md, 7.1)."""

from dataclasses import dataclass
from math import inf

from p2pinfer.core.swarm.allowance import Allowance, Rate
from p2pinfer.core.swarm.source import Scope, Source
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.units import SessionId
from p2pinfer.core.wire.session_messages import Close, Open, SessionRefused
from p2pinfer.overlay.answers import BUSY_MS
from p2pinfer.overlay.limits import (
    ALL_OPENS_BURST,
    ALL_OPENS_RATE,
    KEY_OPENS_BURST,
    KEY_OPENS_RATE,
    MAX_OPENING,
    OPENING_S,
    OPENS_BURST,
    OPENS_RATE,
)
from p2pinfer.overlay.link import Link


@dataclass(slots=True)
class Opening:
    """close: its client has given it up since."""

    link: Link
    came_s: float
    close: Close | None = None


class Openings:
    """Of all links. Decides; no I/O."""

    def __init__(self) -> None:
        self._opens_of_keys = Allowance(Rate(KEY_OPENS_BURST, KEY_OPENS_RATE), Rate(inf, inf))
        self._opens = Allowance(Rate(OPENS_BURST, OPENS_RATE), Rate(ALL_OPENS_BURST, ALL_OPENS_RATE))
        self._opening: dict[SessionId, Opening] = {}  # in the order they came

    def note(self, link: Link, message: Open, now: float) -> SessionRefused | None:
        """An Open came; returns why it is refused, or None."""
        if message.session in self._opening:
            return _refused(message, Code.BAD_STATE, "the session is being opened already", 0)
        if not self._may_open(link, now):
            return _refused(message, Code.BUSY, "too many sessions are opened at once", BUSY_MS)
        while self._opening and (first := next(iter(self._opening))) is not None:
            if self._opening[first].came_s > now - OPENING_S and len(self._opening) < MAX_OPENING:
                break
            del self._opening[first]
        self._opening[message.session] = Opening(link, now)
        return None

    def note_close(self, link: Link, message: Close) -> None:
        """A Close that overtakes the opening of its session waits for it, and ends it."""
        opening = self._opening.get(message.session)
        if opening is not None and opening.link is link:
            opening.close = message

    def take(self, session: SessionId) -> Opening | None:
        """The session is open now."""
        return self._opening.pop(session, None)

    def _may_open(self, link: Link, now: float) -> bool:
        """A peer that asks for too much is told so before it uses up what all have."""
        key = Source(link.peer.hex(), Scope.PUBLIC)
        return self._opens_of_keys.take(key, now) and self._opens.take(link.source, now)


def _refused(message: Open, code: Code, text: str, retry_ms: int) -> SessionRefused:
    return SessionRefused(message.session, message.epoch, code, text, retry_ms)
