"""Calls and sessions over links: who gets which message (protocols/wire.md, "Calls"; inference.md, 2).

A call is a question with one answer. A session is a channel between peers that agreed on its id: while it runs,
messages of it from anybody else end their link, and not the session. What the messages mean is for node and client.
"""

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import inf
from typing import Final, TypeVar

import trio

from p2pinfer.core.codes import Code
from p2pinfer.core.errors import LinkDead, Refused, RemoteProtocolError, Stranger
from p2pinfer.core.keys import short_name
from p2pinfer.core.messages import (
    AskContacts,
    AskFile,
    AskOffers,
    CallRefused,
    Contacts,
    FilePart,
    Message,
    Offers,
    cut_text,
)
from p2pinfer.core.records import MAX_SKEW_S
from p2pinfer.core.session_messages import Forward, Open, SessionMessage
from p2pinfer.core.units import PeerKey, SessionId
from p2pinfer.overlay.contained import Contained
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.outbox import Priority

CALL_S: Final = 5.0  # for an answer to a call
MAX_CALLS: Final = 16  # of one peer that we answer at once
MAX_BACKLOG: Final = 4096  # messages of one session that wait for us; credit keeps honest peers far below
EARLY_S: Final = 2.0  # rows may come so long before their session is open here
MAX_EARLY: Final = 64  # messages with rows of one link that wait for their session
MAX_EARLY_BYTES: Final = 1 << 20

Ask = AskOffers | AskFile | AskContacts
Answer = Offers | FilePart | Contacts
Answering = Callable[[PeerKey, Ask], Awaitable[Answer]]
Incoming = tuple[PeerKey, SessionMessage | LinkDead]
Take = Callable[[PeerKey, SessionMessage], None]

A = TypeVar("A", Offers, FilePart, Contacts)

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Call:
    link: Link
    done: trio.Event = field(default_factory=trio.Event)
    answer: Message | LinkDead | None = None


@dataclass(frozen=True, slots=True)
class _Early:
    message: Forward
    arrived_s: float


@dataclass(frozen=True, slots=True)
class _Session:
    peers: frozenset[PeerKey]
    send: trio.MemorySendChannel[Incoming]
    take: Take | None
    is_over: Callable[[], bool]


class Exchange:
    """The `Receiver` of a network. Answers to calls run in `nursery`.

    Set before the network opens, where wanted:
    on_open:   takes an Open
    on_stray:  takes a session's message when the session is not open here, but for rows; receipts are settled so
    on_up:     hears of every link
    on_offers: takes offers that nobody asked for: their node announces them
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self.on_open: Callable[[Link, Open], None] | None = None
        self.on_stray: Callable[[Link, SessionMessage], None] | None = None
        self.on_up: Callable[[Link], None] | None = None
        self.on_offers: Callable[[Link, Offers], None] | None = None
        self._nursery = nursery
        self._answering: dict[type[Message], Answering] = {}
        self._answers_due: dict[PeerKey, int] = {}
        self._calls: dict[int, _Call] = {}
        self._last_call = 0
        self._sessions: dict[SessionId, _Session] = {}
        self._early: dict[PeerKey, deque[_Early]] = {}

    # Calls

    def answer(self, ask: type[Ask], answering: Answering) -> None:
        """Answer calls of a kind with `answering`, which raises Refused where it will not."""
        self._answering[ask] = answering

    async def call(self, link: Link, ask: Callable[[int], Ask], expected: type[A]) -> A:
        """Ask the peer of a link; `ask` makes the question, given the call's number.

        Raises:
            Refused: the peer will not answer, or has not within CALL_S (code SILENT).
            LinkDead: the link died meanwhile.
            RemoteProtocolError: it answered something else.
        """
        self._last_call = number = self._last_call % ((1 << 32) - 1) + 1
        self._calls[number] = call = _Call(link)
        try:
            await link.send(ask(number))
            with trio.move_on_after(CALL_S):
                await call.done.wait()
        finally:
            del self._calls[number]
        match call.answer:
            case None:
                raise Refused(f"no answer within {CALL_S:.0f} s", Code.SILENT)
            case LinkDead() as why:
                raise why
            case CallRefused(code=code, text=text, retry_ms=retry_ms):
                raise Refused(text, Code.read(code), retry_ms / 1000 or None)
            case answer if isinstance(answer, expected):
                return answer
            case answer:
                raise RemoteProtocolError(f"{type(answer).__name__} for an answer", Code.BAD_STATE)

    # Sessions

    @contextmanager
    def open_session(
        self,
        session: SessionId,
        peers: Collection[PeerKey],
        take: Take | None = None,
        is_over: Callable[[], bool] = lambda: False,
    ) -> Iterator[trio.MemoryReceiveChannel[Incoming]]:
        """Take the session's messages from these peers, and the death of links to them, while the block lasts.

        take: called with each message at once, in its link's reader, so that no task stands between; it raises nothing.
              Deaths come through the channel all the same, for a link may die while its session sends.
        is_over: what comes from others then was sent before they knew, and is dropped

        Raises Refused (BAD_STATE) where the session is open already.
        """
        if session in self._sessions:
            raise Refused("the session is open already", Code.BAD_STATE)
        # Buffered, since links wait for nobody; credit and MAX_BACKLOG bound the messages, and few links can die
        send, receive = trio.open_memory_channel[Incoming](inf)
        with send, receive:
            self._sessions[session] = opened = _Session(frozenset(peers), send, take, is_over)
            try:
                self._deliver_early(session, opened)
                yield receive
            finally:
                del self._sessions[session]

    def _deliver_early(self, session: SessionId, opened: _Session) -> None:
        latest = trio.current_time() - EARLY_S
        for peer in opened.peers:
            waiting = self._early.get(peer, deque())
            for early in [early for early in waiting if early.message.session == session]:
                waiting.remove(early)
                if early.arrived_s >= latest:
                    self._put(opened, peer, early.message)

    # What links tell us

    def on_link(self, link: Link) -> None:
        if abs(link.clock_offset_s) > MAX_SKEW_S:
            logger.warning(
                "the clock of a peer is %+.0f s from ours: contracts between the two will be refused until one is set",
                link.clock_offset_s,
            )
        if self.on_up is not None:
            self.on_up(link)

    def on_message(self, link: Link, message: Message) -> None:
        match message:
            case SessionMessage():  # nearly all
                self._take_session_message(link, message)
            case AskOffers() | AskFile() | AskContacts():
                self._take_ask(link, message)
            case Offers(call=0):
                if self.on_offers is not None:
                    self.on_offers(link, message)
            case Offers() | FilePart() | Contacts() | CallRefused():
                self._take_answer(link, message)
            case _:
                raise RemoteProtocolError(f"{type(message).__name__} on a link", Code.BAD_STATE)

    def on_closed(self, link: Link, why: LinkDead) -> None:
        self._early.pop(link.peer, None)
        for call in self._calls.values():
            if call.link is link and call.answer is None:
                call.answer = why
                call.done.set()
        for session in self._sessions.values():
            if link.peer in session.peers:
                self._put(session, link.peer, why)

    def needed(self) -> Collection[PeerKey]:
        sessions = (session.peers for session in self._sessions.values() if not session.is_over())
        return {call.link.peer for call in self._calls.values()}.union(*sessions)

    def _take_ask(self, link: Link, ask: Ask) -> None:
        answering = self._answering.get(type(ask))
        if answering is None:
            self._say(link, CallRefused(ask.call, Code.UNSUPPORTED, "this peer does not answer that", 0))
        elif self._answers_due.get(link.peer, 0) >= MAX_CALLS:
            self._say(link, CallRefused(ask.call, Code.BUSY, f"{MAX_CALLS} calls at once are enough", 1000))
        else:
            self._answers_due[link.peer] = self._answers_due.get(link.peer, 0) + 1
            self._nursery.start_soon(self._answer, link, ask, answering)

    async def _answer(self, link: Link, ask: Ask, answering: Answering) -> None:
        answer: Message = CallRefused(ask.call, Code.INTERNAL, "a fault of this peer's own", 0)
        try:
            with Contained(f"an answer to {short_name(link.peer)}"):
                answer = await self._answer_of(link, ask, answering)
        finally:
            self._answers_due[link.peer] -= 1
            if not self._answers_due[link.peer]:
                del self._answers_due[link.peer]
        try:
            await link.send(answer, Priority.BULK if isinstance(answer, FilePart) else Priority.CONTROL)
        except LinkDead:
            return  # nobody waits for it any more

    @staticmethod
    async def _answer_of(link: Link, ask: Ask, answering: Answering) -> Message:
        if isinstance(ask, AskFile):  # others wait behind a file's part: it is cut as rows are
            ask = replace(ask, limit=min(ask.limit, link.frame_budget()))
        try:
            return await answering(link.peer, ask)
        except Refused as refusal:
            retry_ms = round((refusal.retry_s or 0) * 1000)
            return CallRefused(ask.call, refusal.code, cut_text(str(refusal)), retry_ms)

    def _take_answer(self, link: Link, answer: Offers | FilePart | Contacts | CallRefused) -> None:
        call = self._calls.get(answer.call)
        if call is not None and call.link is link and call.answer is None:
            call.answer = answer
            call.done.set()
        # else it comes too late: the caller has given up

    def _take_session_message(self, link: Link, message: SessionMessage) -> None:
        session = self._sessions.get(message.session)
        if session is not None:
            if link.peer in session.peers:
                self._put(session, link.peer, message)
            elif not session.is_over():
                raise Stranger(f"{type(message).__name__} of a session of others", Code.BAD_STATE)
        elif isinstance(message, Open):
            if self.on_open is not None:
                self.on_open(link, message)
        elif isinstance(message, Forward):
            self._keep_early(link, message)
        elif self.on_stray is not None:
            self.on_stray(link, message)

    def _keep_early(self, link: Link, message: Forward) -> None:
        """A neighbour may be ready before us; what comes for a session that is over is forgotten here too."""
        now = trio.current_time()
        waiting = self._early.setdefault(link.peer, deque())
        while waiting and waiting[0].arrived_s < now - EARLY_S:
            waiting.popleft()
        size = sum(len(early.message.rows) for early in waiting) + len(message.rows)
        if len(waiting) < MAX_EARLY and size <= MAX_EARLY_BYTES:
            waiting.append(_Early(message, now))

    def _put(self, session: _Session, peer: PeerKey, item: SessionMessage | LinkDead) -> None:
        if session.take is not None and not isinstance(item, LinkDead):
            session.take(peer, item)
            return
        waiting = session.send.statistics().current_buffer_used
        if waiting >= MAX_BACKLOG and isinstance(item, SessionMessage):
            raise RemoteProtocolError(f"{waiting} messages wait in one session", Code.OVER_CREDIT)
        try:
            session.send.send_nowait((peer, item))
        except trio.BrokenResourceError:
            return  # it is being closed

    @staticmethod
    def _say(link: Link, message: Message) -> None:
        try:
            link.send_nowait(message)
        except LinkDead:
            return  # nobody waits for it any more
