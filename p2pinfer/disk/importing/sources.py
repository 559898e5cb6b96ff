"""Sources of models: the word `demo`, a GGUF file, a Hugging Face folder, or the hub."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from p2pinfer.core.values.errors import ModelError
from p2pinfer.disk.demo import demo_file
from p2pinfer.disk.importing.building import ModelSource, Progress, build, no_progress
from p2pinfer.disk.importing.gguf_model import read_gguf
from p2pinfer.disk.importing.huggingface import read_folder
from p2pinfer.disk.places import is_there
from p2pinfer.disk.store import Store, StoredModel
from p2pinfer.disk.wishes import NO_WISHES, Wishes

HUB: Final = "hub:"


def import_model(
    source: str,
    store: Store,
    wishes: Wishes = NO_WISHES,
    progress: Progress = no_progress,
    tell: Callable[[str], None] = lambda note: None,
    try_template: Callable[[str], None] = lambda template: None,
) -> StoredModel:
    """Import `demo`, `PATH.gguf`, `FOLDER` or `hub:ORG/NAME[@REVISION]`.

    tell:         hears what whoever imports it should know
    try_template: sees the chat template, if there is one, before anything is stored

    Raises:
        ModelError: it is none of these, is damaged or not supported, or the store has no room.
    """
    found = _source(source, wishes, progress)
    template = found.template if wishes.template is None else wishes.template
    if template:
        try_template(template)
    stored = build(replace(found, template=template), store, progress)
    for note in found.notes:
        tell(note)
    return stored


def _source(source: str, wishes: Wishes, progress: Progress) -> ModelSource:
    if source == "demo":
        return read_gguf(demo_file(), wishes.name)
    if source.startswith(HUB):
        from p2pinfer.disk.importing.hub import fetch  # the extra `hub` is not everybody's

        repository = source.removeprefix(HUB)
        folder = fetch(repository, wishes.endpoint, progress=progress)
        return read_folder(folder, wishes.name or _last_part(repository), wishes.ignored)
    try:
        path = Path(source).expanduser()
    except RuntimeError as error:  # `~` of nobody
        raise ModelError(f"{source!r:.200} cannot be found: {error}") from None
    found = source != "" and is_there(path)
    if found and path.is_dir():
        return read_folder(path, wishes.name, wishes.ignored)
    if found and path.is_file():
        return read_gguf(path, wishes.name, wishes.ignored)
    what = "is neither a file nor a folder" if found else "is not there"
    raise ModelError(f"{source!r:.200} {what}; a model comes from a GGUF file, a folder, `demo` or hub:ORG/NAME")


def _last_part(repository: str) -> str:
    return repository.partition("@")[0].rpartition("/")[2]
