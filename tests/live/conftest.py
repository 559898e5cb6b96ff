"""A swarm of real processes with the real model, started once."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from p2pinfer.disk.store import Store, StoredModel

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
