"""What a node holds in memory beside its weights and its KV cache: both of its processes, after an answer."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import trio

from p2pinfer.cli.processes import open_node_process
from p2pinfer.client.api import open_client
from p2pinfer.core.values.units import Numerics
from p2pinfer.node.shard import CACHE_BYTES
from tests.bench.figures import Bound, Figure
from tests.bench.machine import child_with, parts_with, usage_of
from tests.bench.setting import ask, demo_model, open_whole

ABOUT = "resident memory of a node and its engine, beside int8 weights and the KV cache that was written"
PROMPT: Final = "The history of the motor car begins with"
TOKENS: Final = 512  # at most; the model may end its answer before
NUMERICS: Final = Numerics.I8G32_1


def run() -> Sequence[Figure]:
    return trio.run(_run)


async def _run() -> Sequence[Figure]:
    node, worker, written = await _resident()
    weights, cache = await _weight_bytes(), written * _position_bytes()
    rest = node + worker - weights - cache
    detail = (
        f"node {node / 1e6:.0f} and engine {worker / 1e6:.0f} MB, less weights {weights / 1e6:.0f} and KV cache of "
        f"{written} positions {cache / 1e6:.0f} MB; whole model, 2 threads, shared pages counted in both"
    )
    return [Figure("resident beside weights and KV cache", rest / 1e6, Bound.BELOW, 350.0, "MB", detail)]


async def _resident() -> tuple[int, int, int]:
    """Bytes of the node's process and of its engine's after an answer, and positions that the answer wrote at least."""
    store, model = demo_model()
    options = ("--model", model.name, "--layers", f"0:{model.manifest.layers}", "--threads", "2")
    with tempfile.TemporaryDirectory(prefix="p2pinfer-bench-") as folder:
        root = Path(folder)
        async with open_node_process(root / "node", store.root, *options, "--numerics", NUMERICS.label) as node:
            async with open_client(root / "client", store.root, [node.address]) as client:
                written = len(await ask(client, PROMPT, TOKENS))
            pid = child_with(root / "node")
            (engine,) = parts_with(pid, "p2pinfer.engine.worker")
            return usage_of(pid).resident, usage_of(engine.pid).resident, written


async def _weight_bytes() -> int:
    """Of the same model in an engine, as it says itself."""
    async with open_whole(2, Numerics.I8G32_1) as engine:
        assert engine.facts.numerics is NUMERICS
        return engine.facts.weight_bytes


def _position_bytes() -> int:
    shape = demo_model()[1].manifest.shape
    return int(shape.layers * 2 * shape.kv_heads * shape.head_size * CACHE_BYTES[NUMERICS])
