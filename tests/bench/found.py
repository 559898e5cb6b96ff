"""How long after the last node's `ready` an answer comes through any of them (issue 10).

Three nodes hold a third of the layers each and start together, each with a bootstrap peer for an address. A client that
is new to all of them then asks through one that chance chose, and again where it is told that nobody serves the model.
"""

import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import trio

from p2pinfer.cli.processes import open_swarm
from p2pinfer.client.api import Client, open_client
from p2pinfer.core.values.errors import P2pinferError
from p2pinfer.disk.importing import import_model
from p2pinfer.disk.store import Store, StoredModel
from tests.bench.figures import Bound, Figure, quantile
from tests.disk.tiny import tiny_folder

ABOUT = "from the last of three nodes' `ready` to an answer through any of them, tiny model"
TRIALS: Final = 50
NODES: Final = 3
TOKENS: Final = 1
AGAIN_S: Final = 0.05
GIVE_UP_S: Final = 20.0
SEED: Final = 1


def run() -> Sequence[Figure]:
    return trio.run(_run)


async def _run() -> Sequence[Figure]:
    lots = random.Random(SEED)
    with tempfile.TemporaryDirectory(prefix="p2pinfer-bench-") as folder:
        root = Path(folder)
        store = Store(root)
        model = import_model(str(tiny_folder(root / "tiny", num_hidden_layers=NODES)), store)
        trials = [await _trial(root / f"trial{at}", store, model, lots) for at in range(TRIALS)]
    found_s = [seconds for seconds, _ in trials]
    failed, given_up = sum(failures > 0 for _, failures in trials), found_s.count(GIVE_UP_S)
    detail = (
        f"p50 {quantile(found_s, 0.5):.2f} s, worst {max(found_s):.2f} s, with the client's start; {TRIALS} trials, "
        f"in {failed} an ask failed first, {given_up} given up after {GIVE_UP_S:.0f} s"
    )
    return [Figure("last `ready` to an answer, p95", quantile(found_s, 0.95), Bound.BELOW, 2.0, "s", detail)]


async def _trial(root: Path, store: Store, model: StoredModel, lots: random.Random) -> tuple[float, int]:
    """Seconds until the answer, at most GIVE_UP_S, and how many asks failed before it."""
    failures = 0
    async with open_swarm(root, store.root, model, NODES, "--threads", "1", "--numerics", "f32-1") as (_, *nodes):
        began = time.perf_counter()
        async with open_client(root / "client", store.root, [lots.choice(nodes).address]) as client:
            with trio.move_on_after(GIVE_UP_S):
                while not await _is_answered(client):
                    failures += 1
                    await trio.sleep(AGAIN_S)
                return time.perf_counter() - began, failures
    return GIVE_UP_S, failures


async def _is_answered(client: Client) -> bool:
    try:
        await client.answer("hello", max_tokens=TOKENS)
    except P2pinferError:  # somebody is not found yet
        return False
    return True
