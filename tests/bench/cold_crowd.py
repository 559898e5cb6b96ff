"""Five hundred prompts at once from a cold client, to three nodes with a part of the demo model each: all are answered.

In one process of a client that was just opened: it knows no node, has loaded no tokenizer, and opened no link.
"""

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import trio

from p2pinfer.cli.processes import open_swarm
from tests.bench.figures import Bound, Figure
from tests.bench.setting import demo_model

ABOUT = "500 prompts at once from a cold client"
PROMPTS: Final = 500
WORDS: Final = 8
MOST_MB: Final = 300.0
STALL_MS: Final = 50.0


def run() -> Sequence[Figure]:
    return trio.run(_run)


async def _run() -> Sequence[Figure]:
    store, model = demo_model()
    with tempfile.TemporaryDirectory(prefix="p2pinfer-bench-") as folder:
        root = Path(folder)
        async with open_swarm(root, store.root, model, 3, "--threads", "1") as (bootstrap, *_):
            words = map(str, (root / "client", store.root, bootstrap.address, PROMPTS, WORDS))
            command = [sys.executable, "-m", "tests.client.cold_client", *words]
            ran = await trio.run_process(command, capture_stdout=True)
    found = json.loads(ran.stdout)
    detail = f"{PROMPTS} prompts in {found['took_s']:.0f} s; {len(found['errors'])} failed: {found['errors'][:1]}"
    return [
        Figure("answers to prompts at once", found["answers"], Bound.AT_LEAST, PROMPTS, "", detail),
        Figure("client, resident", found["resident_mb"], Bound.BELOW, MOST_MB, "MB", "at most"),
        Figure("longest step of the loop", found["longest_ms"], Bound.BELOW, STALL_MS, "ms", f"of {found['of']}"),
    ]
