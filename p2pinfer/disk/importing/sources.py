"""Where models come from: the word `demo`, a GGUF file, a Hugging Face folder, or the hub."""

from pathlib import Path
from typing import Final

from p2pinfer.core.errors import ModelError
from p2pinfer.disk.importing.building import Progress, build, no_progress
from p2pinfer.disk.importing.demo import demo_file
from p2pinfer.disk.importing.gguf_model import read_gguf
from p2pinfer.disk.importing.huggingface import read_folder
from p2pinfer.disk.places import is_there
from p2pinfer.disk.store import Store, StoredModel

HUB: Final = "hub:"


def import_model(
    source: str, store: Store, name: str = "", progress: Progress = no_progress, endpoint: str | None = None
) -> StoredModel:
    """Import `demo`, `PATH.gguf`, `FOLDER` or `hub:ORG/NAME[@REVISION]`, called `name` or as its source is.

    endpoint: of the hub; None is its client's own choice

    Raises:
        ModelError: it is none of these, is damaged or not supported, or the store has no room.
    """
    if source == "demo":
        return build(read_gguf(demo_file(), name), store, progress)
    if source.startswith(HUB):
        from p2pinfer.disk.importing.hub import fetch  # the extra `hub` is not everybody's

        repository = source.removeprefix(HUB)
        folder = fetch(repository, endpoint, progress=progress)
        return build(read_folder(folder, name or _last_part(repository)), store, progress)
    path = Path(source).expanduser()
    found = source != "" and is_there(path)
    if found and path.is_dir():
        return build(read_folder(path, name), store, progress)
    if found and path.is_file():
        return build(read_gguf(path, name), store, progress)
    what = "is neither a file nor a folder" if found else "is not there"
    raise ModelError(f"{source!r:.200} {what}; a model comes from a GGUF file, a folder, `demo` or hub:ORG/NAME")


def _last_part(repository: str) -> str:
    return repository.partition("@")[0].rpartition("/")[2]
