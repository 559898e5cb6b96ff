"""What a node costs while nobody asks: its own process, without the engine's (figure 5).

The node serves the whole model and knows two other peers, so that offers, pings and the DHT do what they always do.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import trio

from p2pinfer.cli.processes import open_node_process
from tests.bench.figures import Bound, Figure
from tests.bench.machine import child_with, mapped, parts_with, usage_of
from tests.bench.setting import demo_model

ABOUT = "a node that serves, while nobody asks"
SETTLE_S = 10.0  # after the start: dials, DHT
WATCH_S = 20.0


def run() -> Sequence[Figure]:
    return trio.run(_run)


async def _run() -> Sequence[Figure]:
    store, model = demo_model()
    span = f"0:{model.manifest.layers}"
    with tempfile.TemporaryDirectory(prefix="p2pinfer-bench-") as folder:
        root = Path(folder)
        async with open_node_process(root / "bootstrap", store.root) as bootstrap:
            met = ("--bootstrap", bootstrap.address)
            async with (
                open_node_process(root / "other", store.root, *met),
                open_node_process(root / "node", store.root, *met, "--model", model.name, "--layers", span),
            ):
                pid = child_with(root / "node")
                await trio.sleep(SETTLE_S)
                before = usage_of(pid)
                await trio.sleep(WATCH_S)
                after = usage_of(pid)
                torch = mapped(pid, "torch")
                engine, dht = (
                    sum(usage_of(part.pid).resident for part in parts_with(pid, module)) / 1e6
                    for module in ("p2pinfer.engine.worker", "p2pinfer.overlay.libp2p.dht_process")
                )
    share = 100 * (after.cpu_s - before.cpu_s) / WATCH_S
    return [
        Figure("idle node, CPU", share, Bound.BELOW, 2.0, "% of a core", f"over {WATCH_S:.0f} s, all threads"),
        Figure(
            "idle node, resident",
            after.resident / 1e6,
            Bound.BELOW,
            150.0,
            "MB",
            f"the node's process; its engine's holds {engine:.0f} MB more, that of its part of the DHT {dht:.0f} MB",
        ),
        Figure("idle node, torch mapped", len(torch), Bound.BELOW, 1, "files", "/proc/PID/maps of the node's process"),
    ]
