"""Nodes and clients in one process, real themselves: network, engines, disks and clocks are fakes.

Keys and lots follow from the seed, and a day takes as long as what happens in it takes to compute.
"""

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from random import Random
from typing import Any

from p2pinfer.client.api import Client, open_client
from p2pinfer.client.setup import World
from p2pinfer.core.values.keys import PrivateKey
from p2pinfer.disk.importing import import_model
from p2pinfer.disk.journal import Journal
from p2pinfer.disk.memory_journal import MemoryDisk
from p2pinfer.disk.places import client_journal
from p2pinfer.disk.store import Store
from p2pinfer.engine.memory import MemoryComputer
from p2pinfer.node.daemon import Node, Surroundings, open_node
from p2pinfer.node.settings import Settings, change
from p2pinfer.overlay.exchange import Exchange
from p2pinfer.overlay.greeting import Greeting
from p2pinfer.overlay.machine import JumpingClock, Machine
from p2pinfer.overlay.memory import MemoryWorld, open_memory_network
from p2pinfer.overlay.network import Network
from tests.core.paid_route import NOW
from tests.disk.tiny import tiny_folder

LATENCY_S = 0.02
CONTEXT = 512
COMMIT_S = 0.005
KEYS = ("node.key", "owner.key", "client.key")


class Home:
    """What one peer has: a folder, and fakes that a test can break."""

    def __init__(self, folder: Path, lots: Random) -> None:
        self.folder = folder
        self.clock = JumpingClock(NOW)
        self.machine = Machine(self.clock, lots)
        self.computer = MemoryComputer()
        self.disk = MemoryDisk(commit_s=COMMIT_S)
        folder.mkdir(0o700)
        for name in KEYS:
            (folder / name).touch(0o600)
            (folder / name).write_text(lots.randbytes(32).hex())


class Town:
    """Where a model of three layers is served, from homes that tests name."""

    def __init__(self, root: Path, seed: int = 7) -> None:
        self.world = MemoryWorld(latency_s=LATENCY_S)
        self.lots = Random(seed)
        self._homes: dict[str, Home] = {}
        self._root = root
        self._store = Store(root / "store")
        folder = tiny_folder(root / "tiny", num_hidden_layers=3, max_position_embeddings=CONTEXT)
        self._model = import_model(str(folder), self._store)

    @property
    def homes(self) -> list[Home]:
        return list(self._homes.values())

    def home(self, name: str) -> Home:
        if name not in self._homes:
            self._homes[name] = Home(self._root / name, Random(self.lots.getrandbits(64)))
        return self._homes[name]

    def node(
        self, name: str, layers: str = "", bootstrap: tuple[str, ...] = (), **serve: Any
    ) -> AbstractAsyncContextManager[Node]:
        """A node of this home; it begins anew with what its folder and its disk hold."""
        served = {"model": self._model.id.hex(), "layers": layers, "numerics": "f32-1", "memory_mb": 64, "threads": 1}
        settings = change(change(Settings(), "serve", **served | serve), "network", bootstrap=bootstrap)
        home = self.home(name)
        return open_node(
            settings,
            home.folder,
            self._store,
            Surroundings(self._network, home.machine, home.computer.open_engine, home.disk.open_journal),
        )

    def client(self, name: str, bootstrap: tuple[str, ...]) -> AbstractAsyncContextManager[Client]:
        """A client of this home."""
        home = self.home(name)
        return open_client(
            home.folder,
            self._store.root,
            bootstrap,
            here=False,
            around=World(self._network, machine=home.machine, journals=home.disk.open_journal),
        )

    def client_journal(self, name: str) -> AbstractAsyncContextManager[Journal]:
        """What clients of this home kept."""
        home = self.home(name)
        return home.disk.open_journal(client_journal(home.folder))

    def _network(self, key: PrivateKey, exchange: Exchange, greeting: Greeting) -> AbstractAsyncContextManager[Network]:
        return open_memory_network(self.world, key.public, exchange, greeting)
