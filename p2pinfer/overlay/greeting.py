"""The first messages on a pipe, before it is a link: who we are, who the peer is, or why not (protocols/wire.md, 3)."""

from dataclasses import dataclass
from typing import Final

import trio

from p2pinfer.core.swarm.source import Source
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import LinkDead, RemoteProtocolError
from p2pinfer.core.wire.frames import FrameDecoder, encode_frame
from p2pinfer.core.wire.messages import MAX_BODY, VERSION, Goodbye, Hello, Message, cut_text
from p2pinfer.overlay.machine import Machine
from p2pinfer.overlay.pipe import Pipe

GOODBYE_S: Final = 1.0  # for the last message to leave, and the peer to close after it


@dataclass(frozen=True, slots=True)
class Greeting:
    """Our words of ourselves in every Hello.

    boot:     16 bytes, random for each start of the process
    machine:  has the time of day that we say
    features: of our Hellos
    """

    boot: bytes
    machine: Machine
    features: int = 0
    agent: str = "p2pinfer/0.1"

    def hello(self, to: Source) -> Hello:
        """Return our Hello to somebody whom we see there."""
        return Hello(VERSION, self.features, MAX_BODY, int(self.machine.clock() * 1000), self.boot, self.agent, to.key)


def new_greeting(machine: Machine | None = None, features: int = 0) -> Greeting:
    """Return the greeting of a process that starts now; on the real machine, if none is given."""
    machine = machine or Machine()
    return Greeting(machine.lots.randbytes(16), machine, features)


class FirstMessages:
    """The first messages on a pipe, before it is a link.

    ours:           what we say of ourselves
    taken:          a link owns the pipe now
    decoder:        holds what came after the first message
    sent, received: bytes so far
    """

    def __init__(self, pipe: Pipe, ours: Greeting) -> None:
        self.pipe = pipe
        self.ours = ours
        self.taken = False
        self.decoder = FrameDecoder()
        self.sent = 0
        self.received = 0

    async def say_hello(self) -> None:
        await self._say(self.ours.hello(self.pipe.source))

    async def _say(self, message: Message) -> None:
        frame = encode_frame(message)
        self.sent += len(frame)
        try:
            await self.pipe.write(frame)
        except trio.BrokenResourceError as error:
            raise LinkDead(f"the connection broke: {error}") from None

    async def refuse(self, code: Code, text: str = "") -> None:
        """Say goodbye, and wait for the peer to close: closing first could lose the goodbye."""
        try:
            await self._say(Goodbye(code, cut_text(text)))
            with trio.move_on_after(GOODBYE_S):
                while await self.pipe.read():
                    pass
        except (LinkDead, trio.BrokenResourceError):
            pass  # the peer is gone already

    async def first_message(self) -> Message:
        """Return the peer's first message.

        Raises:
            LinkDead: it says nothing and leaves.
            RemoteProtocolError: it is no message.
        """
        try:
            while (message := self.decoder.next_message()) is None:
                data = await self.pipe.read()
                if not data:
                    raise LinkDead("the connection ended before a Hello")
                self.received += len(data)
                self.decoder.feed(data)
        except trio.BrokenResourceError as error:
            raise LinkDead(f"the connection broke: {error}") from None
        return message


def checked_hello(message: Message) -> Hello:
    """The Hello of a peer we can talk to.

    Raises RemoteProtocolError for any other message, and for a version that is not ours.
    """
    if not isinstance(message, Hello):
        raise RemoteProtocolError(f"{type(message).__name__} before Hello", Code.BAD_STATE)
    if message.version != VERSION:
        raise RemoteProtocolError(f"version {message.version}, ours is {VERSION}", Code.BAD_VERSION)
    return message
