"""Models on disk: one folder per model, named by its id, with the files its manifest names (protocols/manifest.md).

A node and the clients of one machine share a store. A folder may hold a part of a model: a client keeps manifest and
tokenizer, a stage the files of its span. A file is checked against its hash when it is written, and again the first
time a process reads it. Everything here waits for the disk: call it from a thread where that matters. Importing is in
`importing/`; getting files from peers is for those who know peers.
"""

import hashlib
import os
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from p2pinfer.core.models.manifest import MAX_MANIFEST, File, Manifest, decode_manifest, model_id
from p2pinfer.core.values.errors import ModelError, RemoteProtocolError
from p2pinfer.core.values.units import ModelId
from p2pinfer.disk.atomic import new_file, new_folder, place, sweep, write_atomic
from p2pinfer.disk.locks import LockHeld, hold_alone, hold_share
from p2pinfer.disk.plain import open_plain, read_small

MANIFEST: Final = "manifest"
ID: Final = re.compile("[0-9a-f]{64}")  # as a folder's name
MIN_ID_DIGITS: Final = 8  # of an id's hexadecimal digits that may stand for it
STALE_S: Final = 86_400  # an unfinished write older than a day belongs to a process long dead


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model of which the store has the manifest, and perhaps all files."""

    id: ModelId
    manifest: Manifest
    folder: Path

    @property
    def name(self) -> str:
        return self.manifest.name


class Store:
    """The models in a folder, made when something is first added."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._known: dict[ModelId, StoredModel] = {}
        self._checked: set[Path] = set()

    @property
    def fetched(self) -> "Store":
        """Models that clients fetched from peers, kept apart: no stranger's name meets an imported one."""
        return Store(self.root / "fetched")

    # Which models there are

    def models(self) -> list[StoredModel]:
        """Every model with a sound manifest, by name, then id."""
        found = [self.get(id_) for id_ in self._ids()]
        return sorted((model for model in found if model), key=lambda model: (model.name, model.id))

    def damaged(self) -> list[Path]:
        """Folders whose manifest is missing or was altered: nothing reads them."""
        return [self._folder(id_) for id_ in self._ids() if self.get(id_) is None]

    def get(self, id_: ModelId) -> StoredModel | None:
        """The model of that id, if its manifest is here and sound."""
        if id_ not in self._known:
            try:
                with self._words_for("read"):
                    data = read_small(self._folder(id_) / MANIFEST, MAX_MANIFEST)
                if model_id(data) != id_:
                    return None
                self._known[id_] = StoredModel(id_, decode_manifest(data), self._folder(id_))
            except (_NotThere, RemoteProtocolError):
                return None
        return self._known[id_]

    def find(self, name_or_id: str) -> StoredModel:
        """The one model of that name or id; the first digits of an id will do.

        Raises:
            ModelError: none is, or several are; the message has the names or ids to choose from.
        """
        models = self.models()
        wanted = name_or_id.lower()
        hits = [model for model in models if wanted in (model.name.lower(), model.id.hex())]
        if not hits and len(wanted) >= MIN_ID_DIGITS:
            hits = [model for model in models if model.id.hex().startswith(wanted)]
        if len(hits) == 1:
            return hits[0]
        if hits:
            ids = ", ".join(model.id.hex() for model in hits)
            raise ModelError(f"{len(hits)} models are called {name_or_id!r}; say which by its id: {ids}")
        names = ", ".join(sorted({model.name for model in models})) or "no model"
        raise ModelError(
            f"no model {name_or_id!r} in {self.root}, which holds {names}; "
            "import it: p2pinfer model import demo|FILE.gguf|FOLDER|hub:ORG/NAME"
        )

    # Reading

    def path(self, id_: ModelId, name: str) -> Path:
        """The file's path, after a check of its hash unless this process has made one.

        Raises:
            ModelError: the file is not here, is none of the model's, or was altered.
        """
        model, file = self._entry(id_, name)
        path = model.folder / file.name
        if path in self._checked:
            return path
        with self._words_for("read"):
            size, digest = path.stat().st_size, _digest(path)
        if (size, digest) != (file.size, file.digest):
            raise ModelError(
                f"{model.name}: {path} was altered ({size} bytes of {file.size}, or another hash); "
                "import the model again"
            )
        self._checked.add(path)
        return path

    def read(self, id_: ModelId, name: str) -> bytes:
        """All bytes of a checked file. Raises ModelError as `path` does."""
        with self._words_for("read"):
            return read_small(self.path(id_, name), self._entry(id_, name)[1].size)

    def read_part(self, id_: ModelId, name: str, offset: int, limit: int) -> tuple[int, bytes]:
        """The size of a file and at most `limit` of its bytes from `offset`; the manifest's own name is empty.

        Raises ModelError as `path` does: no name reaches outside the model's folder.
        """
        if name:
            path = self.path(id_, name)
        elif self.get(id_):
            path = self._folder(id_) / MANIFEST
        else:
            raise ModelError(f"no model {id_.hex()} in {self.root}")
        with self._words_for("read"), open_plain(path) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(offset)
            return size, file.read(limit)

    def missing(self, id_: ModelId, names: Iterable[str]) -> tuple[str, ...]:
        """Those of the files that are not here; their hashes are not looked at."""
        with self._words_for("read"):
            return tuple(name for name in names if not (self._folder(id_) / name).exists())

    # Adding

    def add_manifest(self, data: bytes, expected: ModelId | None = None) -> StoredModel:
        """Keep a manifest, the first part of a model.

        Raises:
            RemoteProtocolError: the bytes are no manifest, or not that of the model `expected`.
            ModelError: it cannot be written.
        """
        id_, manifest = model_id(data), decode_manifest(data)
        if expected not in (None, id_):
            raise RemoteProtocolError(f"the manifest of model {id_.hex()}, not of {expected.hex()}")
        with self._words_for("write"):
            self._folder(id_).mkdir(parents=True, exist_ok=True)
            write_atomic(self._folder(id_) / MANIFEST, data)
        self._known[id_] = StoredModel(id_, manifest, self._folder(id_))
        return self._known[id_]

    def add_file(self, id_: ModelId, name: str, parts: Iterable[bytes]) -> Path:
        """Keep a file of a model whose manifest is here; nothing is kept of a wrong one.

        Raises:
            RemoteProtocolError: the bytes are not those the manifest names.
            ModelError: the manifest is not here or does not name the file, or it cannot be written.
        """
        model, file = self._entry(id_, name)
        path = model.folder / file.name
        with self._words_for("write"), new_file(model.folder) as draft:
            sweep(model.folder, older_than=time.time() - STALE_S)
            _write_checked(draft, parts, file)
            place(draft, path)
        self._checked.add(path)
        return path

    @contextmanager
    def new_model(self) -> Iterator[Path]:
        """A folder to build a whole model in; `add_model` keeps it, else it is gone at the end of the block.

        Raises:
            ModelError: something in the block could not be written.
        """
        with self._words_for("write"):
            folder = self.root / "models"
            folder.mkdir(parents=True, exist_ok=True)
            sweep(folder, older_than=time.time() - STALE_S)
            with new_folder(folder) as draft:
                yield draft

    def add_model(self, draft: Path, manifest: bytes) -> StoredModel:
        """Keep the model built in `draft`, whose files have the hashes of the manifest: the builder took them.

        What the store already had of the model stays, and is completed.
        """
        write_atomic(draft / MANIFEST, manifest)
        id_ = model_id(manifest)
        folder = self._folder(id_)
        try:
            place(draft, folder)
        except OSError:
            if not folder.is_dir():
                raise
            for path in draft.iterdir():
                place(path, folder / path.name)
        self._known[id_] = StoredModel(id_, decode_manifest(manifest), folder)
        self._checked.update(folder / file.name for file in self._known[id_].manifest.files)
        return self._known[id_]

    # Removing

    @contextmanager
    def in_use(self, id_: ModelId) -> Iterator[None]:
        """The model is not removed while the block lasts. Raises ModelError where it is being removed."""
        with ExitStack() as stack:
            try:
                with self._words_for("read"):
                    stack.enter_context(hold_share(self._folder(id_)))
            except LockHeld:
                raise ModelError(f"model {id_.hex()} is being removed from {self.root}") from None
            yield

    def remove(self, id_: ModelId) -> None:
        """Remove all that is here of a model. Raises ModelError where a process has it in use, or it stays."""
        folder = self._folder(id_)
        with self._words_for("change"):
            try:
                with hold_alone(folder), new_folder(folder.parent) as grave:
                    folder.rename(grave / folder.name)  # of one killed now nothing is left but what is swept
            except LockHeld:
                raise ModelError(f"a node of this machine serves model {id_.hex()}: end it first") from None
        self._known.pop(id_, None)
        self._checked = {path for path in self._checked if path.parent != folder}

    def _ids(self) -> list[ModelId]:
        try:
            with self._words_for("read"):
                names = [path.name for path in (self.root / "models").iterdir()]
        except _NotThere:
            return []
        return [ModelId(bytes.fromhex(name)) for name in names if ID.fullmatch(name)]

    def _folder(self, id_: ModelId) -> Path:
        return self.root / "models" / id_.hex()

    def _entry(self, id_: ModelId, name: str) -> tuple[StoredModel, File]:
        model = self.get(id_)
        if model is None:
            raise ModelError(f"no model {id_.hex()} in {self.root}")
        file = model.manifest.file(name)
        if file is None:
            raise ModelError(f"{model.name} has no file {name!r:.80}")
        return model, file

    @contextmanager
    def _words_for(self, verb: str) -> Iterator[None]:
        """Say in words for people what the disk said."""
        try:
            yield
        except OSError as error:
            where = error.filename or self.root
            if verb == "read" and isinstance(error, FileNotFoundError):
                raise _NotThere(f"{where} is not there; import the model again") from None
            raise ModelError(
                f"cannot {verb} the store: {error.strerror} ({where}); name another folder with --store"
            ) from error


class _NotThere(ModelError):
    """A file of the store is missing."""


def _digest(path: Path) -> bytes:
    with open_plain(path) as file:
        return hashlib.file_digest(file, "sha256").digest()


def _write_checked(path: Path, parts: Iterable[bytes], file: File) -> None:
    digest, size = hashlib.sha256(), 0
    with path.open("wb") as output:
        for part in parts:
            size += len(part)
            if size > file.size:
                break
            digest.update(part)
            output.write(part)
    if size != file.size or digest.digest() != file.digest:
        raise RemoteProtocolError(f"{file.name}: {size} bytes of {file.size}, or another hash")
