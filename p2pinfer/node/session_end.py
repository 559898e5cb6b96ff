"""The end of a session of a node: all who are in it are told, and whoever waits for it is woken."""

from collections.abc import Callable
from contextlib import suppress

import trio

from p2pinfer.core.sessions.stage import StageSession
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import LinkDead
from p2pinfer.core.values.units import PeerKey
from p2pinfer.overlay.link import Link


class SessionEnd:
    """came:      set when the session has ended
    settled:   set when nobody waits for a receipt of it any more
    is_broken: by a fault of ours, which may be in the books: what is signed stays, and nothing more is proposed
    """

    def __init__(
        self, stage: StageSession, link_to: Callable[[PeerKey], Link | None], hear: Callable[[], None]
    ) -> None:
        """hear: called when it needs the engine no more"""
        self.came = trio.Event()
        self.settled = trio.Event()
        self.is_broken = False
        self._stage = stage
        self._link_to = link_to
        self._hear = hear

    def fail(self, code: Code, text: str) -> None:
        """End the session from our side, unless it has ended, and say so to everybody in it."""
        for send in self._stage.fail(code, text):
            if (link := self._link_to(send.to)) is not None:
                with suppress(LinkDead):  # it needs no words any more
                    link.send_nowait(send.message)

    def note(self) -> None:
        """It has ended, whoever ended it."""
        self.came.set()
        self._hear()

    def break_off(self) -> None:
        """End it after a fault of ours."""
        self.is_broken = True
        self.fail(Code.INTERNAL, "a fault of its own")
        self.settled.set()
        self.note()
