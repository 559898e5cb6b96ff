"""A request waits for room at nodes that are full (protocols/inference.md, 7.2), as long as its patience lasts.

Time counts while no generation of the same client holds room, for then nobody but others can give any up. Nothing but
time uses patience up, whatever nodes say and how often.
"""

from collections.abc import Callable
from math import inf
from typing import Final, Protocol

import trio

from p2pinfer.client.full_nodes import FullNodes
from p2pinfer.client.places import Places
from p2pinfer.core.room.queue import new_ticket
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import GenerationFailed, P2pinferError
from p2pinfer.core.values.units import PeerKey
from p2pinfer.overlay.machine import Machine

GATHER_S: Final = 0.4  # from our turn at one stage: others of its route, where room comes free with it, say so by then


class OwnRoom(Protocol):
    """The room that generations of the same client have."""

    @property
    def is_held(self) -> bool:
        """Some of them have any."""

    async def wait_left(self) -> None:
        """Wait until one of them has given room up."""


class WaitingRoom:
    """Of one request.

    full:       the nodes without room
    own_room:   of our other generations
    patience_s: it waits so long while none of these has room
    say:        hears what we wait for
    """

    def __init__(
        self, full: FullNodes, own_room: OwnRoom, machine: Machine, patience_s: float, say: Callable[[str], None]
    ) -> None:
        self.places = Places(new_ticket(round(machine.clock() * 1000), machine.lots.randbytes(8)), full.note_word)
        self._lots = machine.lots
        self._full = full
        self._own_room = own_room
        self._patience_s = patience_s
        self._say = say
        self._waited_s = 0.0  # for others to leave

    async def wait(self, failure: P2pinferError | None) -> None:
        """Wait until a full node may have room, or a generation of ours ends. Raises where patience is used up.

        At its end all are asked once more, whenever they said: else who named a longer time would have been waited for
        in vain.

        failure: the last refusal
        """
        began, ours = trio.current_time(), self._own_room.is_held
        if not ours and self._waited_s >= self._patience_s:
            raise self._too_full(failure)
        until = inf if ours else began + self._patience_s - self._waited_s
        self._say(self.places.words(PeerKey(self._full.first)))
        left, now = await self._wait_next(until), trio.current_time()
        if left:
            self._waited_s = 0.0
            self._full.admit_left(now)
        elif now >= until:
            self._waited_s = self._patience_s
            self._full.admit(inf)
        else:
            self._waited_s += 0.0 if ours else now - began
            self._full.admit(now)

    async def _wait_next(self, until: float) -> bool:
        """Wait until that time, or until a node may have room; True where one of ours has left, so that any may."""
        left = False

        async def wait_left() -> None:
            nonlocal left
            await self._own_room.wait_left()
            left = True
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_left)
            await self._full.wait_next(until)
            nursery.cancel_scope.cancel()
        return left

    async def gather(self, leaves_whole: Callable[[], bool]) -> None:
        """It is our turn at some stages of a route: ask the others with them, since nobody keeps room for us for long.

        Where those have none we are refused there, and keep our place here.

        leaves_whole: there is a route without those that are full
        """
        if not self.places.has_turn or leaves_whole():
            return
        until = trio.current_time() + self._lots.uniform(GATHER_S / 4, GATHER_S)  # who gives up first lets another in
        while trio.current_time() < until and not leaves_whole():
            await self._full.wait_next(until)
            self._full.admit(trio.current_time())
        if not leaves_whole():
            self._full.admit(inf)

    def _too_full(self, failure: P2pinferError | None) -> GenerationFailed:
        """The last refusal, and how long we waited for room."""
        where = [self.places.words(PeerKey(node)) for node in self._full.nodes if self.places.has(PeerKey(node))]
        why = [] if failure is None else [str(failure)]
        words = "; ".join([*why, *where, f"in {self._waited_s:.0f} s there was no room"])
        return GenerationFailed(words, failure.code if isinstance(failure, GenerationFailed) else Code.BUSY)
