"""Files of a model from peers that may be slow, silent or liars: bounded in all, and the first good copy wins.

Each peer is asked for part after part; who is asked, and who else beside it, is for `offerers.py`. Whatever comes is
checked against the model's id by the caller.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import trio

from p2pinfer.client.offerers import Ask, Offerers
from p2pinfer.core.routes.measures import Measures
from p2pinfer.core.swarm.offers import KnownOffer
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import PeerError, Refused, RemoteProtocolError
from p2pinfer.core.values.units import ModelId
from p2pinfer.core.wire.messages import AskFile, FilePart
from p2pinfer.overlay.exchange import Exchange
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.network import Network

PART: Final = 16 << 10  # bytes asked for at once, which every peer sends whole; one that sends fewer plays for time
AHEAD: Final = 8  # parts asked for at once
BUSY_S: Final = 1.0  # at most, before a busy peer is asked again
LONG_S: Final = 10.0  # whoever is busy for longer is left: its owner may let it hand out no more today
SHORTEST_S: Final = 0.001  # that a transfer is taken to last
FILE_S: Final = 10.0  # for a file in all, and a second more
FILE_BYTES: Final = 50_000  # for so many of its bytes


class Fetcher:
    """Asks peers for files."""

    def __init__(self, network: Network, exchange: Exchange, measures: Measures) -> None:
        self._network = network
        self._offerers = Offerers(network)
        self._exchange = exchange
        self._measures = measures

    @property
    def farthest_s(self) -> float:
        """The longest round trip, seconds, to those that we are linked to."""
        return max((link.rtt_s or 0.0 for link in self._network.links()), default=0.0)

    async def fetch(
        self, peers: Sequence[KnownOffer], model: ModelId, name: str, limit: int, check: Callable[[bytes], None]
    ) -> bytes:
        """The first whole copy that `check` does not raise RemoteProtocolError for.

        limit: bytes that the file has at most

        Raises PeerError: the last peer's reason, or SILENT where time was up.
        """

        async def fetch_from(link: Link, ask: Ask) -> bytes:
            data = await self._fetch_from(link, ask, model, name, limit)
            check(data)
            return data

        with trio.move_on_after(FILE_S + limit / FILE_BYTES):
            return await self._offerers.first(peers, fetch_from)
        raise Refused("nobody sent it in time", Code.SILENT)

    async def _fetch_from(self, link: Link, ask: Ask, model: ModelId, name: str, limit: int) -> bytes:
        """The first part says how long the file is; of the others AHEAD are asked for at once."""
        first = await self._part(link, model, name, 0)
        if first.size > limit:
            raise Refused(f"{name or 'the manifest'} of {first.size} bytes, limit {limit}", Code.NOT_FOUND)
        parts = {0: first.data}
        ask.received = len(first.data)
        offsets = iter(range(len(first.data), first.size, PART))
        failures: list[PeerError | RemoteProtocolError] = []

        async def fetch_parts() -> None:
            try:
                for offset in offsets:
                    part = await self._part(link, model, name, offset)
                    if len(part.data) != min(PART, first.size - offset):
                        raise Refused(f"a part of {len(part.data)} bytes, {PART} were asked for", Code.SILENT)
                    parts[offset] = part.data
                    ask.received += len(part.data)
            except (PeerError, RemoteProtocolError) as error:
                failures.append(error)
                nursery.cancel_scope.cancel()

        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for _ in range(AHEAD):
                nursery.start_soon(fetch_parts)
        if failures:
            raise failures[0]
        if (size := first.size - len(first.data)) >= AHEAD * PART:
            now = trio.current_time()
            self._measures.note_rate(link.peer, size / max(now - began, SHORTEST_S), now)
        return b"".join(parts[offset] for offset in sorted(parts))

    async def _part(self, link: Link, model: ModelId, name: str, offset: int) -> FilePart:
        """Ask for a part, again while the peer is busy; the deadline is the file's."""
        while True:
            try:
                return await self._exchange.call(link, partial(_ask, model, name, offset), FilePart)
            except Refused as refusal:
                if refusal.code is not Code.BUSY or refusal.retry_s is None or refusal.retry_s > LONG_S:
                    raise
                await trio.sleep(min(refusal.retry_s, BUSY_S))


def _ask(model: ModelId, name: str, offset: int, call: int) -> AskFile:
    return AskFile(call, model, name, offset, PART)
