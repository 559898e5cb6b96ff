"""Peers that open a pipe to us: each says Hello, and becomes a link or hears why not (protocols/wire.md, 4.1).

`links.py` says which link gives way where there is no room.
"""

from typing import Final

import trio

from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import LinkDead, RemoteProtocolError
from p2pinfer.core.values.keys import short_name
from p2pinfer.core.wire.messages import Hello
from p2pinfer.overlay.attempts import Attempts
from p2pinfer.overlay.contained import Contained
from p2pinfer.overlay.crowd import Crowd
from p2pinfer.overlay.greeting import GOODBYE_S, FirstMessages, Greeting, checked_hello
from p2pinfer.overlay.limits import MAX_HANDSHAKES, NETWORK_HANDSHAKES
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.links import Links
from p2pinfer.overlay.pipe import Ground, Pipe, abort

GREET_S: Final = 10.0  # for a peer that opened a pipe to say Hello


class Admission:
    """Of whoever opens a pipe on the ground, to the links there are."""

    def __init__(self, ground: Ground, links: Links, attempts: Attempts, greeting: Greeting) -> None:
        self._ground = ground
        self._links = links
        self._attempts = attempts
        self._greeting = greeting
        self._greeted = Crowd(NETWORK_HANDSHAKES, MAX_HANDSHAKES)

    async def accept_all(self, nursery: trio.Nursery) -> None:
        """Greet everybody who opens a pipe to us, each in a task of its own."""
        while True:
            nursery.start_soon(self._accept, await self._ground.accept())

    async def _accept(self, pipe: Pipe) -> None:
        greeting, before = FirstMessages(pipe, self._greeting), self._links.held(pipe.peer)
        try:
            with Contained(f"a greeting by {short_name(pipe.peer)}"), self._greeted.entered(pipe.source):
                await self._greet(greeting, before)
        finally:
            if not greeting.taken:
                await abort(pipe)

    async def _greet(self, greeting: FirstMessages, before: Link | None) -> None:
        try:
            with trio.move_on_after(GREET_S):
                hello = checked_hello(await greeting.first_message())
                if refusal := await self._refusal(greeting.pipe, hello, before):
                    await greeting.refuse(refusal)
                    return
                with self._attempts.accepting(greeting.pipe.peer):
                    await greeting.say_hello()
                    self._links.start(greeting, hello)
        except RemoteProtocolError as error:
            with trio.move_on_after(GOODBYE_S):
                await greeting.refuse(error.code, str(error))
        except LinkDead:
            pass  # it left before there was a link; nobody waits for one

    async def _refusal(self, pipe: Pipe, hello: Hello, before: Link | None) -> Code:
        """NONE if a pipe that a peer opened becomes the link, else why not. Waits until that is certain.

        before: the peer's link when it opened the pipe; one that came since is of peers that dialled at once
        """
        while True:
            attempt, link = self._attempts.ahead_of(pipe.peer), self._links.held(pipe.peer)
            if self._links.closing:
                return Code.LEAVING
            if attempt is not None:
                await attempt.done.wait()
            elif link is None:
                return Code.NONE if self._links.make_room(pipe.source) else Code.BUSY
            elif link.hello.boot != hello.boot:
                link.close(Code.LOST, "the peer started anew")
            elif link is not before or await link.check():
                return Code.DUPLICATE
            else:
                link.close(Code.LOST, "the peer dialled anew")
