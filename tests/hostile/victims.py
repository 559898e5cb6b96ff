"""A real node under attack, and a watch on it: it lives, it is quiet, and one signal ends it."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from p2pinfer.disk.importing import import_model
from p2pinfer.disk.store import Store
from tests.disk.tiny import EVEN, tiny_folder
from tests.live.processes import DHT, ENGINE, TINY, NodeProcess, parts_of, run_node

from .arena import LiveArena

SPARE_BYTES = 200_000_000  # above its resting size; no attack may take a node beyond
STOP_S = 12.0  # for a node that was told to stop: its sessions get 5 s to end, its links a second
GONE_S = 3.0  # for its engine to be gone after it
POLL_S = 0.05


class Victim:
    """A node in a process and a group of its own, whose engine and whose part of the DHT are two more."""

    def __init__(self, node: NodeProcess) -> None:
        self.node = node
        self.process = psutil.Process(node.process.pid)
        self.engines = parts_of(node.process, ENGINE)
        self._read = 0

    @property
    def address(self) -> str:
        return self.node.address

    @property
    def arena(self) -> LiveArena:
        return LiveArena(self.address)

    @property
    def alive(self) -> bool:
        return self.node.process.poll() is None and all(engine.is_running() for engine in self.engines)

    @property
    def pids(self) -> list[int]:
        """Of the node and its engine."""
        return [self.process.pid, *(engine.pid for engine in self.engines)]

    @property
    def resident(self) -> int:
        """Bytes of the node's process, its engine's left out."""
        return int(self.process.memory_info().rss)

    def dht(self) -> psutil.Process:
        """The process of its part of the DHT."""
        [part] = parts_of(self.node.process, DHT)
        return part

    def new_words(self) -> str:
        """What it logged since this was asked last."""
        with self.node.log.open() as log:
            log.seek(self._read)
            words = log.read()
            self._read = log.tell()
        return words

    def check(self) -> None:
        """It lives, and nothing that happened was a bug."""
        words = self.new_words()
        assert self.node.process.poll() is None, f"the node ended with {self.node.process.returncode}: {words[-4000:]}"
        assert "Traceback" not in words, words[-8000:]
        assert all(engine.is_running() for engine in self.engines), "the engine is gone"

    def stop(self, whole_group: bool = False) -> None:
        """One SIGTERM ends it with code 0 within seconds, and its engine with it."""
        if whole_group:
            os.killpg(self.node.process.pid, signal.SIGTERM)
        else:
            self.node.process.send_signal(signal.SIGTERM)
        self.wait_stopped()

    def wait_stopped(self) -> None:
        code = self.node.process.wait(STOP_S)
        words = self.new_words()
        assert "Traceback" not in words, words[-8000:]
        assert code == 0, f"exit code {code}: {words[-4000:]}"
        _, left = psutil.wait_procs(self.engines, GONE_S)
        assert not left, f"{left} outlived the node"


def wait_until(true: "object", within_s: float) -> bool:
    """Ask again and again; False where it did not become true in time."""
    assert callable(true)
    end = time.monotonic() + within_s
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(POLL_S)
    return True


def wide_store(root: Path) -> Path:
    """A store with a model that computes little and has files of megabytes."""
    sizes = EVEN | {"intermediate_size": 1 << 15, "num_hidden_layers": 3, "max_position_embeddings": 4096}
    import_model(str(tiny_folder(root / "tiny", **sizes)), Store(root / "store"))
    return root / "store"


@contextmanager
def open_victim(root: Path, store: Path, *options: str, config: str = "", layers: str = "0:3") -> Iterator[Victim]:
    """A node that serves layers of the tiny model, until the block ends.

    config: of its settings, in TOML
    """
    root.mkdir(parents=True, exist_ok=True)
    settings = root / "node.toml"
    settings.write_text(config)
    serving = (*TINY, "--layers", layers) if layers else ()
    words = ("--config", str(settings), *serving, *options)
    with run_node(root / "node", store, *words, start_new_session=True) as node:
        assert node.address, node.words
        victim = Victim(node)
        try:
            yield victim
        finally:
            for engine in victim.engines:
                if engine.is_running():
                    engine.kill()
