"""Answers to the calls of others: so many at once, and so many a second (protocols/wire.md, WIRE-12)."""

from collections.abc import Awaitable, Callable
from typing import Final

import trio

from p2pinfer.core.swarm.allowance import Allowance, Rate
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import LinkDead, Refused
from p2pinfer.core.values.keys import short_name
from p2pinfer.core.wire.messages import AskFile, CallRefused, Contacts, FilePart, Message, Offers, cut_text
from p2pinfer.overlay.calls import CALL_S, Ask
from p2pinfer.overlay.contained import Contained
from p2pinfer.overlay.limits import ALL_ASKS_BURST, ALL_ASKS_RATE, ALL_CALLS, ASKS_BURST, ASKS_RATE, NETWORK_CALLS
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.outbox import Priority
from p2pinfer.overlay.seats import Seats

MAX_CALLS: Final = 16  # of one peer that we answer at once
BUSY_MS: Final = 1000  # until who asked too much may ask again

Answer = Offers | FilePart | Contacts
Answering = Callable[[Link, Ask], Awaitable[Answer]]


class Answers:
    """They are made in `nursery`."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._answering: dict[type[Message], Answering] = {}
        self._seats = Seats(MAX_CALLS, NETWORK_CALLS, ALL_CALLS)
        self._file_seats = Seats(MAX_CALLS, NETWORK_CALLS, ALL_CALLS)  # disks are slow, and other answers do not wait
        self._asks = Allowance(Rate(ASKS_BURST, ASKS_RATE), Rate(ALL_ASKS_BURST, ALL_ASKS_RATE))

    def answer(self, ask: type[Ask], answering: Answering) -> None:
        """Answer calls of a kind with `answering`, which raises Refused where it will not."""
        self._answering[ask] = answering

    def take(self, link: Link, ask: Ask) -> None:
        """A call came."""
        if not link.has_room(Priority.CONTROL):
            return  # it asks and does not listen: refusals would wait there, too, before what we have to say
        answering = self._answering.get(type(ask))
        seats = self._file_seats if isinstance(ask, AskFile) else self._seats
        if answering is None:
            say(link, CallRefused(ask.call, Code.UNSUPPORTED, "this peer does not answer that", 0))
        elif isinstance(ask, AskFile) and not link.has_room(Priority.BULK):
            say(link, CallRefused(ask.call, Code.BUSY, "answers wait to be taken", BUSY_MS))
        elif not isinstance(ask, AskFile) and not self._asks.take(link.source, trio.current_time()):
            say(link, CallRefused(ask.call, Code.BUSY, "too many calls a second", BUSY_MS))
        elif not seats.take(link.peer, link.source):
            say(link, CallRefused(ask.call, Code.BUSY, "too many calls at once", BUSY_MS))
        else:
            self._nursery.start_soon(self._answer, link, ask, answering, seats)

    async def _answer(self, link: Link, ask: Ask, answering: Answering, seats: Seats) -> None:
        """Answer a call. It holds its seat until there is an answer, and not until the asker takes it."""
        answer: Message = CallRefused(ask.call, Code.INTERNAL, "a fault of this peer's own", 0)
        try:
            with Contained(f"an answer to {short_name(link.peer)}"):
                answer = await self._answer_of(link, ask, answering)
        finally:
            seats.leave(link.peer, link.source)
        # There was room for a file's part when its call came: what was read, and counts for the asker, is sent
        say(link, answer, Priority.BULK if isinstance(answer, FilePart) else Priority.CONTROL)

    @staticmethod
    async def _answer_of(link: Link, ask: Ask, answering: Answering) -> Message:
        """The asker waits no longer than CALL_S, nor do we for a disk."""
        with trio.move_on_after(CALL_S):
            try:
                return await answering(link, ask)
            except Refused as refusal:
                retry_ms = round((refusal.retry_s or 0) * 1000)
                return CallRefused(ask.call, refusal.code, cut_text(str(refusal)), retry_ms)
        return CallRefused(ask.call, Code.BUSY, "an answer takes too long", BUSY_MS)


def say(link: Link, message: Message, priority: Priority = Priority.CONTROL) -> None:
    """Queue the message at once; where the link is dead, nobody waits for it any more."""
    try:
        link.send_nowait(message, priority)
    except LinkDead:
        return
