"""Several peers are met and asked at once: all who answer are waited for, however slow, and nobody who is silent."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from math import inf

import trio

from p2pinfer.core.values.units import PeerKey
from p2pinfer.overlay.dial import SILENT_S
from p2pinfer.overlay.expectation import patience_s
from p2pinfer.overlay.network import Network


class Gathering:
    """The tasks under way with some peers. Made by `open_gathering`."""

    def __init__(self, network: Network, nursery: trio.Nursery) -> None:
        self._network = network
        self._nursery = nursery
        self._began_s = trio.current_time()
        self._waiting: list[PeerKey | None] = []
        self._over = trio.Event()

    def start(self, peer: PeerKey | None, task: Callable[..., Awaitable[object]], *args: object) -> None:
        """Run a task that waits for a peer; None: for one whose answers cannot be told."""
        self._waiting.append(peer)
        self._nursery.start_soon(self._run, peer, task, *args)

    async def _run(self, peer: PeerKey | None, task: Callable[..., Awaitable[object]], *args: object) -> None:
        await task(*args)
        self._waiting.remove(peer)
        if not self._waiting:
            self._over.set()

    async def wait(self, usual_s: float, most_s: float, has_some: Callable[[], bool]) -> None:
        """Wait until all is done that may be waited for; as of `open_gathering`."""
        until = self._began_s + usual_s
        while self._waiting and trio.current_time() < until:
            with trio.move_on_at(until):
                await self._over.wait()
            silence = self._began_s + (usual_s if has_some() else SILENT_S)
            until = min(max(silence, *map(self._due_s, self._waiting), -inf), self._began_s + most_s)

    def _due_s(self, peer: PeerKey | None) -> float:
        """Return when the next that a peer has to say should have come."""
        if peer is None:
            return -inf
        link = next((one for one in self._network.links() if one.peer == peer), None)
        if link is None:
            return self._network.due_s(peer)
        return max(self._began_s, link.came_s) + patience_s(link.rtt_s)


@asynccontextmanager
async def open_gathering(
    network: Network, usual_s: float, most_s: float, has_some: Callable[[], bool]
) -> AsyncIterator[Gathering]:
    """Wait, at the end of the block, for all that was started in it; what is late is cancelled.

    usual_s:  for those that have not answered at all
    most_s:   for those that answer and get on
    has_some: false while nothing came of it yet, so that silence is borne for SILENT_S: a far peer may be the only one
    """
    async with trio.open_nursery() as nursery:
        gathering = Gathering(network, nursery)
        yield gathering
        await gathering.wait(usual_s, most_s, has_some)
        nursery.cancel_scope.cancel()
