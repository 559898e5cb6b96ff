"""Calls and sessions over links: who gets which message (protocols/wire.md, "Calls"; inference.md, 2).

A call is a question with one answer. A session is a channel between peers that agreed on its id: while it runs,
messages of it from anybody else end their link, and not the session. What the messages mean is for node and client.
"""

import logging
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf
from typing import Final, TypeVar

import trio

from p2pinfer.core.allowance import Allowance, Rate
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
    reason_given,
)
from p2pinfer.core.session_messages import Close, Forward, Open, SessionMessage, SessionRefused
from p2pinfer.core.skews import Skews
from p2pinfer.core.source import Scope, Source
from p2pinfer.core.units import PeerKey, SessionId
from p2pinfer.overlay.contained import Contained
from p2pinfer.overlay.early import EarlyRows
from p2pinfer.overlay.limits import (
    ALL_ASKS_BURST,
    ALL_ASKS_RATE,
    ALL_CALLS,
    ALL_OPENS_BURST,
    ALL_OPENS_RATE,
    ASKS_BURST,
    ASKS_RATE,
    KEY_OPENS_BURST,
    KEY_OPENS_RATE,
    MAX_BACKLOG,
    MAX_OPENING,
    NETWORK_CALLS,
    OPENING_S,
    OPENS_BURST,
    OPENS_RATE,
)
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.outbox import Priority
from p2pinfer.overlay.seats import Seats

CALL_S: Final = 5.0  # for an answer to a call
MAX_CALLS: Final = 16  # of one peer that we answer at once
BUSY_MS: Final = 1000  # until who asked too much may ask again

Ask = AskOffers | AskFile | AskContacts
Answer = Offers | FilePart | Contacts
Answering = Callable[[Link, Ask], Awaitable[Answer]]
Incoming = tuple[PeerKey, SessionMessage | LinkDead]
Take = Callable[[PeerKey, SessionMessage], None]

A = TypeVar("A", Offers, FilePart, Contacts)

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Call:
    link: Link
    done: trio.Event = field(default_factory=trio.Event)
    answer: Message | LinkDead | None = None


@dataclass(slots=True)
class _Opening:
    """A session whose Open came, and that is not open yet. close: its client has given it up since."""

    link: Link
    came_s: float
    close: Close | None = None


@dataclass(frozen=True, slots=True)
class _Session:
    peers: frozenset[PeerKey]
    send: trio.MemorySendChannel[Incoming]
    take: Take | None
    is_over: Callable[[], bool]
    rests: Callable[[], bool]
    meets: Callable[[Link], None]


class Exchange:
    """The `Receiver` of a network. Answers to calls run in `nursery`.

    Set before the network opens, where wanted:
    on_open:   takes an Open
    on_close:  takes a Close of a session that is not open here: its client may wait for room, and does not any more
    on_stray:  takes a session's message when the session is not open here, but for rows; receipts are settled so
    on_up:     hears of every link
    on_down:   hears of every link that is dead, and why
    on_offers: takes offers that nobody asked for: their node announces them
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self.on_open: Callable[[Link, Open], None] | None = None
        self.on_close: Callable[[Link, Close], None] | None = None
        self.on_stray: Callable[[Link, SessionMessage], None] | None = None
        self.on_up: Callable[[Link], None] | None = None
        self.on_down: Callable[[Link, LinkDead], None] | None = None
        self.on_offers: Callable[[Link, Offers], None] | None = None
        self._nursery = nursery
        self._answering: dict[type[Message], Answering] = {}
        self._seats = Seats(MAX_CALLS, NETWORK_CALLS, ALL_CALLS)
        self._file_seats = Seats(MAX_CALLS, NETWORK_CALLS, ALL_CALLS)  # disks are slow, and other answers do not wait
        self._opens_of_keys = Allowance(Rate(KEY_OPENS_BURST, KEY_OPENS_RATE), Rate(inf, inf))
        self._asks = Allowance(Rate(ASKS_BURST, ASKS_RATE), Rate(ALL_ASKS_BURST, ALL_ASKS_RATE))
        self._opens = Allowance(Rate(OPENS_BURST, OPENS_RATE), Rate(ALL_OPENS_BURST, ALL_OPENS_RATE))
        self._opening: dict[SessionId, _Opening] = {}  # in the order they came
        self._links: dict[PeerKey, Link] = {}  # the latest to each peer
        self._calls: dict[int, _Call] = {}
        self._last_call = 0
        self._sessions: dict[SessionId, _Session] = {}
        self._early = EarlyRows()
        self._skews = Skews()

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
            with trio.move_on_after(CALL_S):
                await link.send(ask(number))
                await call.done.wait()
        finally:
            del self._calls[number]
        match call.answer:
            case None:
                raise Refused(f"no answer within {CALL_S:.0f} s", Code.SILENT)
            case LinkDead() as why:
                raise why
            case CallRefused(code=code, text=text, retry_ms=retry_ms):
                raise Refused(reason_given(text, code), Code.read(code), retry_ms / 1000 or None)
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
        rests: Callable[[], bool] = lambda: False,
        meets: Callable[[Link], None] = lambda _link: None,
    ) -> Iterator[trio.MemoryReceiveChannel[Incoming]]:
        """Take the session's messages from these peers, and the death of links to them, while the block lasts.

        take: called with each message at once, in its link's reader, so that no task stands between; it raises nothing.
              Deaths come through the channel all the same, for a link may die while its session sends.
        is_over: what comes from others then was sent before they knew, and is dropped
        rests: nothing happens in it, so that it keeps no link that others ask for, and reading costs as of strangers
        meets: called with each new link to one of the peers; it raises nothing

        Raises Refused (BAD_STATE) where the session is open already.
        """
        if session in self._sessions:
            raise Refused("the session is open already", Code.BAD_STATE)
        # Buffered, since links wait for nobody; credit and MAX_BACKLOG bound the messages, and few links can die
        send, receive = trio.open_memory_channel[Incoming](inf)
        with send, receive:
            self._sessions[session] = opened = _Session(frozenset(peers), send, take, is_over, rests, meets)
            for peer in opened.peers & self._links.keys():
                self._links[peer].stir()  # who says nothing for long may be gone
            try:
                self._deliver_early(session, opened)
                yield receive
            finally:
                del self._sessions[session]

    def _deliver_early(self, session: SessionId, opened: _Session) -> None:
        for peer, rows in self._early.take(session, trio.current_time()):
            if peer in opened.peers:
                self._put(opened, peer, rows)
        opening = self._opening.pop(session, None)
        if opening is not None and opening.close is not None and opening.link.peer in opened.peers:
            self._put(opened, opening.link.peer, opening.close)

    @property
    def has_sessions(self) -> bool:
        """True while sessions are open."""
        return bool(self._sessions)

    # What links tell us

    def on_link(self, link: Link) -> None:
        self._links[link.peer] = link
        self._note_clock(link)
        for session in tuple(self._sessions.values()):
            if link.peer in session.peers:
                session.meets(link)
        if self.on_up is not None:
            self.on_up(link)

    def _note_clock(self, link: Link) -> None:
        """Processes of this machine have our clock, and say nothing of it."""
        if (network := link.source.network) is not None:
            skew_s = self._skews.note(network, link.clock_offset_s, trio.current_time())
            if skew_s is not None:
                text = (
                    "the clocks of most peers are %+.0f s from ours: until this machine's is set, contracts are refused"
                )
                logger.warning(text, skew_s)

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
        if self._links.get(link.peer) is link:
            del self._links[link.peer]
        self._early.forget(link.peer)
        for call in self._calls.values():
            if call.link is link and call.answer is None:
                call.answer = why
                call.done.set()
        for session in self._sessions.values():
            if link.peer in session.peers:
                self._put(session, link.peer, why)
        if self.on_down is not None:
            self.on_down(link, why)

    def engaged(self) -> Collection[PeerKey]:
        """Peers with whom anything is open, a session at rest among it: we end no link to them."""
        return {call.link.peer for call in self._calls.values()}.union(*(one.peers for one in self._sessions.values()))

    def needed(self) -> Collection[PeerKey]:
        running = (session for session in self._sessions.values() if not session.is_over() and not session.rests())
        return {call.link.peer for call in self._calls.values()}.union(*(session.peers for session in running))

    def _take_ask(self, link: Link, ask: Ask) -> None:
        if not link.has_room(Priority.CONTROL):
            return  # it asks and does not listen: refusals would wait there, too, before what we have to say
        answering = self._answering.get(type(ask))
        seats = self._file_seats if isinstance(ask, AskFile) else self._seats
        if answering is None:
            self._say(link, CallRefused(ask.call, Code.UNSUPPORTED, "this peer does not answer that", 0))
        elif isinstance(ask, AskFile) and not link.has_room(Priority.BULK):
            self._say(link, CallRefused(ask.call, Code.BUSY, "answers wait to be taken", BUSY_MS))
        elif not isinstance(ask, AskFile) and not self._asks.take(link.source, trio.current_time()):
            self._say(link, CallRefused(ask.call, Code.BUSY, "too many calls a second", BUSY_MS))
        elif not seats.take(link.peer, link.source):
            self._say(link, CallRefused(ask.call, Code.BUSY, "too many calls at once", BUSY_MS))
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
        self._say(link, answer, Priority.BULK if isinstance(answer, FilePart) else Priority.CONTROL)

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
            self._take_open(link, message)
        elif isinstance(message, Forward):  # a neighbour may be ready before us
            self._early.keep(link.peer, message, trio.current_time())
        else:
            if isinstance(message, Close):
                self._note_close(link, message)
                if self.on_close is not None:
                    self.on_close(link, message)
            if self.on_stray is not None:
                self.on_stray(link, message)

    def _take_open(self, link: Link, message: Open) -> None:
        if self.on_open is None:
            self._refuse(link, message, Code.UNSUPPORTED, "this peer takes no sessions", 0)
        elif message.session in self._opening:
            self._refuse(link, message, Code.BAD_STATE, "the session is being opened already", 0)
        elif not self._may_open(link):
            self._refuse(link, message, Code.BUSY, "too many sessions are opened at once", BUSY_MS)
        else:
            self._note_opening(link, message)
            self.on_open(link, message)

    def _may_open(self, link: Link) -> bool:
        """A peer that asks for too much is told so before it uses up what all have."""
        now, key = trio.current_time(), Source(link.peer.hex(), Scope.PUBLIC)
        return self._opens_of_keys.take(key, now) and self._opens.take(link.source, now)

    def _note_close(self, link: Link, message: Close) -> None:
        """A Close that overtakes the opening of its session waits for it, and ends it."""
        opening = self._opening.get(message.session)
        if opening is not None and opening.link is link:
            opening.close = message

    def _note_opening(self, link: Link, message: Open) -> None:
        now = trio.current_time()
        while self._opening and (first := next(iter(self._opening))) is not None:
            if self._opening[first].came_s > now - OPENING_S and len(self._opening) < MAX_OPENING:
                break
            del self._opening[first]
        self._opening[message.session] = _Opening(link, now)

    def _refuse(self, link: Link, message: Open, code: Code, text: str, retry_ms: int) -> None:
        self._say(link, SessionRefused(message.session, message.epoch, code, text, retry_ms))

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
    def _say(link: Link, message: Message, priority: Priority = Priority.CONTROL) -> None:
        try:
            link.send_nowait(message, priority)
        except LinkDead:
            return  # nobody waits for it any more
