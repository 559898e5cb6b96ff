"""A swarm of real processes with the real model, started once; and a tiny model for tests that break things."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from p2pinfer.disk.importing import import_model
from p2pinfer.disk.store import Store, StoredModel
from tests.disk.tiny import tiny_folder

from .processes import NodeProcess, run_node, run_nodes


@dataclass
class LiveSwarm:
    """bootstrap: a peer that serves nothing. nodes: in the order of their layers."""

    root: Path
    store: Path
    bootstrap: NodeProcess
    nodes: tuple[NodeProcess, ...]


@pytest.fixture(scope="session")
def demo_swarm(demo_model: tuple[Store, StoredModel], tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveSwarm]:
    """Three nodes with ten layers each of the demo model, in f32."""
    store, model = demo_model
    root = tmp_path_factory.mktemp("demo-swarm")
    with ExitStack() as stack:
        boot = stack.enter_context(run_node(root / "boot", store.root))
        options = ("--bootstrap", boot.address, "--model", model.id.hex(), "--numerics", "f32-1", "--threads", "1")
        spans = [("--layers", f"{first}:{first + 10}") for first in (0, 10, 20)]
        nodes = run_nodes(stack, root, store.root, [(*span, *options) for span in spans])
        yield LiveSwarm(root, store.root, boot, tuple(nodes))


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a tiny model of three layers, called tiny."""
    root = tmp_path_factory.mktemp("tiny-live")
    import_model(str(tiny_folder(root / "tiny", num_hidden_layers=3, max_position_embeddings=4096)), Store(root))
    return root
