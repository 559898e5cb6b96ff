"""Links in the making: callers who want the same peer share an attempt (protocols/wire.md, 4.1).

Of two streams dialled at once the one dialled by the smaller key becomes the link, and nobody above notices the other.
`dial.py` dials several addresses; `admission.py` decides whether a stream that a peer opened waits for ours, and is let
in.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from functools import partial
from math import inf
from typing import Final

import trio

from p2pinfer.core.swarm.allowance import Allowance, Rate
from p2pinfer.core.swarm.source import NOWHERE
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import LinkDead, RemoteProtocolError, Undialled
from p2pinfer.core.values.keys import short_name
from p2pinfer.core.values.units import PeerKey
from p2pinfer.core.wire.messages import Goodbye
from p2pinfer.overlay.contained import Contained
from p2pinfer.overlay.dial import dial_first
from p2pinfer.overlay.expectation import Expecting
from p2pinfer.overlay.greeting import FirstMessages, Greeting, checked_hello
from p2pinfer.overlay.limits import ALL_DIALS_BURST, ALL_DIALS_RATE, DIALS_BURST, DIALS_RATE, KEPT_DIALS
from p2pinfer.overlay.link import Link, farewell
from p2pinfer.overlay.links import Links
from p2pinfer.overlay.pipe import Address, Ground, Pipe, abort
from p2pinfer.overlay.word import Word

DIAL_S: Final = 15.0  # from dialling to the peer's Hello, for who gets on; what is silent is given up before
YIELD_S: Final = 2.0  # for the other stream to become the link, after ours was turned away as the second


class Attempts:
    """All that are under way; each comes to a link among `links`, or to nothing."""

    def __init__(self, ground: Ground, links: Links, greeting: Greeting, nursery: trio.Nursery) -> None:
        self._ground = ground
        self._links = links
        self._greeting = greeting
        self._nursery = nursery
        self._attempts: dict[PeerKey, list[Attempt]] = {}  # several, where several gave other addresses of a peer
        self._dials = Allowance(Rate(DIALS_BURST, DIALS_RATE), Rate(ALL_DIALS_BURST, ALL_DIALS_RATE))

    def due_s(self, peer: PeerKey) -> float:
        return max((attempt.expecting.due_s for attempt in self._attempts.get(peer, ())), default=-inf)

    async def reach(self, peer: PeerKey, addresses: tuple[Address, ...], word: Word | None) -> Link:
        """As of `Network`. word: who gave the addresses; None for a person at this machine."""
        ours = Attempt(addresses, word)
        if peer == self._ground.key:
            raise LinkDead("the address is our own", Code.UNREACHABLE)
        while (link := self._links.link(peer)) is None:
            if self._links.closing:
                raise LinkDead("the network is closing", Code.LEAVING)
            under_way = (one for one in self._attempts.get(peer, ()) if one.serves(ours))
            if (attempt := next(under_way, None)) is None:
                attempt = self._begin(peer, ours)
                self._nursery.start_soon(self._run, peer, ours)
            await attempt.done.wait()
            if attempt.addresses == ours.addresses and self._links.held(peer) is None:
                raise copy(attempt.failure)  # others wait for it, too
        await trio.lowlevel.checkpoint()
        return link

    def ahead_of(self, peer: PeerKey) -> "Attempt | None":
        """The attempt for which a stream that `peer` opened has to wait, or None.

        Both dial at once: the smaller key's stream stays, unless it comes to nothing. One that has reached nobody yet
        is not waited for: strangers name addresses, too.
        """
        ours_stays = self._ground.key < peer
        attempts = self._attempts.get(peer, ())
        return next((one for one in attempts if one.accepts or (one.greets and ours_stays)), None)

    @contextmanager
    def accepting(self, peer: PeerKey) -> Iterator[None]:
        """Answer the peer's Hello in the block. Nobody here dials it meanwhile, or both streams would become links."""
        attempt = self._begin(peer, Attempt())
        try:
            yield
        finally:
            self._end(peer, attempt)

    def _begin(self, peer: PeerKey, attempt: "Attempt") -> "Attempt":
        self._attempts.setdefault(peer, []).append(attempt)
        return attempt

    def _end(self, peer: PeerKey, attempt: "Attempt") -> None:
        self._attempts[peer].remove(attempt)
        if not self._attempts[peer]:
            del self._attempts[peer]
        attempt.done.set()

    async def _run(self, peer: PeerKey, attempt: "Attempt") -> None:
        """Dial once, in a task of its own: whoever asked may be cancelled, the handshake below may not."""
        try:
            with Contained(f"the dial to {short_name(peer)}", attempt.fail):
                await self._dial_in_time(peer, attempt)
        finally:
            self._end(peer, attempt)

    async def _dial_in_time(self, peer: PeerKey, attempt: "Attempt") -> None:
        try:
            with trio.move_on_after(DIAL_S) as deadline:
                await self._dial_once(peer, attempt)
            if deadline.cancelled_caught:
                where = " or ".join(attempt.addresses or ())
                attempt.failure = LinkDead(f"no link to {where} came up within {DIAL_S:.0f} s", Code.UNREACHABLE)
        except LinkDead as error:
            attempt.failure = error
        except RemoteProtocolError as error:
            attempt.failure = LinkDead(f"{short_name(peer)} broke the protocol: {error}", error.code)

    async def _dial_once(self, peer: PeerKey, attempt: "Attempt") -> None:
        """Dial and exchange Hellos; the link is up at the end, ours or the one the peer prefers."""
        pipe = await dial_first(partial(self._dial, attempt), attempt.addresses or (), attempt.expecting.hear)
        greeting = FirstMessages(pipe, self._greeting)
        try:
            if pipe.peer != peer:
                raise LinkDead("another peer answered", Code.UNREACHABLE)
            if self._links.held(peer) is not None or any(other.accepts for other in self._attempts[peer]):
                await self._wait_link(peer)  # it came to us meanwhile
                return
            attempt.greets = True
            began = trio.current_time()
            await greeting.say_hello()
            answer = await greeting.first_message()
            if isinstance(answer, Goodbye) and answer.code == Code.DUPLICATE:
                await self._wait_link(peer)
            elif isinstance(answer, Goodbye):
                raise farewell(answer)
            else:
                hello = checked_hello(answer)
                self._links.make_room(NOWHERE)
                self._links.start(greeting, hello, attempt.places[pipe], trio.current_time() - began)
        finally:
            if not greeting.taken:
                await abort(pipe)

    async def _dial(self, attempt: "Attempt", address: Address, heard: Callable[[], None]) -> Pipe:
        if attempt.word is not None and not self._may_dial(attempt.word):
            raise Undialled("too many dials at once on the word of others", Code.BUSY)
        pipe = await self._ground.dial(address, heard)
        attempt.places[pipe] = address
        return pipe

    def _may_dial(self, word: Word) -> bool:
        return self._dials.take(word.charged, trio.current_time(), kept=0 if word.awaited else KEPT_DIALS)

    async def _wait_link(self, peer: PeerKey) -> None:
        """Wait for the link the peer said it has; its Hello may still be under way."""
        with trio.move_on_after(YIELD_S):
            await self._links.wait_for(peer)
        if self._links.held(peer) is None:
            raise LinkDead("the peer says it has a link to us, and has none", Code.DUPLICATE)


class Attempt:
    """A link in the making.

    addresses: where the peer is dialled; None where it dialled us
    word:      who gave them; None for a person at this machine
    greets:    somebody answered there, and our Hello is on its way
    places:    where each pipe was dialled
    expecting: how long who answered may take for the next step
    failure:   why there is none when it is done
    """

    def __init__(self, addresses: tuple[Address, ...] | None = None, word: Word | None = None) -> None:
        self.addresses = addresses
        self.word = word
        self.greets = False
        self.places: dict[Pipe, Address] = {}
        self.expecting = Expecting()
        self.done = trio.Event()
        self.failure = LinkDead("the link was lost as soon as it was up", Code.LOST)

    @property
    def accepts(self) -> bool:
        return self.addresses is None

    @property
    def is_awaited(self) -> bool:
        return self.word is None or self.word.awaited

    def serves(self, wanted: "Attempt") -> bool:
        """True if who wants another may wait for this one; where nobody awaits it, it finds fewer dials left."""
        is_as_good = self.is_awaited or not wanted.is_awaited
        return self.accepts or (self.addresses == wanted.addresses and is_as_good)

    def fail(self) -> None:
        self.failure = LinkDead("a fault of this peer's own", Code.INTERNAL)
