"""Sources of models: the word `demo`, a GGUF file, a Hugging Face folder, or the hub."""

from collections.abc import Callable
from dataclasses import dataclass, replace
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


@dataclass(frozen=True, slots=True)
class Trials:
    """Trials of a stranger's model before anything of it is stored; each raises what it finds.

    texts:    of its file or folder, before anything of it is read here (`disk/import_trial.py`)
    template: of the chat template, if there is one
    """

    texts: Callable[[Path, Wishes], None] = lambda path, wishes: None
    template: Callable[[str], None] = lambda template: None


NO_TRIALS: Final = Trials()


def import_model(
    source: str,
    store: Store,
    wishes: Wishes = NO_WISHES,
    progress: Progress = no_progress,
    tell: Callable[[str], None] = lambda note: None,
    trials: Trials = NO_TRIALS,
) -> StoredModel:
    """Import `demo`, `PATH.gguf`, `FOLDER` or `hub:ORG/NAME[@REVISION]`.

    tell:   hears what whoever imports it should know
    trials: of what a stranger made; without any, the source is a friend's

    Raises:
        ModelError: it is none of these, is damaged or not supported, or the store has no room.
    """
    path, wishes = _found(source, wishes, progress)
    trials.texts(path, wishes)
    found = read_source(path, wishes)
    template = found.template if wishes.template is None else wishes.template
    if template:
        trials.template(template)
    stored = build(replace(found, template=template), store, progress)
    for note in found.notes:
        tell(note)
    return stored


def read_source(path: Path, wishes: Wishes) -> ModelSource:
    """The model in a file or folder. Raises ModelError."""
    return (read_folder if path.is_dir() else read_gguf)(path, wishes.name, wishes.ignored)


def _found(source: str, wishes: Wishes, progress: Progress) -> tuple[Path, Wishes]:
    """The file or folder that holds the model, fetched where it is not here; and the wishes, with the hub's name."""
    if source == "demo":
        return demo_file(), replace(wishes, ignored=())
    if source.startswith(HUB):
        from p2pinfer.disk.importing.hub import fetch  # the extra `hub` is not everybody's

        repository = source.removeprefix(HUB)
        folder = fetch(repository, wishes.endpoint, progress=progress)
        return folder, replace(wishes, name=wishes.name or _last_part(repository))
    try:
        path = Path(source).expanduser()
    except RuntimeError as error:  # `~` of nobody
        raise ModelError(f"{source!r:.200} cannot be found: {error}") from None
    found = source != "" and is_there(path)
    if found and (path.is_dir() or path.is_file()):
        return path, wishes
    what = "is neither a file nor a folder" if found else "is not there"
    raise ModelError(f"{source!r:.200} {what}; a model comes from a GGUF file, a folder, `demo` or hub:ORG/NAME")


def _last_part(repository: str) -> str:
    return repository.partition("@")[0].rpartition("/")[2]
