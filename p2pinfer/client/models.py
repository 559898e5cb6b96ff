"""The model that a request means, with its manifest and tokenizer, from the store or from peers.

A name is the owner's: what was imported on this machine goes before all that strangers call so. What came from peers is
kept apart in the store, and checked against the model's id, so any peer will do.
"""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from hashlib import sha256
from math import inf
from typing import Final

import trio

from p2pinfer.client.arrivals import Arrivals, NotYet
from p2pinfer.client.file_search import Fetcher
from p2pinfer.client.manifests import AGAIN_S, Manifests
from p2pinfer.client.scribe import Scribe
from p2pinfer.core.models.manifest import MAX_MANIFEST, MAX_MODEL_TEXT, TOKENIZER, File
from p2pinfer.core.swarm.offers import KnownOffer
from p2pinfer.core.values.alternation import in_turn
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import ModelError, PeerError, RemoteProtocolError
from p2pinfer.core.values.units import ModelId
from p2pinfer.disk.store import MIN_ID_DIGITS, Store, StoredModel
from p2pinfer.overlay.directory import Directory

MAX_IDS: Final = 16  # in a sentence that names them
NAMESAKES_S: Final = 1.0  # for other models of the name that was asked for, once there is one
TYPO_S: Final = 3.0  # for a name that nobody here knows, while other models are served: it is a slip, more likely


class Models:
    """The models that the swarm serves, as far as this client knows."""

    def __init__(self, store: Store, directory: Directory, fetcher: Fetcher, nursery: trio.Nursery) -> None:
        self._store = store
        self._fetched = store.fetched
        self._directory = directory
        self._fetcher = fetcher
        self._manifests = Manifests(self._fetched, fetcher, nursery, directory.news)
        self._scribes: dict[ModelId, Scribe] = {}
        self._loading: dict[ModelId, trio.Lock] = {}
        self._failed: dict[ModelId, NotYet | ModelError] = {}  # the last load that came to nothing

    async def find(self, name_or_id: str) -> StoredModel:
        """The model of that name or id that the swarm serves; of an empty name the only one. Looks once.

        Raises ModelError where none is, or several are: the message has the names or ids to choose from.
        """
        return await self.wait(name_or_id, Arrivals(self._directory))

    async def wait(self, name_or_id: str, waiting: Arrivals) -> StoredModel:
        """The same, as soon as somebody serves it.

        Whatever the patience, manifests have theirs, from when there was the first to ask for.
        """
        began_s = inf  # when there was a manifest to wait for

        async def attempt() -> StoredModel:
            nonlocal began_s
            offers = self._directory.offers()
            served = _most_served(offers)
            hits = await self._hits(name_or_id, offers, served)
            if len(hits) == 1:
                return hits[0]
            if hits:
                ids = ", ".join(f"{model.id.hex()} ({model.name})" for model in hits)
                raise ModelError(f"{len(hits)} models are meant by {name_or_id!r}; say which with --model: {ids}")
            until = -inf
            if self._manifests.are_coming(self._strangers(name_or_id, served)):
                began_s = min(began_s, trio.current_time())
                until = began_s + self._manifests.patience_s
            raise self._nobody(name_or_id, served, until)

        return await waiting.get(attempt)

    async def names(self, offers: Sequence[KnownOffer]) -> dict[ModelId, str]:
        """Names of models on offer, as far as they are known or told in time."""
        served = _most_served(offers)
        imported = {id_: model.name for id_, model in self._imported(served).items()}
        return imported | await self._manifests.all_names([id_ for id_ in served if id_ not in imported], offers)

    async def scribe(self, model: StoredModel, waiting: Arrivals) -> Scribe:
        """The model's tokenizer and template at work, fetched if they are not here.

        waiting: the patience with those who hand it out, each of whom is asked once in any case

        Raises ModelError.
        """
        while True:
            try:
                return await self._load(model)
            except NotYet as failure:
                waiting.check(failure)
            await trio.sleep_until(min(waiting.ends, trio.current_time() + AGAIN_S))  # others may offer it by then

    async def aclose(self) -> None:
        """End the processes of all scribes."""
        for scribe in self._scribes.values():
            await scribe.aclose()

    # Which model is meant

    async def _hits(
        self, name_or_id: str, offers: Sequence[KnownOffer], served: Sequence[ModelId]
    ) -> list[StoredModel]:
        """Served models whose name or id is meant: imported ones, or else strangers'; in order of name and id."""
        wanted = name_or_id.lower()
        imported = self._imported(served)
        hits = [model for model in imported.values() if _means(wanted, model.name, model.id)]
        if not hits and not self._is_imported(wanted):
            others_s = NAMESAKES_S if wanted else self._manifests.patience_s  # nothing means any: are there others?
            hits = await self._manifests.find(
                self._strangers(name_or_id, served),
                offers,
                partial(_means, wanted),
                others_s,
            )
        return sorted(hits, key=lambda model: (model.name, model.id))

    def _imported(self, served: Sequence[ModelId]) -> dict[ModelId, StoredModel]:
        """Of these models those in our own store: strangers may offer thousands, and each look there opens a file."""
        ours = {model.id: model for model in self._store.models()}
        return {id_: ours[id_] for id_ in served if id_ in ours}

    def _is_imported(self, wanted: str) -> bool:
        """The name is one that the owner gave, whatever strangers call so."""
        return any(wanted == model.name.lower() for model in self._store.models())

    def _strangers(self, name_or_id: str, served: Sequence[ModelId]) -> list[ModelId]:
        """Served models that nobody imported here, and that may be meant."""
        wanted = name_or_id.lower()
        imported = self._imported(served)
        unknown = [id_ for id_ in served if id_ not in imported]
        return [id_ for id_ in unknown if wanted and _means(wanted, "", id_)] or unknown

    def _nobody(self, name_or_id: str, served: Sequence[ModelId], until: float) -> NotYet:
        """The reason for which no model is found, and the names of those that there are.

        until: when manifests that were asked for should have come
        """
        wanted, missing = name_or_id.lower(), self._missing(name_or_id)
        if self._is_imported(wanted):
            ids = ", ".join(id_.hex() for id_ in served[:MAX_IDS]) or "none"
            error = ModelError(
                f"nobody serves {name_or_id!r} as it was imported here; another model is meant by its id: --model ID; "
                f"on offer: {ids}"
            )
            return NotYet(error, missing)
        strangers, names = self._strangers(name_or_id, served), ", ".join(self._known_names(served))
        unread = len(strangers) - len(self._manifests.names(strangers))
        if unread and (not names or (wanted and _means(wanted, "", strangers[0]))):
            error = ModelError(f"{_unread(unread)}: whoever offers it is silent or far away; --wait gives it longer")
            return NotYet(error, f"the manifest of {_models(unread)} on offer", until=until)
        if names:
            more = f"; {_unread(unread)}" if unread else ""
            error = ModelError(f"nobody serves a model {name_or_id!r}; on offer: {names}{more}")
            patience_s = inf if _is_id(name_or_id) else TYPO_S
            return NotYet(error, f"{missing}; on offer: {names}", patience_s, until)
        if self._directory.is_alone:
            error = ModelError(
                "no peer serves any model: none of those named can be reached; check that they run, and the "
                "addresses given with --bootstrap"
            )
        else:
            error = ModelError(
                "no peer serves any model; name a peer that does with --bootstrap, or start one: p2pinfer node"
            )
        return NotYet(error, missing)

    def _missing(self, name_or_id: str) -> str:
        """The first thing that is missing, on the way to a model."""
        if self._directory.is_alone:
            return "a peer that answers: none of those named with --bootstrap does"
        if not self._directory.has_links:
            return "a peer to ask, of which none is known"
        return f"a node that serves {name_or_id!r}" if name_or_id else "a node that serves a model"

    def _known_names(self, served: Sequence[ModelId]) -> list[str]:
        """Names of the models on offer whose manifests are here."""
        imported = [model.name for id_ in served if (model := self._store.get(id_)) is not None]
        return sorted({*imported, *self._manifests.names(served).values()})

    # What a client needs of it

    async def _load(self, model: StoredModel) -> Scribe:
        """Many ask at once, and one loads; where that comes to nothing, it does for all who waited for it.

        So nobody waits for longer than one fetch, however patient the others are. Raises as `_tokenizer` does.
        """
        before = self._failed.get(model.id)
        async with self._loading.setdefault(model.id, trio.Lock()):
            last = self._failed.get(model.id)
            if last is not None and last is not before:
                raise NotYet(last.error, last.missing) if isinstance(last, NotYet) else ModelError(str(last))
            if model.id not in self._scribes:
                try:
                    self._scribes[model.id] = Scribe(model, await self._tokenizer(model))
                except (NotYet, ModelError) as failure:
                    self._failed[model.id] = failure
                    raise
        return self._scribes[model.id]

    async def _tokenizer(self, model: StoredModel) -> bytes:
        """Raises ModelError where an imported one was altered, NotYet where nobody hands out one that is not here."""
        if self._store.get(model.id) is not None and not self._store.missing(model.id, [TOKENIZER]):
            return await trio.to_thread.run_sync(self._store.read, model.id, TOKENIZER)
        if self._fetched.get(model.id) is None:
            manifest = self._manifests.data(model.id) or self._store.read_part(model.id, "", 0, MAX_MANIFEST)[1]
            await trio.to_thread.run_sync(self._fetched.add_manifest, manifest, model.id)
        read = partial(self._fetched.read, model.id, TOKENIZER)
        try:
            return await trio.to_thread.run_sync(read)
        except ModelError:  # it is missing, or not what peers sent: nobody imported it who could do so again
            await self._fetch_tokenizer(model)
        return await trio.to_thread.run_sync(read)

    async def _fetch_tokenizer(self, model: StoredModel) -> None:
        file = model.manifest.file(TOKENIZER)
        assert file is not None  # a manifest without it is none
        if file.size > MAX_MODEL_TEXT:
            raise ModelError(f"{model.name}: a tokenizer of {file.size:,} bytes, limit {MAX_MODEL_TEXT:,}")
        try:
            data = await self._fetcher.fetch(
                self._directory.offers(model.id), model.id, TOKENIZER, file.size, partial(_check_file, file)
            )
        except PeerError as error:
            failure = ModelError(f"{model.name}: no peer hands out {TOKENIZER}: {error}")
            raise NotYet(failure, f"a peer that hands out {TOKENIZER} of {model.name}") from None
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
    return list(dict.fromkeys(in_turn(by_network.values())))


def _models(count: int) -> str:
    return "1 model" if count == 1 else f"{count} models"


def _unread(count: int) -> str:
    """Says that the manifests of so many models did not come in time."""
    return f"the manifest of {_models(count)} on offer did not come in time"


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
