"""Closes that a client said of late, and says again where there is a new link (protocols/inference.md, 4.4).

A stage whose client's link broke keeps room and window for it for a while. Nobody knows whether a Close arrived that
was said when the link broke; and while there is none, none can be said at all.
"""

from collections import deque
from contextlib import suppress
from typing import Final

import trio

from p2pinfer.core.sessions.suspension import RETURN_S
from p2pinfer.core.values.errors import LinkDead
from p2pinfer.core.values.units import PeerKey
from p2pinfer.core.wire.session_messages import Close
from p2pinfer.overlay.link import Link

MAX_KEPT: Final = 256  # of all stages; who gives up more loses the oldest


class Farewells:
    """Of one client."""

    def __init__(self) -> None:
        self._kept: deque[tuple[float, PeerKey, Close]] = deque(maxlen=MAX_KEPT)  # until when, to whom

    def keep(self, peer: PeerKey, close: Close) -> None:
        """It is said to this stage now, if there is a link."""
        self._drop_old()
        self._kept.append((trio.current_time() + RETURN_S, peer, close))

    def greet(self, link: Link) -> None:
        """There is a new link. Should it break, too, they are said once more on the next one."""
        self._drop_old()
        with suppress(LinkDead):
            for _, peer, close in self._kept:
                if peer == link.peer:
                    link.send_nowait(close)

    def _drop_old(self) -> None:
        """A stage waits no longer than for RETURN_S."""
        now = trio.current_time()
        while self._kept and self._kept[0][0] <= now:
            self._kept.popleft()
