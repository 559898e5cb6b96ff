"""A store with the demo model, imported once for all tests here that want it."""

from pathlib import Path

import pytest

from p2pinfer.disk.importing import import_model
from p2pinfer.disk.store import Store, StoredModel


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, StoredModel]:
    store = Store(tmp_path_factory.mktemp("demo"))
    return store, import_model("demo", store)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")
