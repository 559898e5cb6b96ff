"""The client of a session of a node: on which link it hears us, and its return (protocols/inference.md, 4.4).

A client whose link breaks may come back: until then, or until time is up, the session is suspended. Nothing is said to
it meanwhile, on another link neither: it may lack something that was said on the link before, and has to say how far
it is.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress

from p2pinfer.core.sessions.stage import StageSession
from p2pinfer.core.values.codes import ANSWERS, Code
from p2pinfer.core.values.errors import LinkDead
from p2pinfer.core.values.units import PeerKey
from p2pinfer.core.wire.session_messages import Propose, SessionMessage, Stored
from p2pinfer.node.session_deadlines import SessionDeadlines
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.outbox import Priority


class SessionClient:
    """is_lost: it does not come back, and what it has not signed is settled at next contact"""

    def __init__(
        self, stage: StageSession, link_to: Callable[[PeerKey], Link | None], deadlines: SessionDeadlines
    ) -> None:
        self.is_lost = False
        self._stage = stage
        self._key = stage.terms.client
        self._link_to = link_to
        self._deadlines = deadlines
        self._link: Link | None = None  # on which it hears us, if it is still the one that there is

    def begin(self) -> None:
        """The session begins, on the link that there is."""
        self._link = self._link_to(self._key)

    def say(self, message: SessionMessage, priority: Priority = Priority.CONTROL) -> None:
        """Say it to a client that is there."""
        link = self._link_to(self._key)
        if link is None or (link is not self._link and not isinstance(message, Stored)):
            return
        with suppress(LinkDead):  # we are told of its death as of a message
            link.send_nowait(message, priority)

    def propose_elsewhere(self, proposals: Iterable[Propose]) -> None:
        """Propose on its other link, if it has one and did not come back on it: this is its next contact."""
        link = self._link_to(self._key)
        if link is None or link is self._link:
            return
        with suppress(LinkDead):
            for proposal in proposals:
                link.send_nowait(proposal)

    def lose(self, *, may_return: bool) -> bool:
        """A link to it died; return False where it does not come back.

        may_return: as the link broke, and by its part in the session
        """
        if self._is_reached:
            return True  # it came back before we were told
        return may_return and self._stage.reason in (Code.NONE, *ANSWERS) and self._suspend()

    def meet(self, link: Link) -> bool:
        """There is a new link to it; return False where it started anew, and has no session to come back to."""
        if self._link is None:
            return True
        if link.hello.boot != self._link.hello.boot:
            return False
        if self._deadlines.awaits_client:
            self._deadlines.hasten()
        return True

    def take_back(self) -> bool:
        """It says that it is back, perhaps before we know that its link broke. False where it was away for too long."""
        if self._is_reached:
            return True
        self._link = self._link_to(self._key)
        return self._suspend()

    def go_on(self) -> bool:
        """Return True if it came back just now: the session goes on where the link broke."""
        if not self._deadlines.awaits_client or self._stage.is_suspended:
            return False
        self._deadlines.go_on()
        return True

    @property
    def _is_reached(self) -> bool:
        link = self._link_to(self._key)
        return link is not None and link is self._link

    def _suspend(self) -> bool:
        self._stage.suspend()
        return self._deadlines.suspend(hasten=self._link_to(self._key) is not None)
