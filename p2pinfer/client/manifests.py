"""Manifests of models that nobody imported here: asked for among those that offer them, kept while they are of use.

Each is fetched in a task of the client's. Whoever wants it meanwhile joins, so that a look-up that ends too soon for a
slow link leaves the next one something to go on with. One that does not come holds up no other.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Collection, Sequence
from functools import partial
from math import inf
from typing import Final, NamedTuple, TypeVar

import trio

from p2pinfer.client.file_search import Fetcher
from p2pinfer.core.models.manifest import MAX_MANIFEST, decode_manifest, model_id
from p2pinfer.core.swarm.offers import KnownOffer
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import PeerError, RemoteProtocolError
from p2pinfer.core.values.units import ModelId, PeerKey
from p2pinfer.disk.store import Store, StoredModel
from p2pinfer.overlay.news import News

T = TypeVar("T")

AT_ONCE: Final = 16  # asked for in one moment
SOON_S: Final = 1.0  # a manifest that has not come by then makes way for the next one, and may still come
COME_S: Final = 8.0  # one is waited for so long,
COME_TRIPS: Final = 6  # or so many round trips: three to dial, one for each of two parts, and one to spare
FAR_S: Final = 2.0  # of at most this: mobile and satellite links; who is further away may keep a person waiting
LIFE_S: Final = COME_TRIPS * FAR_S  # of a fetch, whoever has ceased to wait for it
MAX_KEPT: Final = 64  # manifests remembered
MAX_UNDER_WAY: Final = 96  # manifests that are asked for and have not come
MAX_TASKS: Final = 3  # for one of them: peers that offer it later are asked beside the first
MISSED_S: Final = 60.0  # one that did not come is not waited for so long, where the wanted one is here
AGAIN_S: Final = 2.0  # and where none is, it is asked for again no sooner
MAX_ASKED: Final = 1_024  # of which it is remembered when they were asked for


class _Kept(NamedTuple):
    name: str
    data: bytes
    came_s: float


class _Fetch:
    """One manifest under way.

    asked:  nodes that it is asked for among
    scopes: of the tasks that ask and are not over
    """

    def __init__(self) -> None:
        self.began_s = trio.current_time()
        self.asked: set[PeerKey] = set()
        self.scopes: list[trio.CancelScope] = []


class Manifests:
    """Those of one client. Fetches run in `nursery`; `news` tells of each that is over.

    fetched: the store of what came from peers
    """

    def __init__(self, fetched: Store, fetcher: Fetcher, nursery: trio.Nursery, news: News) -> None:
        self._fetched = fetched
        self._fetcher = fetcher
        self._nursery = nursery
        self._news = news
        self._kept: dict[ModelId, _Kept] = {}  # what came first, first
        self._asked: dict[ModelId, float] = {}  # when each was asked for last
        self._under_way: dict[ModelId, _Fetch] = {}
        self._slots = trio.Semaphore(AT_ONCE)
        self._queue: deque[tuple[ModelId, _Fetch, Sequence[KnownOffer], trio.CancelScope]] = deque()  # for a slot
        self._is_starting = False

    @property
    def patience_s(self) -> float:
        """Seconds for which one that was asked for now may be worth waiting, by the farthest of our links."""
        return max(COME_S, COME_TRIPS * min(self._fetcher.farthest_s, FAR_S))

    def data(self, id_: ModelId) -> bytes | None:
        """The model's manifest as it came; None where it is not here."""
        kept = self._kept.get(id_)
        return None if kept is None else kept.data

    def names(self, ids: Collection[ModelId]) -> dict[ModelId, str]:
        """Those of the models whose manifests are here, and their names."""
        return {id_: self._kept[id_].name for id_ in ids if id_ in self._kept}

    def are_coming(self, ids: Collection[ModelId]) -> bool:
        """True while one of them is asked for."""
        return any(id_ in self._under_way for id_ in ids)

    async def find(
        self,
        ids: Sequence[ModelId],
        offers: Sequence[KnownOffer],
        is_meant: Callable[[str, ModelId], bool],
        others_s: float,
    ) -> list[StoredModel]:
        """Those of the models that are here, and meant by name or id; where none is, nobody is waited for.

        The others are asked for.

        others_s: seconds to wait for others that may be meant, too, once one is here
        """
        self._seek(ids, offers, again=not self._meant(ids, is_meant))
        if meant := self._meant(ids, is_meant):
            self._kept |= {id_: self._kept.pop(id_) for id_ in meant}  # they are forgotten last
            came_s = min(self._kept[id_].came_s for id_ in meant)
            await self._wait(lambda: self._others_until(ids, came_s, others_s))
        await trio.lowlevel.checkpoint()
        return [
            StoredModel(id_, decode_manifest(self._kept[id_].data), self._fetched.root)
            for id_ in self._meant(ids, is_meant)
        ]

    def _meant(self, ids: Collection[ModelId], is_meant: Callable[[str, ModelId], bool]) -> list[ModelId]:
        return [id_ for id_, name in self.names(ids).items() if is_meant(name, id_)]

    def _others_until(self, ids: Collection[ModelId], came_s: float, others_s: float) -> float:
        under_way = [self._under_way[id_].began_s for id_ in ids if id_ in self._under_way]
        return max((max(began_s, came_s) + others_s for began_s in under_way), default=-inf)

    async def all_names(self, ids: Sequence[ModelId], offers: Sequence[KnownOffer]) -> dict[ModelId, str]:
        """Names of all that are here, or come in time."""
        self._seek(ids, offers, again=not self.names(ids))
        began_s = trio.current_time()
        await self._wait(lambda: began_s + self.patience_s if self.are_coming(ids) else -inf)
        return self.names(ids)

    async def _wait(self, until: Callable[[], float]) -> None:
        """Wait until then, which changes with what comes."""
        while (until_s := until()) > trio.current_time():
            with trio.move_on_at(until_s):
                await self._news.coming.wait()

    # Fetching

    def _seek(self, ids: Sequence[ModelId], offers: Sequence[KnownOffer], *, again: bool) -> None:
        """Ask for those that are not here, in their order, and last for those that were asked for in vain.

        again: for these, too, though it was not long ago
        """
        now = trio.current_time()
        peers: dict[ModelId, list[KnownOffer]] = defaultdict(list)
        for known in offers:
            peers[known.offer.record.model].append(known)
        rested = now - (AGAIN_S if again else MISSED_S)
        absent = [id_ for id_ in ids if id_ not in self._kept]
        missed = {id_ for id_ in absent if id_ in self._asked and id_ not in self._under_way}
        first = [id_ for id_ in absent if id_ not in missed]
        for id_ in [*first, *(id_ for id_ in absent if id_ in missed and self._asked[id_] <= rested)]:
            self._ask(id_, peers[id_])

    def _ask(self, id_: ModelId, offers: Sequence[KnownOffer]) -> None:
        """Begin to ask for it, or ask those, too, that offer it by now."""
        fetch = self._under_way.get(id_)
        if fetch is None:
            if len(self._under_way) >= MAX_UNDER_WAY:
                return
            if self._fetched.get(id_) is not None:
                self._keep(id_, self._fetched.read_part(id_, "", 0, MAX_MANIFEST)[1])
                return
            fetch = self._under_way[id_] = _Fetch()
            _keep(self._asked, id_, fetch.began_s, MAX_ASKED)
        new = [known for known in offers if known.node not in fetch.asked]
        if not fetch.scopes or (new and len(fetch.scopes) < MAX_TASKS):
            fetch.asked.update(known.node for known in new)
            scope = trio.CancelScope()
            if fetch.scopes:
                self._nursery.start_soon(self._run, id_, fetch, new, scope)
            else:
                self._start_in_turn(id_, fetch, new, scope)
            fetch.scopes.append(scope)

    def _start_in_turn(self, id_: ModelId, fetch: _Fetch, peers: Sequence[KnownOffer], scope: trio.CancelScope) -> None:
        self._queue.append((id_, fetch, peers, scope))
        if not self._is_starting:
            self._is_starting = True
            self._nursery.start_soon(self._start_queued)

    async def _start_queued(self) -> None:
        """Start what waits, in its order: whoever is ranked first is asked for first."""
        while self._queue:
            await self._slots.acquire()
            self._nursery.start_soon(self._run_in_slot, *self._queue.popleft())
        self._is_starting = False

    async def _run_in_slot(
        self, id_: ModelId, fetch: _Fetch, peers: Sequence[KnownOffer], scope: trio.CancelScope
    ) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._make_way)
            await self._run(id_, fetch, peers, scope)
            nursery.cancel_scope.cancel()

    async def _run(self, id_: ModelId, fetch: _Fetch, peers: Sequence[KnownOffer], scope: trio.CancelScope) -> None:
        scope.deadline = trio.current_time() + LIFE_S
        try:
            with scope:
                await self._fetch(id_, peers)
        finally:
            fetch.scopes.remove(scope)
            if id_ in self._kept:
                for other in fetch.scopes:
                    other.cancel()
            if not fetch.scopes:
                del self._under_way[id_]
            self._news.tell()

    async def _make_way(self) -> None:
        try:
            await trio.sleep(SOON_S)
        finally:
            self._slots.release()

    async def _fetch(self, id_: ModelId, peers: Sequence[KnownOffer]) -> None:
        try:
            data = await self._fetcher.fetch(peers, id_, "", MAX_MANIFEST, partial(_check, id_))
        except PeerError:
            return
        self._keep(id_, data)

    def _keep(self, id_: ModelId, data: bytes) -> None:
        _keep(self._kept, id_, _Kept(decode_manifest(data).name, data, trio.current_time()), MAX_KEPT)


def _keep(kept: dict[ModelId, T], id_: ModelId, value: T, most: int) -> None:
    """The latest, as many as are remembered."""
    kept.pop(id_, None)
    kept[id_] = value
    while len(kept) > most:
        del kept[next(iter(kept))]


def _check(id_: ModelId, data: bytes) -> None:
    """Raises RemoteProtocolError for bytes that are not the model's manifest."""
    if model_id(data) != id_:
        raise RemoteProtocolError(f"the manifest of model {model_id(data).hex()}, not of {id_.hex()}", Code.BAD_RECORD)
    decode_manifest(data)
