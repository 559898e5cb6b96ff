"""Sources of models: the word `demo`, a GGUF file, a Hugging Face folder, or the hub."""

from dataclasses import replace
from pathlib import Path
from typing import Final

from p2pinfer.core.values.errors import ModelError
from p2pinfer.disk.importing.building import ModelSource, Progress, build, no_progress
from p2pinfer.disk.importing.demo import demo_file
from p2pinfer.disk.importing.gguf_model import read_gguf
from p2pinfer.disk.importing.huggingface import read_folder
from p2pinfer.disk.places import is_there
from p2pinfer.disk.store import Store, StoredModel

HUB: Final = "hub:"


def import_model(
    source: str,
    store: Store,
    name: str = "",
    progress: Progress = no_progress,
    endpoint: str | None = None,
    template: str | None = None,
) -> StoredModel:
    """Import `demo`, `PATH.gguf`, `FOLDER` or `hub:ORG/NAME[@REVISION]`, called `name` or as its source is.

    endpoint: of the hub; None is its client's own choice
    template: the chat template, in place of the source's own; part of the model's id

    Raises:
        ModelError: it is none of these, is damaged or not supported, or the store has no room.
    """
    found = _source(source, name, progress, endpoint)
    return build(found if template is None else replace(found, template=template), store, progress)


def _source(source: str, name: str, progress: Progress, endpoint: str | None) -> ModelSource:
    if source == "demo":
        return read_gguf(demo_file(), name)
    if source.startswith(HUB):
        from p2pinfer.disk.importing.hub import fetch  # the extra `hub` is not everybody's

        repository = source.removeprefix(HUB)
        return read_folder(fetch(repository, endpoint, progress=progress), name or _last_part(repository))
    try:
        path = Path(source).expanduser()
    except RuntimeError as error:  # `~` of nobody
        raise ModelError(f"{source!r:.200} cannot be found: {error}") from None
    found = source != "" and is_there(path)
    if found and path.is_dir():
        return read_folder(path, name)
    if found and path.is_file():
        return read_gguf(path, name)
    what = "is neither a file nor a folder" if found else "is not there"
    raise ModelError(f"{source!r:.200} {what}; a model comes from a GGUF file, a folder, `demo` or hub:ORG/NAME")


def _last_part(repository: str) -> str:
    return repository.partition("@")[0].rpartition("/")[2]
