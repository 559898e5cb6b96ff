"""A link: our one long-lived framed connection to a peer (protocols/wire.md).

Its reader (`reader.py`) and its writer (`writer.py`) alone wait for the pipe, and they are cancelled only together with
the link: a cancelled operation loses the stream below. Callers put frames into queues and may be cancelled at any time.
Links are symmetric: nothing here depends on who dialled. The first messages, and which of two streams becomes the link,
are for `attempts.py` and `admission.py`; what session and call messages mean is for the receiver.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Final, Protocol

import trio

from p2pinfer.core.swarm.source import Source
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import LinkDead, RemoteProtocolError
from p2pinfer.core.values.keys import short_name
from p2pinfer.core.values.units import PeerKey
from p2pinfer.core.wire.frames import encode_frame
from p2pinfer.core.wire.messages import Ack, Goodbye, Hello, Message, Offers, Ping, Pong, cut_text, reason_given
from p2pinfer.core.wire.pace import Pace
from p2pinfer.core.wire.session_messages import SessionMessage
from p2pinfer.overlay.backlog import LinkBacklog
from p2pinfer.overlay.commons import Commons
from p2pinfer.overlay.contained import Contained, LinkEnds, outlasting
from p2pinfer.overlay.dues import Dues
from p2pinfer.overlay.greeting import GOODBYE_S, FirstMessages
from p2pinfer.overlay.limits import BACKLOG_BYTES
from p2pinfer.overlay.outbox import Outbox, Priority
from p2pinfer.overlay.pipe import ABORT_S, abort
from p2pinfer.overlay.pulse import PING_S, SILENT_PINGS, Pulse
from p2pinfer.overlay.reader import Reader
from p2pinfer.overlay.uplink import Lane
from p2pinfer.overlay.writer import Writer

LINGER_S: Final = GOODBYE_S + ABORT_S  # for what lives on after a cancellation
OWN: Final = frozenset((Hello, Ack, Ping, Pong, Goodbye))  # messages that are the link's own


class Receiver(Protocol):
    """The taker of what comes in on links. Synchronous, and never slow: it runs in the links' readers."""

    def on_link(self, link: "Link") -> None:
        """A link to `link.peer` is up, whoever dialled; nothing has come on it yet."""

    def on_message(self, link: "Link", message: Message) -> None:
        """A message came. Raising RemoteProtocolError ends the link with its code."""

    def on_closed(self, link: "Link", why: LinkDead) -> None:
        """The link is dead. Nothing more comes on it, and nothing can be sent."""

    def needed(self) -> Collection[PeerKey]:
        """The peers whose links something depends on; the others' may give way to newcomers."""


class Link:
    """One peer's link, from the exchange of Hellos to its end.

    Every call may be cancelled, and then has sent the whole message or nothing; the link is unharmed.
    """

    def __init__(
        self,
        greeting: FirstMessages,
        hello: Hello,
        receiver: Receiver,
        commons: Commons,
        address: str | None,
        rtt_s: float | None,
    ) -> None:
        pipe = greeting.pipe
        self.peer: PeerKey = pipe.peer
        self.source: Source = pipe.source
        self.address = address  # where we dialled it; None where it dialled us
        self.came_s = trio.current_time()
        self.hello = hello  # the peer's
        self.clock_offset_s = (
            hello.clock_ms / 1000 - greeting.ours.machine.clock()
        )  # the peer's less ours, within one latency
        self.closed = trio.Event()  # the pipe is gone, too
        self._pipe = pipe
        self._receiver = receiver
        self._turn = turn = commons.turn
        self._scope = trio.CancelScope()  # death ends it; a cancellation only after the goodbye
        self.contained = Contained(f"the link to {short_name(self.peer)}", self.fail)
        self._death: tuple[str, Code] | None = None
        # sending
        self._pace = Pace(greeting.sent)
        self._first_rtt_s = rtt_s  # of the Hellos, where we dialled
        self._backlog = commons.backlog
        self._weight = LinkBacklog(commons.backlog, self._end_too_heavy)
        self._lane = Lane(commons.uplink, pipe.source, self._pace, lambda: self._flush())
        self._outbox = Outbox(self._weight, self._lane.take)
        self._pulse = Pulse(trio.current_time())
        self._dues = Dues(greeting.received, self._pulse, lambda: turn.at_end(self._flush))
        ends = LinkEnds(self.contained, self._end, self.close)
        self._writer = Writer(pipe, self._outbox, self._lane, self._pace, self._dues.take, ends)
        self._flush = self._writer.flush  # kept, for it is named with every frame
        # receiving
        self._reader = Reader(greeting, commons, self._dues, self._weight, self._take, ends)

    @property
    def dialled(self) -> bool:
        """By us, that is."""
        return self.address is not None

    def __repr__(self) -> str:
        return f"<Link to {self.peer.hex()[:8]}, {self._death[1].label if self._death else 'alive'}>"

    @property
    def dead(self) -> LinkDead | None:
        """The reason why the link is dead, or None."""
        return None if self._death is None else LinkDead(*self._death)

    @property
    def rtt_s(self) -> float | None:
        """The least round trip seen lately; before the first pong that of the Hellos, or None where it is not known."""
        return self._pace.rtt_s if self._pace.rtt_s is not None else self._first_rtt_s

    @property
    def usual_rtt_s(self) -> float | None:
        """The median round trip seen lately, its waiting in queues included; None before the first pong."""
        return self._pace.usual_rtt_s

    @property
    def rate(self) -> float:
        """Bytes a second that reached the peer, as measured there; 0 while unknown."""
        return self._pace.rate

    def frame_budget(self) -> int:
        """Bytes of rows or file to put into one message: at most 5 ms of the measured rate."""
        return min(self._pace.frame_budget, self.hello.max_body)

    def has_room(self, priority: Priority) -> bool:
        """False while so much of a priority waits for the peer to take it that no more is queued at once."""
        return self._outbox.has_room(priority)

    async def send(self, message: Message, priority: Priority = Priority.CONTROL) -> None:
        """Queue the message; waits while too much of its priority waits already.

        Raises LinkDead if the link died before the message was queued.
        """
        await trio.lowlevel.checkpoint()
        while self._death is None and not self._outbox.has_room(priority):
            await self._outbox.wait_room(priority)
        self.send_nowait(message, priority)

    def send_nowait(self, message: Message, priority: Priority = Priority.CONTROL) -> None:
        """Queue the message at once; for messages whose number the protocol bounds.

        Raises LinkDead if the link is dead, or dies now because too much waits for a peer that does not take it.
        """
        if self._death is not None:
            raise LinkDead(*self._death)
        frame = encode_frame(message)  # which the peer takes, whatever it holds: MIN_BODY
        self._outbox.put(frame, priority)
        if type(message) is not Offers:
            self._writer.says = True
            if self._pulse.rests:
                self._pulse.note_said()
                self._note_use(message)
        if self._weight.size > BACKLOG_BYTES or self._backlog.is_over:
            self._end_the_heaviest()
        self._turn.at_end(self._flush)

    def _note_use(self, message: Message) -> None:
        """Ping sooner where a session begins to use the link, or goes on after a rest: a death shows soon."""
        if isinstance(message, SessionMessage):
            self._pulse.stir()

    def _end_the_heaviest(self) -> None:
        """Raises LinkDead if it is this one."""
        if self._weight.size > BACKLOG_BYTES:
            self._end_too_heavy()
        self._backlog.relieve()
        if self._death is not None:
            raise LinkDead(*self._death)

    def _end_too_heavy(self) -> None:
        self._end(f"{self._weight.size} bytes wait on the link, and do not move", Code.SILENT)

    def close(self, code: Code, text: str = "") -> None:
        """Say goodbye and end the link; of what is queued, control frames still leave. Again does nothing."""
        if self._death is not None:
            return
        self._writer.close(Goodbye(code, cut_text(text)))
        self._die(text or f"we closed the link: {code.label}", code)
        self._scope.deadline = trio.current_time() + GOODBYE_S

    @contextmanager
    def charged(self) -> Iterator[None]:
        """Work for the peer, done without waiting: its time counts as if reading had cost it."""
        self._pipe.meter.run()
        try:
            yield
        finally:
            self._pipe.meter.rest()

    def charge_look(self) -> None:
        """A look at our disk for the peer counts as if reading had cost it: to ask for one costs a hundredth."""
        self._pipe.meter.add_look()

    @property
    def heard_s(self) -> float:
        """The time when something came from the peer last, by the clock of the loop."""
        return self._pulse.heard_s

    async def check(self) -> bool:
        """True if the peer answers a ping in the time that pings to it take, however busy it is."""
        return await self._pulse.check(self._dues.ping, self.rtt_s) and self._death is None

    async def check_or_end(self) -> None:
        """End the link if it fails the check; one that is needed, twice: its peer may be busy."""
        for _ in range(2 if self._is_needed() else 1):
            if await self.check() or self._death is not None:
                return
        if self._pulse.was_unread:
            self._pulse.stir()  # its pong may lie there
        else:
            self._end("no answer after our addresses have changed", Code.SILENT)

    def stir(self) -> None:
        """Find out soon whether the peer is still there."""
        self._pulse.stir()

    async def run(self) -> None:
        """Carry messages until the link dies, or LINGER_S after a cancellation; its pipe is closed whatever happens.

        A fault of ours in it ends the link, and nothing else.
        """
        try:
            with self.contained:
                async with outlasting(self._scope, LINGER_S), trio.open_nursery() as nursery:
                    for task in (self._writer.run, self._reader.run, self._watch, self._dues.keep_acknowledging):
                        nursery.start_soon(task)
        finally:
            self._die("the link was cut", Code.LOST)
            self._reader.leave()
            await abort(self._pipe)
            self._weight.leave()
            self._outbox.clear()
            self.closed.set()

    def fail(self) -> None:
        """End the link for a fault of ours in what it belongs to."""
        self._reader.is_deaf = True
        self.close(Code.INTERNAL, "a fault of this peer's own")

    def _end(self, text: str, code: Code) -> None:
        """Die, and let go of the pipe at once."""
        self._die(text, code)
        self._scope.cancel()

    def _die(self, text: str, code: Code) -> None:
        """Fail everything that waits on the link."""
        if self._death is not None:
            return
        self._death = text, code
        self._writer.drop()
        self._pulse.pong_came.set()
        self._receiver.on_closed(self, LinkDead(text, code))

    def _take(self, message: Message) -> None:
        if type(message) not in OWN:  # nearly always
            if self._death is None:
                if type(message) is not Offers:
                    self._dues.ack_wanted.set()
                    if self._pulse.rests:
                        self._note_use(message)
                self._receiver.on_message(self, message)
            return
        match message:
            case Goodbye():
                why = farewell(message)
                self._end(str(why), why.code)
            case _ if self._death is not None:
                pass
            case Ack():
                self._pace.add_ack(message.received, message.at_us)
                if self._lane.parts:
                    self._lane.note_ack()
                if self._pulse.rests:
                    self._pulse.note_ack(awaits=self._writer.awaits_ack())
                self._turn.at_end(self._flush)
            case Ping():
                self._dues.answer(message)
            case Pong():
                self._pulse.note_pong(message.at_us)
                self._note_round_trip(max(0.0, trio.current_time() - message.at_us / 1e6))
            case _:
                raise RemoteProtocolError("a second Hello", Code.BAD_STATE)

    def _note_round_trip(self, rtt_s: float) -> None:
        if self._pace.rtt_s is not None and self._is_needed():
            self._lane.note_pong(rtt_s - self._pace.rtt_s)
        self._pace.add_round_trip(rtt_s)

    async def _watch(self) -> None:
        """End the link when the peer no longer answers."""
        await self._pulse.watch(self._dues.ping, self._is_needed, self._writer.awaits_ack)
        self._end(f"no answer to {SILENT_PINGS} pings in {SILENT_PINGS * PING_S:.0f} s", Code.SILENT)

    def _is_needed(self) -> bool:
        return self.peer in self._receiver.needed()


def farewell(goodbye: Goodbye) -> LinkDead:
    """Return what a peer's goodbye means to us."""
    code = Code.read(goodbye.code)
    return LinkDead(f"the peer closed the link: {reason_given(goodbye.text, goodbye.code)}", code)
