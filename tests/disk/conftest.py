"""A store of a test's own."""

from pathlib import Path

import pytest

from p2pinfer.disk.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")
