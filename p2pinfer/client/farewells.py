"""Closes that a client said of late, and says again where there is a new link (protocols/inference.md, 4.4).

A stage whose client's link broke keeps room and window for it for a while. Nobody knows whether a Close arrived that
was said when the link broke; and while there is none, none can be said at all.
"""

from contextlib import suppress
from typing import Final

import trio

from p2pinfer.core.sessions.suspension import RETURN_S
from p2pinfer.core.values.errors import LinkDead
from p2pinfer.core.values.units import PeerKey, SessionId
from p2pinfer.core.wire.session_messages import Close
from p2pinfer.overlay.link import Link

MAX_KEPT: Final = 256  # of all stages; who gives up more loses the oldest


class Farewells:
    """Of one client."""

    def __init__(self) -> None:
        self._kept: dict[tuple[PeerKey, SessionId], tuple[float, Close]] = {}  # until when; the oldest first

    def keep(self, peer: PeerKey, close: Close) -> None:
        """It is said to this stage now, if there is a link."""
        self._drop_old()
        self._kept.pop((peer, close.session), None)
        self._kept[peer, close.session] = trio.current_time() + RETURN_S, close
        if len(self._kept) > MAX_KEPT:
            del self._kept[next(iter(self._kept))]

    def greet(self, link: Link) -> None:
        """There is a new link. Should it break, too, they are said once more on the next one."""
        self._drop_old()
        with suppress(LinkDead):
            for (peer, _), (_, close) in self._kept.items():
                if peer == link.peer:
                    link.send_nowait(close)

    def _drop_old(self) -> None:
        """A stage waits no longer than for RETURN_S."""
        now = trio.current_time()
        for kept in [kept for kept, (until, _) in self._kept.items() if until <= now]:
            del self._kept[kept]
