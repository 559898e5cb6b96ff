"""The loop of a client stands still for no longer than a moment, though two hundred long prompts start cold at once.

What counts is processor time of the loop's thread in one step of one task, so that other work of the machine makes no
difference. The client is a process of its own (`cold_client.py`) on a real connection; the stage makes ids up.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from threading import Thread

import trio

from p2pinfer.disk.identity import load_identity
from p2pinfer.disk.store import Store, StoredModel
from p2pinfer.node.settings import Settings, change
from p2pinfer.overlay.greeting import new_greeting
from p2pinfer.overlay.libp2p import open_libp2p_network
from p2pinfer.overlay.memory import MemoryWorld
from tests.live.processes import COMMAND_S, ENVIRONMENT

from .liars import open_stage
from .test_running import Roomy

STALL_MS = 50.0
MOST_MB = 300.0
PROMPTS = 200
WORDS = 600  # of a prompt, some of them two or three; as many ids and more


@contextmanager
def running_stage(root: Path, store: Store, model: StoredModel) -> Iterator[str]:
    """The address of a stage that serves any number of sessions, as long as the block lasts."""
    started: SimpleQueue[tuple[str, trio.lowlevel.TrioToken]] = SimpleQueue()
    stop = trio.Event()
    identity = load_identity(root / "stage", int(time.time()))
    settings = change(Settings(), "serve", model=model.id.hex(), numerics="f32-1")

    async def main() -> None:
        network = lambda exchange: open_libp2p_network(  # noqa: E731
            identity.key, exchange, listen=["/ip4/127.0.0.1/tcp/0"], greeting=new_greeting(), dht=False
        )
        async with open_stage(
            Roomy, MemoryWorld(), store, model, identity, settings=settings, open_network=network
        ) as stage:
            started.put((stage.network.addresses()[0], trio.lowlevel.current_trio_token()))
            await stop.wait()

    thread = Thread(target=trio.run, args=(main,))
    thread.start()
    address, token = started.get()
    try:
        yield address
    finally:
        trio.from_thread.run_sync(stop.set, trio_token=token)
        thread.join()


def test_no_step_takes_long_and_memory_is_bounded_while_many_long_prompts_start_cold(
    tmp_path: Path, demo_model: tuple[Store, StoredModel]
) -> None:
    store, model = demo_model
    with running_stage(tmp_path, store, model) as address:
        words = map(str, (tmp_path / "client", store.root, address, PROMPTS, WORDS))
        command = [sys.executable, "-m", "tests.client.cold_client", *words]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_S, check=True, env=ENVIRONMENT)
    found = json.loads(ran.stdout)
    assert found["answers"] == PROMPTS, found["errors"]
    assert found["longest_ms"] < STALL_MS, found
    assert found["resident_mb"] < MOST_MB
