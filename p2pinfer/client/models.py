"""Which model a request means, and what the client needs of it: manifest and tokenizer, from the store or from peers.

Whatever comes from a peer is checked against the model's id, so any peer will do.
"""

from collections.abc import Sequence
from functools import partial
from typing import Final

import trio

from p2pinfer.core.codes import Code
from p2pinfer.core.errors import ModelError, PeerError, Refused, RemoteProtocolError
from p2pinfer.core.manifest import CLIENT_FILES, MAX_MANIFEST, TOKENIZER
from p2pinfer.core.messages import MAX_PART, AskFile, FilePart
from p2pinfer.core.offers import KnownOffer
from p2pinfer.core.text import Texts
from p2pinfer.core.units import ModelId
from p2pinfer.disk.store import MIN_ID_DIGITS, Store, StoredModel
from p2pinfer.overlay.directory import Directory
from p2pinfer.overlay.exchange import Exchange
from p2pinfer.overlay.link import Link
from p2pinfer.overlay.network import Network
from p2pinfer.overlay.reach import reach

MAX_CLIENT_FILE: Final = 64 << 20  # bytes; the largest tokenizers have about 35 MB


class Models:
    """The models that the swarm serves, as far as this client knows."""

    def __init__(self, store: Store, directory: Directory, network: Network, exchange: Exchange) -> None:
        self._store = store
        self._directory = directory
        self._network = network
        self._exchange = exchange
        self._texts: dict[ModelId, Texts] = {}
        self._loading: dict[ModelId, trio.Lock] = {}

    async def find(self, name_or_id: str) -> StoredModel:
        """The model of that name or id that the swarm serves; of an empty name the only one.

        Raises ModelError where none is, or several are: the message has the names or ids to choose from.
        """
        offers = self._directory.offers() or await self._directory.look()
        hits = await self._hits(name_or_id, offers)
        if not hits:
            hits = await self._hits(name_or_id, await self._directory.look())
        if len(hits) == 1:
            return hits[0]
        if hits:
            ids = ", ".join(f"{model.id.hex()} ({model.name})" for model in hits)
            raise ModelError(f"{len(hits)} models are meant by {name_or_id!r}; say which with --model: {ids}")
        served = await self._hits("", self._directory.offers())
        if not served and self._directory.is_alone:
            raise ModelError(
                "no peer serves any model: none of those named can be reached; check that they run, and the "
                "addresses given with --bootstrap"
            )
        if not served:
            raise ModelError("no peer serves any model; name a peer that does with --bootstrap")
        names = ", ".join(sorted(model.name for model in served))
        raise ModelError(f"nobody serves a model {name_or_id!r}; on offer: {names}")

    async def texts(self, model: StoredModel) -> Texts:
        """The model's tokenizer and template, fetched if they are not here."""
        async with self._loading.setdefault(model.id, trio.Lock()):  # many ask at once, and one loads
            if model.id not in self._texts:
                self._texts[model.id] = await self._load(model)
        return self._texts[model.id]

    async def _load(self, model: StoredModel) -> Texts:
        for name in self._store.missing(model.id, CLIENT_FILES):
            await self._fetch(model, name)
        data = await trio.to_thread.run_sync(self._store.read, model.id, TOKENIZER)
        return await trio.to_thread.run_sync(Texts, data, model.manifest)

    async def _hits(self, wanted: str, offers: Sequence[KnownOffer]) -> list[StoredModel]:
        """Served models whose name or id is meant, in order of name and id."""
        found = []
        for id_ in {known.offer.record.model for known in offers}:
            model = await self._manifest(id_)
            if model is not None and _means(wanted.lower(), model):
                found.append(model)
        return sorted(found, key=lambda model: (model.name, model.id))

    async def _manifest(self, id_: ModelId) -> StoredModel | None:
        """The manifest of a served model; None where nobody hands it out."""
        if (model := self._store.get(id_)) is not None:
            return model
        try:
            data = await self._download(id_, "", MAX_MANIFEST)
            return await trio.to_thread.run_sync(self._store.add_manifest, data, id_)
        except (PeerError, RemoteProtocolError):
            return None

    async def _fetch(self, model: StoredModel, name: str) -> None:
        try:
            data = await self._download(model.id, name, MAX_CLIENT_FILE)
            await trio.to_thread.run_sync(self._store.add_file, model.id, name, [data])
        except (PeerError, RemoteProtocolError) as error:
            raise ModelError(f"{model.name}: no peer hands out {name}: {error}") from None

    async def _download(self, model: ModelId, name: str, limit: int) -> bytes:
        """A whole file from the first peer that has it.

        Raises PeerError: the last peer's reason.
        """
        failure: PeerError = Refused("nobody serves the model", Code.NOT_FOUND)
        for known in self._directory.offers(model):
            try:
                return await self._download_from(await self._reach(known), model, name, limit)
            except PeerError as error:
                failure = error
        raise failure

    async def _download_from(self, link: Link, model: ModelId, name: str, limit: int) -> bytes:
        data = bytearray()
        while True:
            part = await self._exchange.call(link, partial(_ask, model, name, len(data)), FilePart)
            data += part.data
            if part.size > limit:
                raise Refused(f"{name} of {part.size} bytes, limit {limit}", Code.NOT_FOUND)
            if len(data) >= part.size:
                return bytes(data)
            if not part.data:
                raise Refused(f"{name} ends after {len(data)} of {part.size} bytes", Code.NOT_FOUND)

    async def _reach(self, known: KnownOffer) -> Link:
        return await reach(self._network, known.node, known.addresses)


def _ask(model: ModelId, name: str, offset: int, call: int) -> AskFile:
    return AskFile(call, model, name, offset, MAX_PART)


def _means(wanted: str, model: StoredModel) -> bool:
    """Whether a name, an id or the first digits of one mean the model; nothing means any."""
    id_ = model.id.hex()
    return wanted in ("", model.name.lower(), id_) or (len(wanted) >= MIN_ID_DIGITS and id_.startswith(wanted))
