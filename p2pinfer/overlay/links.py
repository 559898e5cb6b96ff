"""The links there are, one to each peer: their use, their end, and room for more (protocols/wire.md, 4.1 and 7.1).

A link is announced when both sides have said Hello, and never before it is certain that it stays: that is seen to where
we dial (`attempts.py`), and where a peer does (`admission.py`). A client lets go of links it does not use.
"""

from collections.abc import Awaitable, Callable, Collection
from random import Random
from typing import Final

import trio

from p2pinfer.core.swarm.source import Source
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import LinkDead
from p2pinfer.core.values.keys import short_name
from p2pinfer.core.values.units import PeerKey
from p2pinfer.core.wire.messages import Hello, Message, Offers
from p2pinfer.overlay.backlog import Backlog
from p2pinfer.overlay.commons import Commons
from p2pinfer.overlay.contained import Contained
from p2pinfer.overlay.greeting import GOODBYE_S, FirstMessages
from p2pinfer.overlay.limits import ALL_BACKLOG_BYTES, NETWORK_LINKS
from p2pinfer.overlay.link import Link, Receiver
from p2pinfer.overlay.pipe import ABORT_S, Address
from p2pinfer.overlay.room import HeldLink, room_for
from p2pinfer.overlay.toll import Toll
from p2pinfer.overlay.turn import Turn
from p2pinfer.overlay.uplink import Uplink

KEEP_S: Final = 300.0  # a client's link that is not used: opening it again costs a second, keeping it costs both sides


class Links:
    """The `Receiver` of all links: it notes their use, forgets the dead, and hands on what comes.

    closing: nobody is to be linked any more
    commons: shared by all of them
    lots:    decide whose place is lost
    """

    def __init__(self, receiver: Receiver, nursery: trio.Nursery, most: int, lots: Random) -> None:
        self.closing = False
        self._receiver = receiver
        self._nursery = nursery
        self._most = most
        self._lots = lots
        uplink = Uplink(lambda: bool(self.needed()))
        self.commons = Commons(Turn(), Backlog(ALL_BACKLOG_BYTES), Toll(self.needed), uplink)
        self._links: dict[PeerKey, Link] = {}
        self._used: dict[PeerKey, float] = {}  # when each link was last asked for, or something came on it
        self._link_came = trio.Event()

    def link(self, peer: PeerKey) -> Link | None:
        if (link := self._links.get(peer)) is not None:
            self._used[peer] = trio.current_time()  # whoever asks for it is about to use it
        return link

    def held(self, peer: PeerKey) -> Link | None:
        """The link to `peer`, if there is one; to ask for it here counts as no use."""
        return self._links.get(peer)

    def links(self) -> tuple[Link, ...]:
        return tuple(self._links.values())

    async def wait_for(self, peer: PeerKey) -> None:
        """Wait until there is a link to `peer`."""
        while peer not in self._links:
            await self._link_came.wait()

    def make_room(self, source: Source) -> bool:
        """Have a link that nobody needs give way to a new one, where it must; False if there is none."""
        if len(self._links) < min(self._most, NETWORK_LINKS):
            return True
        needed, links = self._receiver.needed(), self._links.values()
        held = [HeldLink(one.peer, one.source, one.came_s, one.dialled, one.peer in needed) for one in links]
        room = room_for(source, held, trio.current_time(), self._lots.random(), self._most)
        if room.instead_of is not None:
            self._links[room.instead_of].close(Code.IDLE, "others ask for its place")
        return room.free

    def start(
        self, greeting: FirstMessages, hello: Hello, at: Address | None = None, rtt_s: float | None = None
    ) -> None:
        """The peer's Hello came, and ours was said: from now on its pipe is the link."""
        if self.closing:
            raise LinkDead("the network is closing", Code.LEAVING)
        if (old := self._links.get(greeting.pipe.peer)) is not None:
            old.close(Code.DUPLICATE)  # the peer answered this stream knowing of the other
        greeting.taken = True
        link = Link(greeting, hello, self, self.commons, at, rtt_s)
        self._nursery.start_soon(link.run)  # first, for it lets go of the pipe, whatever fails
        self.on_link(link)

    def on_link(self, link: Link) -> None:
        self._links[link.peer] = link
        self._used[link.peer] = trio.current_time()
        self._link_came.set()
        self._link_came = trio.Event()
        with link.contained:
            self._receiver.on_link(link)

    def on_message(self, link: Link, message: Message) -> None:
        """All but announcements were asked for, or ask for something."""
        if self._links.get(link.peer) is link and not (isinstance(message, Offers) and message.call == 0):
            self._used[link.peer] = link.heard_s
        self._receiver.on_message(link, message)

    def on_closed(self, link: Link, why: LinkDead) -> None:
        if self._links.get(link.peer) is link:
            del self._links[link.peer], self._used[link.peer]
        with Contained(f"what belongs to the link to {short_name(link.peer)}"):
            self._receiver.on_closed(link, why)

    def needed(self) -> Collection[PeerKey]:
        return self._receiver.needed()

    async def close_unused(self, keep_s: float) -> None:
        """Close what was not used for `keep_s`, until cancelled."""
        while True:
            now = trio.current_time()
            for link in self.links():
                if self._used[link.peer] + keep_s <= now:
                    link.close(Code.IDLE)
            await trio.sleep_until(min(self._used.values(), default=now) + keep_s)

    async def check_when_moved(self, wait_moved: Callable[[], Awaitable[None]]) -> None:
        """Links may be dead where our addresses have changed, and nobody says so: find out, until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                await wait_moved()
                for link in self.links():
                    nursery.start_soon(link.check_or_end)

    async def close_all(self) -> None:
        """Say goodbye to everybody, all at once."""
        self.closing = True
        links = self.links()
        for link in links:
            link.close(Code.LEAVING)
        with trio.move_on_after(GOODBYE_S + ABORT_S):
            for link in links:
                await link.closed.wait()
