"""The model that a request means, with its manifest and tokenizer, from the store or from peers.

A name is the owner's: what was imported on this machine goes before all that strangers call so. What came from peers is
kept apart in the store, and checked against the model's id, so any peer will do.
"""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from hashlib import sha256
from itertools import zip_longest
from math import inf
from typing import Final, TypeVar

import trio

from p2pinfer.client.fetching import Fetcher
from p2pinfer.client.scribe import Scribe
from p2pinfer.client.waiting import NotYet, Waiting
from p2pinfer.core.codes import Code
from p2pinfer.core.errors import ModelError, PeerError, RemoteProtocolError
from p2pinfer.core.manifest import MAX_MANIFEST, TOKENIZER, File, decode_manifest, model_id
from p2pinfer.core.offers import KnownOffer
from p2pinfer.core.units import ModelId
from p2pinfer.disk.store import MIN_ID_DIGITS, Store, StoredModel
from p2pinfer.overlay.directory import Directory

T = TypeVar("T")

MAX_CLIENT_FILE: Final = 64 << 20  # bytes; the largest tokenizers have about 35 MB
MAX_STRANGERS: Final = 16  # models that nobody imported here whose manifests are asked for at once
MANIFEST_SOON_S: Final = 1.0  # a manifest that has not come by then makes way for the next one, and may still come
MAX_MANIFESTS: Final = 64  # of them that are asked for in one go, and remembered
MAX_MISSED: Final = 1_024  # of those that did not come, remembered
MANIFESTS_S: Final = 8.0  # for all manifests of one question, looking for offers included; far peers need five
NAMESAKES_S: Final = 1.0  # of it, for other models of the name that was asked for, once there is one
MISSED_S: Final = 60.0  # a manifest that did not come is not waited for so long
TYPO_S: Final = 3.0  # for a name that nobody here knows, while other models are served: it is a slip, more likely


class Models:
    """The models that the swarm serves, as far as this client knows."""

    def __init__(self, store: Store, directory: Directory, fetcher: Fetcher) -> None:
        self._store = store
        self._fetched = store.fetched
        self._directory = directory
        self._fetcher = fetcher
        self._manifests: dict[ModelId, bytes] = {}  # of strangers' models; who was asked for first, first
        self._missed: dict[ModelId, float] = {}  # whose manifest did not come, and when it was asked for
        self._scribes: dict[ModelId, Scribe] = {}
        self._loading: dict[ModelId, trio.Lock] = {}

    async def find(self, name_or_id: str) -> StoredModel:
        """The model of that name or id that the swarm serves; of an empty name the only one. Looks once.

        Raises ModelError where none is, or several are: the message has the names or ids to choose from.
        """
        return await self.wait(name_or_id, Waiting(self._directory))

    async def wait(self, name_or_id: str, waiting: Waiting) -> StoredModel:
        """The same, as soon as somebody serves it."""
        in_all = trio.current_time() + MANIFESTS_S  # however many look-ups there are, but for a moment each

        async def attempt() -> StoredModel:
            return await self._find_now(name_or_id, max(in_all, trio.current_time() + NAMESAKES_S))

        return await waiting.get(attempt)

    async def _find_now(self, name_or_id: str, until: float) -> StoredModel:
        """Raises NotYet where nobody serves it, as far as is known now."""
        hits = await self._hits(name_or_id, self._directory.offers(), until)
        if len(hits) == 1:
            return hits[0]
        if hits:
            ids = ", ".join(f"{model.id.hex()} ({model.name})" for model in hits)
            raise ModelError(f"{len(hits)} models are meant by {name_or_id!r}; say which with --model: {ids}")
        raise self._nobody(name_or_id)

    async def names(self, offers: Sequence[KnownOffer]) -> dict[ModelId, str]:
        """Names of models on offer, as far as they are known or told within MANIFESTS_S."""
        served = _most_served(offers)
        imported = [model for id_ in served if (model := self._store.get(id_)) is not None]
        until = trio.current_time() + MANIFESTS_S
        strangers = await self._strangers([id_ for id_ in served if self._store.get(id_) is None], until)
        return {model.id: model.name for model in (*imported, *strangers)}

    async def scribe(self, model: StoredModel) -> Scribe:
        """The model's tokenizer and template at work, fetched if they are not here. Raises ModelError."""
        async with self._loading.setdefault(model.id, trio.Lock()):  # many ask at once, and one loads
            if model.id not in self._scribes:
                self._scribes[model.id] = Scribe(model, await self._tokenizer(model))
        return self._scribes[model.id]

    async def aclose(self) -> None:
        """End the processes of all scribes."""
        for scribe in self._scribes.values():
            await scribe.aclose()

    # Which model is meant

    async def _hits(self, name_or_id: str, offers: Sequence[KnownOffer], until: float) -> list[StoredModel]:
        """Served models whose name or id is meant: imported ones, or else strangers'; in order of name and id."""
        wanted = name_or_id.lower()
        served = _most_served(offers)
        imported = [model for id_ in served if (model := self._store.get(id_)) is not None]
        hits = [model for model in imported if _means(wanted, model.name, model.id)]
        if not hits and not self._is_imported(wanted):
            named = [id_ for id_ in served if wanted and _means(wanted, "", id_)]
            unknown = [id_ for id_ in served if self._store.get(id_) is None]
            strangers = await self._strangers(named or unknown, until, wanted)
            hits = [model for model in strangers if _means(wanted, model.name, model.id)]
        return sorted(hits, key=lambda model: (model.name, model.id))

    def _is_imported(self, wanted: str) -> bool:
        """The name is one that the owner gave, whatever strangers call so."""
        return any(wanted == model.name.lower() for model in self._store.models())

    async def _strangers(self, ids: Sequence[ModelId], until: float, wanted: str = "") -> list[StoredModel]:
        """Those of the models whose manifests are here, or come in time; the others nobody can use.

        Once there is one that is wanted by name the others are not waited for long. One that did not come in time is
        not asked for again for a while, unless none that is wanted is here.
        """
        now = trio.current_time()
        absent = [id_ for id_ in ids if id_ not in self._manifests]
        missed = [id_ for id_ in absent if self._missed.get(id_, -inf) + MISSED_S >= now]
        found = any(_means(wanted, self._stranger(id_).name, id_) for id_ in ids if id_ in self._manifests)
        fresh = [id_ for id_ in absent if id_ not in missed]
        sought = (fresh if found else [*fresh, *missed])[:MAX_MANIFESTS]
        asked: list[ModelId] = []
        slots = trio.Semaphore(MAX_STRANGERS)
        with trio.move_on_at(until) as waiting:
            async with trio.open_nursery() as nursery:
                for id_ in sought:
                    await slots.acquire()
                    asked.append(id_)
                    nursery.start_soon(self._fetch_wanted, id_, wanted, waiting, slots)
        for id_ in asked:
            if id_ not in self._manifests:
                _keep(self._missed, id_, now, MAX_MISSED)
        return [self._stranger(id_) for id_ in ids if id_ in self._manifests]

    async def _fetch_wanted(self, id_: ModelId, wanted: str, waiting: trio.CancelScope, slots: trio.Semaphore) -> None:
        async def make_way() -> None:
            try:
                await trio.sleep(MANIFEST_SOON_S)
            finally:
                slots.release()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(make_way)
            await self._fetch_manifest(id_)
            nursery.cancel_scope.cancel()
        if wanted and id_ in self._manifests and _means(wanted, self._stranger(id_).name, id_):
            waiting.deadline = min(waiting.deadline, trio.current_time() + NAMESAKES_S)

    async def _fetch_manifest(self, id_: ModelId) -> None:
        if self._fetched.get(id_) is not None:
            data = self._fetched.read_part(id_, "", 0, MAX_MANIFEST)[1]
        else:
            try:
                data = await self._fetcher.fetch(
                    self._directory.offers(id_), id_, "", MAX_MANIFEST, partial(_check_manifest, id_)
                )
            except PeerError:
                return
        _keep(self._manifests, id_, data)

    def _stranger(self, id_: ModelId) -> StoredModel:
        return StoredModel(id_, decode_manifest(self._manifests[id_]), self._fetched.root)

    def _nobody(self, name_or_id: str) -> NotYet:
        """The reason for which no model is found, and the names of those that there are."""
        offers, missing = self._directory.offers(), self._missing(name_or_id)
        if self._is_imported(name_or_id.lower()):
            ids = ", ".join(id_.hex() for id_ in _most_served(offers)[:MAX_STRANGERS]) or "none"
            error = ModelError(
                f"nobody serves {name_or_id!r} as it was imported here; another model is meant by its id: --model ID; "
                f"on offer: {ids}"
            )
            return NotYet(error, missing)
        if names := ", ".join(self._known_names(offers)):
            error = ModelError(f"nobody serves a model {name_or_id!r}; on offer: {names}")
            return NotYet(error, f"{missing}; on offer: {names}", inf if _is_id(name_or_id) else TYPO_S)
        if self._directory.is_alone:
            error = ModelError(
                "no peer serves any model: none of those named can be reached; check that they run, and the "
                "addresses given with --bootstrap"
            )
        else:
            error = ModelError("no peer serves any model; name a peer that does with --bootstrap")
        return NotYet(error, missing)

    def _missing(self, name_or_id: str) -> str:
        """The first thing that is missing, on the way to a model."""
        if self._directory.is_alone:
            return "a peer that answers: none of those named with --bootstrap does"
        if not self._directory.has_links:
            return "a peer to ask, of which none is known"
        return f"a node that serves {name_or_id!r}" if name_or_id else "a node that serves a model"

    def _known_names(self, offers: Sequence[KnownOffer]) -> list[str]:
        """Names of the models on offer whose manifests are here."""
        served = _most_served(offers)
        imported = [model for id_ in served if (model := self._store.get(id_)) is not None]
        strangers = [self._stranger(id_) for id_ in served if id_ in self._manifests]
        return sorted({model.name for model in (*imported, *strangers)})

    # What a client needs of it

    async def _tokenizer(self, model: StoredModel) -> bytes:
        """Raises ModelError where it was altered, or nobody hands it out."""
        if self._store.get(model.id) is not None and not self._store.missing(model.id, [TOKENIZER]):
            return await trio.to_thread.run_sync(self._store.read, model.id, TOKENIZER)
        if self._fetched.get(model.id) is None:
            manifest = self._manifests.get(model.id) or self._store.read_part(model.id, "", 0, MAX_MANIFEST)[1]
            await trio.to_thread.run_sync(self._fetched.add_manifest, manifest, model.id)
        if self._fetched.missing(model.id, [TOKENIZER]):
            await self._fetch_tokenizer(model)
        return await trio.to_thread.run_sync(self._fetched.read, model.id, TOKENIZER)

    async def _fetch_tokenizer(self, model: StoredModel) -> None:
        file = model.manifest.file(TOKENIZER)
        assert file is not None  # a manifest without it is none
        if file.size > MAX_CLIENT_FILE:
            raise ModelError(f"{model.name}: a tokenizer of {file.size:,} bytes, limit {MAX_CLIENT_FILE:,}")
        try:
            data = await self._fetcher.fetch(
                self._directory.offers(model.id), model.id, TOKENIZER, file.size, partial(_check_file, file)
            )
        except PeerError as error:
            raise ModelError(f"{model.name}: no peer hands out {TOKENIZER}: {error}") from None
        await trio.to_thread.run_sync(self._fetched.add_file, model.id, TOKENIZER, [data])


def _most_served(offers: Sequence[KnownOffer]) -> list[ModelId]:
    """Models on offer, those first that most networks tell of, and of these the ones that most owners offer.

    Keys cost nothing, so whoever makes models up has as many owners as he likes; so the networks that tell of models
    have their turns.
    """
    told = {(known.offer.record.model, known.network) for known in offers}
    owned = {(known.offer.record.model, known.offer.record.owner) for known in offers}
    tellers, owners = Counter(model for model, _ in told), Counter(model for model, _ in owned)
    ranked = sorted(tellers, key=lambda model: (-tellers[model], -owners[model], model))
    by_network = {network: [model for model in ranked if (model, network) in told] for _, network in sorted(told)}
    turns = zip_longest(*by_network.values())
    return list(dict.fromkeys(model for turn in turns for model in turn if model is not None))


def _keep(kept: dict[ModelId, T], id_: ModelId, value: T, most: int = MAX_MANIFESTS) -> None:
    """The latest, as many as are remembered."""
    kept.pop(id_, None)
    kept[id_] = value
    while len(kept) > most:
        del kept[next(iter(kept))]


def _check_manifest(id_: ModelId, data: bytes) -> None:
    """Raises RemoteProtocolError for bytes that are not the model's manifest."""
    if model_id(data) != id_:
        raise RemoteProtocolError(f"the manifest of model {model_id(data).hex()}, not of {id_.hex()}", Code.BAD_RECORD)
    decode_manifest(data)


def _check_file(file: File, data: bytes) -> None:
    """Raises RemoteProtocolError for bytes that are not the file."""
    if (len(data), sha256(data).digest()) != (file.size, file.digest):
        raise RemoteProtocolError(f"{file.name}: {len(data)} bytes of {file.size}, or another hash", Code.BAD_RECORD)


def _is_id(wanted: str) -> bool:
    """True for what is an id or the beginning of one, which nobody types from memory."""
    return len(wanted) >= MIN_ID_DIGITS and not set(wanted.lower()) - set("0123456789abcdef")


def _means(wanted: str, name: str, model: ModelId) -> bool:
    """A name, an id or the first digits of one mean the model; nothing means any."""
    id_ = model.hex()
    return wanted in ("", name.lower(), id_) or (len(wanted) >= MIN_ID_DIGITS and id_.startswith(wanted))
