"""Models on the Hugging Face hub, by its own client: it keeps what it got in its cache and resumes (extra `hub`)."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

from p2pinfer.core.models.manifest import MAX_MODEL_TEXT
from p2pinfer.core.values.errors import ModelError
from p2pinfer.core.values.shown import cut
from p2pinfer.disk.importing.building import Progress, no_progress
from p2pinfer.disk.importing.huggingface import TEXT_FILES

try:
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )
    from tqdm.auto import tqdm  # type: ignore[import-untyped]
except ModuleNotFoundError as missing:
    raise ModelError("hub: needs the hub's client; get it with: pip install 'p2pinfer[hub]'") from missing

WEIGHTS: Final = "*.safetensors"
# of the HTTP library, which is another in each major version of the client
TRANSPORT_ERROR: Final = cast("type[Exception]", HfHubHTTPError.__bases__[0])


def fetch(
    repository: str, endpoint: str | None = None, cache: Path | None = None, progress: Progress = no_progress
) -> Path:
    """The folder with the files of `ORG/NAME` or `ORG/NAME@REVISION`, fetched where they are not in the cache.

    endpoint: of the hub; None is the client's own choice
    cache:    where the client keeps files; None is its own choice

    Raises:
        ModelError: there is no such model, it cannot be reached, or there is no room.
    """
    name, _, revision = repository.partition("@")
    try:
        return _fetch(name, revision or None, endpoint, cache, progress)
    except HFValidationError as error:
        raise ModelError(f"hub:{repository} is not ORG/NAME: {cut(str(error))}") from None
    except (RepositoryNotFoundError, RevisionNotFoundError):
        raise ModelError(f"the hub has no model {repository}, or does not show it to you") from None
    except (OSError, TRANSPORT_ERROR) as error:  # the client's own errors are OSErrors
        raise ModelError(f"cannot get {repository} from the hub: {cut(str(error))}") from None


def _fetch(name: str, revision: str | None, endpoint: str | None, cache: Path | None, progress: Progress) -> Path:
    listing = HfApi(endpoint=endpoint).model_info(name, revision=revision, files_metadata=True)
    sizes = {item.rfilename: item.size or 0 for item in listing.siblings or ()}
    wanted = [file for file in sizes if file in TEXT_FILES or _is_weights(file)]
    if not wanted:
        raise ModelError(f"{name} on the hub has no safetensors")
    if long := [file for file in wanted if file in TEXT_FILES and sizes[file] > MAX_MODEL_TEXT]:
        raise ModelError(f"{name} on the hub: {long[0]} has {sizes[long[0]]} bytes, limit {MAX_MODEL_TEXT}")
    total, done = sum(sizes[file] for file in wanted), 0
    folder = Path()
    for file in wanted:
        bar = _bar(partial(_report, progress, done, total))
        # all files of one version, whatever is pushed meanwhile
        path = hf_hub_download(name, file, revision=listing.sha, endpoint=endpoint, cache_dir=cache, tqdm_class=bar)
        folder = Path(path).parent
        done += sizes[file]
        progress("fetching", done, total)
    return folder


def _report(progress: Progress, before: int, total: int, got: int) -> None:
    progress("fetching", before + got, total)


def _is_weights(file: str) -> bool:
    return "/" not in file and Path(file).match(WEIGHTS) and not file.startswith("consolidated")


def _bar(report: Callable[[int], None]) -> type[Any]:
    """The hub's client shows progress by a class of this shape; this one shows nothing and reports."""

    class Bar(tqdm):  # type: ignore[misc]  # untyped
        def __init__(self, *args: object, **options: object) -> None:
            super().__init__(*args, **{**options, "disable": True})
            self.got = 0

        def update(self, n: float = 1) -> None:
            self.got += int(n)
            report(self.got)

    return Bar
