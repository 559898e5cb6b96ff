"""A node of the tiny model in a process of its own, under attack, and a good client that must go on."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from .good import GoodClient, open_good_client
from .victims import Victim, open_victim


class Scene:
    """The node that the tests attack in turn. One that ended is reported by the test that ended it, and replaced."""

    def __init__(self, root: Path, store: Path) -> None:
        self.root = root
        self.store = store
        self.started = 0
        self._stack = ExitStack()
        self._now: tuple[Victim, GoodClient] | None = None

    def pair(self) -> tuple[Victim, GoodClient]:
        """The node, and a client that it serves."""
        if self._now is None or not self._now[0].alive:
            self._stack.close()
            self.started += 1
            root = self.root / str(self.started)
            victim = self._stack.enter_context(open_victim(root, self.store))
            self._now = victim, self._stack.enter_context(open_good_client(root, self.store, victim.address))
        return self._now

    def close(self) -> None:
        self._stack.close()


@pytest.fixture(scope="session")
def scene(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    scene = Scene(tmp_path_factory.mktemp("hostile"), tiny_store)
    try:
        yield scene
    finally:
        scene.close()


@pytest.fixture
def good(scene: Scene) -> GoodClient:
    return scene.pair()[1]


@pytest.fixture
def victim(scene: Scene, good: GoodClient) -> Iterator[Victim]:
    """After the attack it lives, has logged no bug, and answers as before."""
    victim = scene.pair()[0]
    victim.new_words()
    yield victim
    victim.check()
    good.check()
