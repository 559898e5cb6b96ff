"""The command `p2pinfer ask` for eight tokens, from start to end, to a node on loopback that nobody asked yet."""

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Final

import trio

from p2pinfer.cli.processes import NodeProcess, open_node_process
from tests.bench.figures import Bound, Figure
from tests.bench.setting import demo_model

ABOUT = "the whole command `p2pinfer ask` of eight tokens, to a node on loopback"
ASKS: Final = 7
COMMAND: Final = (sys.executable, "-m", "p2pinfer")


def run() -> Sequence[Figure]:
    return trio.run(_run)


async def _run() -> Sequence[Figure]:
    store, model = demo_model()
    with tempfile.TemporaryDirectory(prefix="p2pinfer-bench-") as folder:
        root = Path(folder)
        span = f"0:{model.manifest.layers}"
        async with open_node_process(root / "node", store.root, "--model", model.name, "--layers", span) as node:
            here, fetched, helped = [], [], []
            for at in range(ASKS):
                here.append(await _ask(root / f"client{at}", store.root, node))
                fetched.append(await _ask(root / f"stranger{at}", root / f"store{at}", node))
                helped.append(await _timed(*COMMAND, "--help"))
    detail = (
        f"worst {max(here):.2f} s; {median(fetched):.2f} s where manifest and tokenizer are fetched, too; --help takes "
        f"{median(helped):.2f} s; new identities, medians of {ASKS}"
    )
    return [Figure("cold ask of eight tokens", median(here), Bound.BELOW, 1.2, "s", detail)]


async def _ask(data: Path, store: Path, node: NodeProcess) -> float:
    words = ("--max-tokens", "8", "--data", str(data), "--store", str(store), "--bootstrap", node.address, "--no-mdns")
    return await _timed(*COMMAND, "ask", "A car", *words)


async def _timed(*words: str) -> float:
    """Seconds that a command takes."""
    began = time.perf_counter()
    await trio.run_process(words, capture_stdout=True, capture_stderr=True)
    return time.perf_counter() - began
