"""Calls and sessions over links: who gets which message (protocols/wire.md, "Calls"; inference.md, 2).

A call is a question with one answer (`calls.py`, `answers.py`). A session is a channel between peers that agreed on its
id (`openings.py`): while it runs, messages of it from anybody else end their link, and not the session. Node and client
know what messages mean.
"""

import logging
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf

import trio

from p2pinfer.core.swarm.skews import Skews
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import LinkDead, Refused, RemoteProtocolError, Stranger
from p2pinfer.core.values.units import PeerKey, SessionId
from p2pinfer.core.wire.messages import (
    AskContacts,
    AskFile,
    AskOffers,
    CallRefused,
    Contacts,
    FilePart,
    Message,
    Offers,
)
from p2pinfer.core.wire.session_messages import Close, Forward, Open, SessionMessage, SessionRefused
from p2pinfer.overlay.answers import Answering, Answers, say
from p2pinfer.overlay.calls import A, Ask, Calls
from p2pinfer.overlay.early import EarlyRows
from p2pinfer.overlay.limits import MAX_BACKLOG
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.openings import Openings
from p2pinfer.overlay.pipe import hear_nothing

Incoming = tuple[PeerKey, SessionMessage | LinkDead]
Take = Callable[[PeerKey, SessionMessage], None]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Host:
    take: Callable[[Link, Open], None]
    give_up: Callable[[Link, Close], None]


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

    greeters: hear of every link, in this order
    mourners: hear of every link that is dead, and why
    strays:   hear of a session's messages when it is not open here, but for rows; receipts are settled so
    hearers:  take offers that nobody asked for: their node announces them
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self.greeters: list[Callable[[Link], None]] = []
        self.mourners: list[Callable[[Link, LinkDead], None]] = []
        self.strays: list[Callable[[Link, SessionMessage], None]] = []
        self.hearers: list[Callable[[Link, Offers], None]] = []
        self._host: _Host | None = None
        self._calls = Calls()
        self._answers = Answers(nursery)
        self._openings = Openings()
        self._links: dict[PeerKey, Link] = {}  # the latest to each peer
        self._sessions: dict[SessionId, _Session] = {}
        self._early = EarlyRows()
        self._skews = Skews()

    # Calls

    def answer(self, ask: type[Ask], answering: Answering) -> None:
        """As of `Answers`."""
        self._answers.answer(ask, answering)

    async def call(self, link: Link, ask: Callable[[int], Ask], expected: type[A]) -> A:
        """As of `Calls`."""
        return await self._calls.call(link, ask, expected)

    # Sessions

    @contextmanager
    def hosted_by(
        self, take: Callable[[Link, Open], None], give_up: Callable[[Link, Close], None] = hear_nothing
    ) -> Iterator[None]:
        """Have `take` take Opens while the block lasts, in place of whoever does around it.

        give_up: hears a Close of a session that is not open here: its client may wait for room, and does not any more
        """
        around, self._host = self._host, _Host(take, give_up)
        try:
            yield
        finally:
            self._host = around

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
        opening = self._openings.take(session)
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
        for greet in self.greeters:
            greet(link)

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
                self._answers.take(link, message)
            case Offers(call=0):
                for hear in self.hearers:
                    hear(link, message)
            case Offers() | FilePart() | Contacts() | CallRefused():
                self._calls.take_answer(link, message)
            case _:
                raise RemoteProtocolError(f"{type(message).__name__} on a link", Code.BAD_STATE)

    def on_closed(self, link: Link, why: LinkDead) -> None:
        if self._links.get(link.peer) is link:
            del self._links[link.peer]
        self._early.forget(link.peer)
        self._calls.fail(link, why)
        for session in self._sessions.values():
            if link.peer in session.peers:
                self._put(session, link.peer, why)
        for mourn in self.mourners:
            mourn(link, why)

    def engaged(self) -> Collection[PeerKey]:
        """Peers with whom anything is open, a session at rest among it: we end no link to them."""
        return self._calls.peers.union(*(session.peers for session in self._sessions.values()))

    def needed(self) -> Collection[PeerKey]:
        running = (session for session in self._sessions.values() if not session.is_over() and not session.rests())
        return self._calls.peers.union(*(session.peers for session in running))

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
                self._openings.note_close(link, message)
                if self._host is not None:
                    self._host.give_up(link, message)
            for take in self.strays:
                take(link, message)

    def _take_open(self, link: Link, message: Open) -> None:
        if self._host is None:
            text = "this peer takes no sessions"
            say(link, SessionRefused(message.session, message.epoch, Code.UNSUPPORTED, text, 0))
        elif (refusal := self._openings.note(link, message, trio.current_time())) is not None:
            say(link, refusal)
        else:
            self._host.take(link, message)

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
