"""Automatic layers: whoever starts when, and whoever is killed, the real model is served whole by processes."""

import re
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from p2pinfer.disk.store import Store, StoredModel

from .processes import COMMAND_S, NodeProcess, command, run_node

pytestmark = pytest.mark.slow

ROOM = 370  # MB: weights of 10 of the 30 layers, in f32


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def start(stack: ExitStack, root: Path, store: Path, name: str, *options: str) -> NodeProcess:
    config = root / "ten.toml"
    config.write_text(f"[serve]\nmemory_mb = {ROOM}\n")
    words = ("--config", str(config), "--model", "smollm2-135m-instruct", "--numerics", "f32-1", "--threads", "1")
    return stack.enter_context(run_node(root / name, store, *words, *options))


def wait_answer(root: Path, store: Path, node: NodeProcess) -> None:
    """Ask through a node until there is an answer, be it empty."""
    deadline = time.monotonic() + COMMAND_S
    asking = ("--data", root / "client", "--store", store, "--max-tokens", 4, "--bootstrap", node.address)
    while (result := command("ask", "What is a DHT?", *asking)).returncode:
        assert time.monotonic() < deadline, result.stderr + node.words
        time.sleep(1.0)


def spans(*nodes: NodeProcess) -> list[tuple[int, int]]:
    """The layers that each serves now, by its log."""
    found = [re.findall(r"serving layers (\d+):(\d+) of", node.words)[-1] for node in nodes]
    return [(int(first), int(last)) for first, last in found]


def test_three_nodes_that_start_in_turn_leave_no_layer_out(
    stack: ExitStack, tmp_path: Path, demo_model: tuple[Store, StoredModel]
) -> None:
    store = demo_model[0].root
    first = start(stack, tmp_path, store, "n1")
    nodes = [first, *(start(stack, tmp_path, store, name, "--bootstrap", first.address) for name in ("n2", "n3"))]
    assert sorted(spans(*nodes)) == [(0, 10), (10, 20), (20, 30)]
    for node in nodes:
        wait_answer(tmp_path, store, node)


def test_a_node_that_can_be_spared_takes_the_layers_of_one_that_was_killed(
    stack: ExitStack, tmp_path: Path, demo_model: tuple[Store, StoredModel]
) -> None:
    store = demo_model[0].root
    first = start(stack, tmp_path, store, "n1", "--layers", "0:10")
    met = ("--bootstrap", first.address)
    killed = start(stack, tmp_path, store, "n2", *met, "--layers", "20:30")
    nodes = [start(stack, tmp_path, store, name, *met) for name in ("n3", "n4")]
    wait_answer(tmp_path, store, first)
    killed.process.send_signal(signal.SIGKILL)
    spare = [node for node, span in zip(nodes, spans(*nodes), strict=True) if span != (10, 20)]
    for node in spare:
        if spans(node) != [(20, 30)]:
            node.wait_words("serving layers 20:30")
    wait_answer(tmp_path, store, first)
