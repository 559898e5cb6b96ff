"""From the command `p2pinfer node` to the first token it served, with the model on disk (figure 4)."""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import trio

from p2pinfer.cli.processes import open_node_process
from p2pinfer.client.api import open_client
from tests.bench.figures import Bound, Figure
from tests.bench.setting import demo_model

ABOUT = "from the command `p2pinfer node` to its first served token"
STARTS = 3


def run() -> Sequence[Figure]:
    return trio.run(_run)


async def _run() -> Sequence[Figure]:
    measured = [await _start() for _ in range(STARTS)]
    ready_s, token_s = (median(column) for column in zip(*measured, strict=True))
    return [
        Figure(
            "start to first served token",
            token_s,
            Bound.BELOW,
            8.0,
            "s",
            f"ready after {ready_s:.1f} s; whole model, new identity, a client opened after `ready`; {STARTS} starts",
        )
    ]


async def _start() -> tuple[float, float]:
    """Seconds until the node said `ready`, and until a client had a token."""
    store, model = demo_model()
    with tempfile.TemporaryDirectory(prefix="p2pinfer-bench-") as folder:
        root = Path(folder)
        began = time.perf_counter()
        span = f"0:{model.manifest.layers}"
        async with open_node_process(root / "node", store.root, "--model", model.name, "--layers", span) as node:
            ready_s = time.perf_counter() - began
            async with open_client(root / "client", store.root, [node.address]) as client:
                await client.answer("A car", max_tokens=1)
                return ready_s, time.perf_counter() - began
