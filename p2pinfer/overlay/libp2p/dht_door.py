"""Our part of the DHT as the node sees it: a process of its own (`dht_life.py`), started anew when it ends.

Nothing waits for it: who asks it something goes on without an answer. The next process is told what the one before
knew.
"""

import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from importlib.util import find_spec
from itertools import chain, repeat
from typing import Final

import trio

from p2pinfer.core.swarm.source import Source
from p2pinfer.overlay.contained import Contained
from p2pinfer.overlay.libp2p.dht_frames import FIND_S, PROVIDE_S, WHERE_S, fitting
from p2pinfer.overlay.libp2p.dht_life import Life, start
from p2pinfer.overlay.limits import MAX_MET
from p2pinfer.overlay.pipe import Address

DHT_WAITS_S: Final = (5.0, 30.0, 300.0)  # before a part of the DHT that ended starts anew; then as the last
LATE_S: Final = 0.5  # for an answer to come from the process, beside what it takes there
KEPT_HOSTS: Final = 16  # that were met, and are met again after a new start
KEPT_KEYS: Final = 64  # that are provided again then

logger = logging.getLogger(__name__)


class DhtDoor:
    """Our part of the DHT, and no more than a memory of it while its process is away.

    settled: it has begun, or failed to
    """

    def __init__(self, listen: Sequence[str], links: Sequence[Address]) -> None:
        self.settled = trio.Event()
        self._opening = (fitting(listen), fitting(links))
        self._moved = trio.Event()
        self._process: Life | None = None
        self._hosts: dict[tuple[str, ...], str | None] = {}  # that were met, and the networks of those who named them
        self._keys: deque[bytes] = deque(maxlen=KEPT_KEYS)

    def move(self, listen: Sequence[str], links: Sequence[Address]) -> None:
        """Be elsewhere from now on: libp2p's host cannot, so another one begins there."""
        opening = (fitting(listen), fitting(links))
        if opening != self._opening:
            self._opening = opening
            self._moved.set()

    async def run(self) -> None:
        """Have a part in the DHT, until cancelled; none where libp2p is not installed, which a client need not have."""
        if find_spec("libp2p") is None:
            logger.warning(
                "no part in the DHT, which needs libp2p: pip install 'p2pinfer[node]' brings it; links go on"
            )
            self.settled.set()
            return
        waits_s = _waits_s()
        while True:
            self._moved = trio.Event()
            why = "for a fault of ours"
            with Contained("our part of the DHT"):
                why = await self._live()
            if not self._moved.is_set():
                wait_s = next(waits_s)
                logger.warning("our part of the DHT ended (%s); it starts anew in %.0f s, links go on", why, wait_s)
                with trio.move_on_after(wait_s):
                    await self._moved.wait()
            if self._moved.is_set():  # elsewhere there may be what was missing
                waits_s = _waits_s()

    async def _wait_moved(self) -> str:
        await self._moved.wait()
        return "it moved"

    async def _live(self) -> str:
        """One life of the process; why it ended."""
        try:
            process = await start()
        except OSError as error:
            self.settled.set()
            return f"its process does not start: {error}"
        life, end = Life(process, self._opening), list[str]()
        try:
            async with trio.open_nursery() as nursery:

                async def until_end(task: Callable[[], Awaitable[str]]) -> None:
                    end.append(await task())
                    nursery.cancel_scope.cancel()

                for task in (life.write, life.read, life.watch, self._wait_moved):
                    nursery.start_soon(until_end, task)
                await life.ready.wait()
                if self.settled.is_set():  # it is not the first
                    nursery.start_soon(self._remind, life)
                self._process = life
                self.settled.set()
        finally:
            self._process = None
            self.settled.set()
            await life.end()
        return end[0]

    async def _remind(self, life: Life) -> None:
        """Tell a process that starts anew what the one before knew: first whom it may tell what we provide."""
        async with trio.open_nursery() as nursery:
            for addresses in self._hosts:
                nursery.start_soon(life.ask, "meet", list(addresses), WHERE_S * MAX_MET)
        for key in tuple(self._keys):  # more may come meanwhile
            await life.ask("provide", key, PROVIDE_S)

    def addresses(self) -> tuple[Address, ...]:
        return self._process.addresses if self._process is not None else ()

    async def meet(self, addresses: Sequence[str], word: Source) -> None:
        """Take another DHT host, found at any of these, into our table. word: of whoever said so"""
        if addresses:
            self._keep(tuple(addresses), word.network)
        await self._ask("meet", list(addresses), WHERE_S * MAX_MET)

    def _keep(self, host: tuple[str, ...], network: str | None) -> None:
        """Remember a host; of too many, the first of the network that named most is forgotten."""
        self._hosts.pop(host, None)
        self._hosts[host] = network
        if len(self._hosts) > KEPT_HOSTS:
            most, _ = Counter(self._hosts.values()).most_common(1)[0]
            del self._hosts[next(one for one, named_by in self._hosts.items() if named_by == most)]

    async def provide(self, key: bytes) -> None:
        if key not in self._keys:
            self._keys.append(key)
        await self._ask("provide", key, PROVIDE_S)

    async def find(self, key: bytes) -> tuple[Address, ...]:
        """Link addresses of those who provide `key`, as far as they answer within FIND_S."""
        return await self._ask("find", key, FIND_S)

    async def _ask(self, kind: str, what: object, takes_s: float) -> tuple[Address, ...]:
        with trio.move_on_after(takes_s + LATE_S):
            await self.settled.wait()
            if self._process is not None:
                return await self._process.ask(kind, what, takes_s)
        return ()


def _waits_s() -> Iterator[float]:
    return chain(DHT_WAITS_S, repeat(DHT_WAITS_S[-1]))
