"""The one link to each peer: greetings, simultaneous dials, peers that come back (protocols/wire.md, 3 and 4).

This is `Network` over any ground of pipes. A link is announced when both sides have said Hello, and never before it
is certain that it stays: of two streams dialled at once the one dialled by the smaller key becomes the link, and
nobody above notices the other. A client lets go of links it does not use.
"""

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from functools import partial
from math import inf
from random import SystemRandom
from typing import Final

import trio

from p2pinfer.core.allowance import Allowance, Rate
from p2pinfer.core.codes import Code
from p2pinfer.core.errors import LinkDead, RemoteProtocolError
from p2pinfer.core.keys import short_name
from p2pinfer.core.messages import MAX_ADDRESSES, Goodbye, Hello, Message, Offers
from p2pinfer.core.source import NOWHERE, Source
from p2pinfer.core.units import PeerKey
from p2pinfer.overlay.backlog import Backlog
from p2pinfer.overlay.contained import Contained
from p2pinfer.overlay.crowd import Crowd
from p2pinfer.overlay.dialling import dial_first
from p2pinfer.overlay.expecting import Expecting
from p2pinfer.overlay.greeting import FirstMessages, Greeting, checked_hello
from p2pinfer.overlay.limits import (
    ALL_BACKLOG_BYTES,
    ALL_DIALS_BURST,
    ALL_DIALS_RATE,
    DIALS_BURST,
    DIALS_RATE,
    MAX_HANDSHAKES,
    MAX_LINKS,
    MAX_MET,
    NETWORK_HANDSHAKES,
    NETWORK_LINKS,
)
from p2pinfer.overlay.link import GOODBYE_S, Link, Receiver, farewell
from p2pinfer.overlay.pipe import ABORT_S, Address, Ground, Pipe, abort, leads_to, peer_of
from p2pinfer.overlay.room import HeldLink, room_for
from p2pinfer.overlay.toll import Toll
from p2pinfer.overlay.turn import Turn

DIAL_S: Final = 15.0  # from dialling to the peer's Hello, for who gets on; what is silent is given up before
GREET_S: Final = 10.0  # for a peer that opened a pipe to say Hello
KEEP_S: Final = 300.0  # a client's link that is not used: opening it again costs a second, keeping it costs both sides
YIELD_S: Final = 2.0  # for the other stream to become the link, after ours was turned away as the second
LOTS: Final = SystemRandom()  # nobody foretells whose place is lost


@asynccontextmanager
async def open_links(
    ground: Ground, receiver: Receiver, greeting: Greeting, keep_s: float = inf, most: int = MAX_LINKS
) -> AsyncIterator["Links"]:
    """Dial and accept for as long as the block lasts; then say goodbye to everybody.

    keep_s: close links that were not used for so long; what peers announce unasked is no use
    most:   links at once
    """
    async with trio.open_nursery() as nursery:
        links = Links(ground, receiver, greeting, nursery, most)
        nursery.start_soon(links.accept_all)
        nursery.start_soon(links.check_when_moved)
        if keep_s < inf:
            nursery.start_soon(links.close_unused, keep_s)
        try:
            yield links
        finally:
            with trio.CancelScope(shield=True):
                await links.close_all()
            nursery.cancel_scope.cancel()


class Links:
    """The links of one peer (`Network`)."""

    def __init__(
        self, ground: Ground, receiver: Receiver, greeting: Greeting, nursery: trio.Nursery, most: int
    ) -> None:
        self._ground = ground
        self._receiver = receiver
        self._greeting = greeting
        self._nursery = nursery
        self._most = most
        self._backlog = Backlog(ALL_BACKLOG_BYTES)
        self._toll = Toll()
        self._greeted = Crowd(NETWORK_HANDSHAKES, MAX_HANDSHAKES)
        self._links: dict[PeerKey, Link] = {}
        self._used: dict[PeerKey, float] = {}  # when each link was last asked for, or something came on it
        self._attempts: dict[PeerKey, list[_Attempt]] = {}  # several, where several gave other addresses of a peer
        self._dials = Allowance(Rate(DIALS_BURST, DIALS_RATE), Rate(ALL_DIALS_BURST, ALL_DIALS_RATE))
        self.turn = Turn()
        self._closing = False
        self._link_came = trio.Event()

    @property
    def key(self) -> PeerKey:
        return self._ground.key

    def addresses(self) -> tuple[Address, ...]:
        return self._ground.addresses()

    def told(self, to: Source) -> tuple[Address, ...]:
        return self._ground.told(to)[:MAX_ADDRESSES]

    def may_tell(self, address: str, to: Source) -> bool:
        return self._ground.may_tell(address, to)

    async def wait_moved(self) -> None:
        await self._ground.wait_moved()

    def link(self, peer: PeerKey) -> Link | None:
        if (link := self._links.get(peer)) is not None:
            self._used[peer] = trio.current_time()  # whoever asks for it is about to use it
        return link

    def links(self) -> tuple[Link, ...]:
        return tuple(self._links.values())

    def neighbours(self) -> tuple[Address, ...]:
        return self._ground.neighbours()

    def directory_addresses(self) -> tuple[Address, ...]:
        return self._ground.directory_addresses()

    async def meet(self, addresses: Sequence[str], word: Source) -> None:
        await self._ground.meet([address for address in addresses if self.may_dial(address, word)][:MAX_MET])

    async def provide(self, key: bytes) -> None:
        await self._ground.provide(key)

    async def find(self, key: bytes) -> tuple[Address, ...]:
        return await self._ground.find(key)

    async def dial(self, address: str) -> Link:
        peer = peer_of(address)
        self._ground.check(address)
        return await self._reach(peer, _Attempt((Address(address),)))

    def due_s(self, peer: PeerKey) -> float:
        return max((attempt.expecting.due_s for attempt in self._attempts.get(peer, ())), default=-inf)

    def may_dial(self, address: str, word: Source) -> bool:
        return self._ground.may_dial(address, word)

    def dialable(self, peer: PeerKey, addresses: Sequence[str], word: Source) -> tuple[Address, ...]:
        given = dict.fromkeys(addresses)  # one that is named twice is dialled once
        return tuple(Address(one) for one in given if self.may_dial(one, word) and leads_to(one) == peer)

    async def reach(self, peer: PeerKey, addresses: Sequence[str], word: Source) -> Link:
        return await self._reach(peer, _Attempt(self.dialable(peer, addresses, word), word))

    async def _reach(self, peer: PeerKey, ours: "_Attempt") -> Link:
        if peer == self.key:
            raise LinkDead("the address is our own", Code.UNREACHABLE)
        while (link := self.link(peer)) is None:
            if self._closing:
                raise LinkDead("the network is closing", Code.LEAVING)
            under_way = (one for one in self._attempts.get(peer, ()) if one.accepts or one.addresses == ours.addresses)
            attempt = next(under_way, None) or self._start_attempt(peer, ours)
            await attempt.done.wait()
            if attempt.addresses == ours.addresses and peer not in self._links:
                raise LinkDead(*attempt.failure)
        await trio.lowlevel.checkpoint()
        return link

    def _start_attempt(self, peer: PeerKey, attempt: "_Attempt") -> "_Attempt":
        self._attempts.setdefault(peer, []).append(attempt)
        self._nursery.start_soon(self._run_attempt, peer, attempt)
        return attempt

    def _end_attempt(self, peer: PeerKey, attempt: "_Attempt") -> None:
        self._attempts[peer].remove(attempt)
        if not self._attempts[peer]:
            del self._attempts[peer]
        attempt.done.set()

    async def _run_attempt(self, peer: PeerKey, attempt: "_Attempt") -> None:
        """Dial once, in a task of its own: whoever asked may be cancelled, the handshake below may not."""
        try:
            with Contained(f"the dial to {short_name(peer)}", attempt.fail):
                await self._dial_in_time(peer, attempt)
        finally:
            self._end_attempt(peer, attempt)

    async def _dial_in_time(self, peer: PeerKey, attempt: "_Attempt") -> None:
        try:
            with trio.move_on_after(DIAL_S) as deadline:
                await self._dial_once(peer, attempt)
            if deadline.cancelled_caught:
                where = " or ".join(attempt.addresses or ())
                attempt.failure = f"no link to {where} came up within {DIAL_S:.0f} s", Code.UNREACHABLE
        except LinkDead as error:
            attempt.failure = str(error), error.code
        except RemoteProtocolError as error:
            attempt.failure = f"{short_name(peer)} broke the protocol: {error}", error.code

    async def _dial_once(self, peer: PeerKey, attempt: "_Attempt") -> None:
        """Dial and exchange Hellos; the link is up at the end, ours or the one the peer prefers."""
        pipe = await dial_first(partial(self._dial, attempt), attempt.addresses or (), attempt.expecting.hear)
        greeting = FirstMessages(pipe)
        try:
            if pipe.peer != peer:
                raise LinkDead("another peer answered", Code.UNREACHABLE)
            if peer in self._links or any(other.accepts for other in self._attempts[peer]):
                await self._wait_link(peer)  # it came to us meanwhile
                return
            attempt.greets = True
            began = trio.current_time()
            await greeting.say(self._greeting.hello(pipe.source))
            answer = await greeting.first_message()
            if isinstance(answer, Goodbye) and answer.code == Code.DUPLICATE:
                await self._wait_link(peer)
            elif isinstance(answer, Goodbye):
                raise farewell(answer)
            else:
                hello = checked_hello(answer)
                self._make_room(NOWHERE)
                self._start_link(greeting, hello, attempt.places[pipe], trio.current_time() - began)
        finally:
            if not greeting.taken:
                await abort(pipe)

    async def _dial(self, attempt: "_Attempt", address: Address, heard: Callable[[], None]) -> Pipe:
        if attempt.word is not None and not self._dials.take(attempt.word, trio.current_time()):
            raise LinkDead("too many dials at once on the word of others", Code.BUSY)
        pipe = await self._ground.dial(address, heard)
        attempt.places[pipe] = address
        return pipe

    async def _wait_link(self, peer: PeerKey) -> None:
        """Wait for the link the peer said it has; its Hello may still be under way."""
        with trio.move_on_after(YIELD_S):
            while peer not in self._links:
                await self._link_came.wait()
        if peer not in self._links:
            raise LinkDead("the peer says it has a link to us, and has none", Code.DUPLICATE)

    async def accept_all(self) -> None:
        """Greet everybody who opens a pipe to us."""
        while True:
            self._nursery.start_soon(self._accept, await self._ground.accept())

    async def _accept(self, pipe: Pipe) -> None:
        greeting, before = FirstMessages(pipe), self._links.get(pipe.peer)
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
                else:
                    await self._admit(greeting, hello)
        except RemoteProtocolError as error:
            with trio.move_on_after(GOODBYE_S):
                await greeting.refuse(error.code, str(error))
        except LinkDead:
            pass  # it left before there was a link; nobody waits for one

    async def _refusal(self, pipe: Pipe, hello: Hello, before: Link | None) -> Code:
        """NONE if a pipe that a peer opened becomes the link, else why not. Waits until that is certain.

        before: the peer's link when it opened the pipe; one that came since is of peers that dialled at once
        """
        peer = pipe.peer
        while True:
            # Both dial at once: the smaller key's stream stays, unless it comes to nothing. One that has reached nobody
            # yet is not waited for: strangers name addresses, too
            first = (one for one in self._attempts.get(peer, ()) if one.accepts or (one.greets and self.key < peer))
            attempt, link = next(first, None), self._links.get(peer)
            if self._closing:
                return Code.LEAVING
            if attempt is not None:
                await attempt.done.wait()
            elif link is None:
                return Code.NONE if self._make_room(pipe.source) else Code.BUSY
            elif link.hello.boot != hello.boot:
                link.close(Code.LOST, "the peer started anew")
            elif link is not before or await link.check():
                return Code.DUPLICATE
            else:
                link.close(Code.LOST, "the peer dialled anew")

    def _make_room(self, source: Source) -> bool:
        """Have a link that nobody needs give way to a new one, where it must; False if there is none."""
        if len(self._links) < min(self._most, NETWORK_LINKS):
            return True
        needed, links = self._receiver.needed(), self._links.values()
        held = [HeldLink(one.peer, one.source, one.came_s, one.dialled, one.peer in needed) for one in links]
        room = room_for(source, held, trio.current_time(), LOTS.random(), self._most)
        if room.instead_of is not None:
            self._links[room.instead_of].close(Code.IDLE, "others ask for its place")
        return room.free

    async def _admit(self, greeting: FirstMessages, hello: Hello) -> None:
        """Answer the Hello. Meanwhile nobody here dials that peer, or both streams would become links."""
        peer = greeting.pipe.peer
        attempt = _Attempt()
        self._attempts.setdefault(peer, []).append(attempt)
        try:
            await greeting.say(self._greeting.hello(greeting.pipe.source))
            self._start_link(greeting, hello, None)
        except LinkDead as error:
            attempt.failure = str(error), error.code
            raise
        finally:
            self._end_attempt(peer, attempt)

    def _start_link(
        self, greeting: FirstMessages, hello: Hello, at: Address | None, rtt_s: float | None = None
    ) -> None:
        if self._closing:
            raise LinkDead("the network is closing", Code.LEAVING)
        peer = greeting.pipe.peer
        if (old := self._links.get(peer)) is not None:
            old.close(Code.DUPLICATE)  # the peer answered this stream knowing of the other
        noting = _Noting(self, self._receiver)
        shared = self.turn, self._backlog, self._toll
        link = greeting.make_link(hello, noting, *shared, self._greeting.clock, at, rtt_s)
        self._links[peer] = link
        self._used[peer] = trio.current_time()
        self._nursery.start_soon(link.run)  # first, for it lets go of the pipe, whatever fails
        self._link_came.set()
        self._link_came = trio.Event()
        with link.contained:
            self._receiver.on_link(link)

    def forget(self, link: Link) -> None:
        """The link is dead: it is nobody's link any more."""
        if self._links.get(link.peer) is link:
            del self._links[link.peer], self._used[link.peer]

    def note_use(self, link: Link, message: Message) -> None:
        """A message came on a link; all but announcements were asked for, or ask for something."""
        if self._links.get(link.peer) is link and not (isinstance(message, Offers) and message.call == 0):
            self._used[link.peer] = trio.current_time()

    async def close_unused(self, keep_s: float) -> None:
        """Close what was not used for `keep_s`, until cancelled."""
        while True:
            now = trio.current_time()
            for link in self.links():
                if self._used[link.peer] + keep_s <= now:
                    link.close(Code.IDLE)
            await trio.sleep_until(min(self._used.values(), default=now) + keep_s)

    async def check_when_moved(self) -> None:
        """Links may be dead where our addresses have changed, and nobody says so: find out, until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                await self._ground.wait_moved()
                for link in self.links():
                    nursery.start_soon(link.check_or_end)

    async def close_all(self) -> None:
        """Say goodbye to everybody, all at once."""
        self._closing = True
        links = self.links()
        for link in links:
            link.close(Code.LEAVING)
        with trio.move_on_after(GOODBYE_S + ABORT_S):
            for link in links:
                await link.closed.wait()


class _Attempt:
    """A link in the making.

    addresses: where the peer is dialled; None where it dialled us
    word:      who gave them; None for a person at this machine
    greets:    somebody answered there, and our Hello is on its way
    places:    where each pipe was dialled
    expecting: how long who answered may take for the next step
    failure:   why there is none when it is done
    """

    def __init__(self, addresses: tuple[Address, ...] | None = None, word: Source | None = None) -> None:
        self.addresses = addresses
        self.word = word
        self.greets = False
        self.places: dict[Pipe, Address] = {}
        self.expecting = Expecting()
        self.done = trio.Event()
        self.failure = "the link was lost as soon as it was up", Code.LOST

    @property
    def accepts(self) -> bool:
        return self.addresses is None

    def fail(self) -> None:
        self.failure = "a fault of this peer's own", Code.INTERNAL


class _Noting:
    """A receiver before whom the use of a link is noted, and a dead one forgotten."""

    def __init__(self, links: Links, receiver: Receiver) -> None:
        self._links = links
        self._receiver = receiver

    def on_link(self, link: Link) -> None:
        self._receiver.on_link(link)

    def on_message(self, link: Link, message: Message) -> None:
        self._links.note_use(link, message)
        self._receiver.on_message(link, message)

    def on_closed(self, link: Link, why: LinkDead) -> None:
        self._links.forget(link)
        with Contained(f"what belongs to the link to {short_name(link.peer)}"):
            self._receiver.on_closed(link, why)

    def needed(self) -> Collection[PeerKey]:
        return self._receiver.needed()
