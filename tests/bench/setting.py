"""What several benches stand on: the demo model, a swarm of processes, and the same engine alone."""

import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Final

import trio

from p2pinfer.cli.processes import NodeProcess, open_swarm
from p2pinfer.client.api import Client, open_client
from p2pinfer.core.models.manifest import TOKENIZER
from p2pinfer.core.models.text import Texts
from p2pinfer.core.records.draw import GREEDY
from p2pinfer.core.sessions.pages import pages_for
from p2pinfer.core.sessions.step import Step
from p2pinfer.core.values.errors import ModelError
from p2pinfer.core.values.units import Codec, Numerics
from p2pinfer.core.wire.session_messages import pack_ids
from p2pinfer.disk.importing import import_model
from p2pinfer.disk.places import default_store
from p2pinfer.disk.store import Store, StoredModel
from p2pinfer.engine.door import Engine
from p2pinfer.engine.process import open_engine
from p2pinfer.node.settings import Serve
from p2pinfer.node.shard import shard_spec

MODEL: Final = "smollm2-135m-instruct"
RUNS: Final = 5  # of each side of a comparison, in turn
FIRST: Final = 16  # from the arrival of this token
LAST: Final = 128  # to the arrival of this one
MEMORY_MB: Final = 1_000


@cache
def demo_model() -> tuple[Store, StoredModel]:
    """The demo model in the platform's store, imported if it is not there."""
    store = Store(default_store())
    try:
        return store, store.find(MODEL)
    except ModelError:
        return store, import_model("demo", store)


@asynccontextmanager
async def open_stages(stages: int, numerics: Numerics) -> AsyncIterator[tuple[Client, Sequence[NodeProcess]]]:
    """A client of a swarm of processes on loopback: a bootstrap peer, and nodes with one engine thread each."""
    store, model = demo_model()
    options = ("--threads", "1", "--numerics", numerics.label)
    with tempfile.TemporaryDirectory(prefix="p2pinfer-bench-") as folder:
        root = Path(folder)
        async with (
            open_swarm(root, store.root, model, stages, *options) as (bootstrap, *nodes),
            open_client(root / "client", store.root, [bootstrap.address]) as client,
        ):
            yield client, nodes


async def ask(client: Client, prompt: str, tokens: int = LAST) -> list[float]:
    """When each id of a greedy answer came to the client."""
    times: list[float] = []
    async with client.open_answer(prompt, max_tokens=tokens) as stream:
        running = stream._running
        while not running.generation.over:
            changed = running.changed
            times += [time.perf_counter()] * (len(running.generation.ids) - len(times))
            await changed.wait()
        times += [time.perf_counter()] * (len(running.generation.ids) - len(times))
        _ = stream.answer  # raises what went wrong
    return times


@asynccontextmanager
async def open_whole(threads: int, numerics: Numerics) -> AsyncIterator[Engine]:
    """The engine with the whole model, alone in one process."""
    store, model = demo_model()
    serve = Serve(threads=threads, memory_mb=MEMORY_MB, numerics=numerics.label)
    async with open_engine(shard_spec(store, model, model.manifest.span, serve)) as engine:
        yield engine


async def decode_alone(engine: Engine, prompts: Sequence[str], tokens: int = LAST, every_s: float = 0.0) -> list[float]:
    """When each batch of ids was there, greedy, all prompts in step, by the engine's own clock.

    The way through the door is not counted: this is the engine, and nothing else. every_s: begin a batch no sooner
    than so long after the one before; the pauses are not counted either, but weights may leave the caches meanwhile.
    """
    store, model = demo_model()
    texts = Texts(store.read(model.id, TOKENIZER), model.manifest)
    ids = [list(texts.encode(prompt)) for prompt in prompts]
    began_s = engine.busy_s
    for slot, prompt in enumerate(ids):
        await engine.open_session(slot, pages_for(len(prompt) + tokens))
    latest = [await _step(engine, [(slot, 0, prompt)]) for slot, prompt in enumerate(ids)]
    sampled = [one[0] for one in latest]
    begun_s = trio.current_time()
    times = [engine.busy_s - began_s]
    while len(times) < tokens:
        await trio.sleep_until(begun_s + every_s)
        begun_s = trio.current_time()
        position = len(times) - 1
        steps = [(slot, len(prompt) + position, [sampled[slot]]) for slot, prompt in enumerate(ids)]
        sampled = await _step(engine, steps)
        times.append(engine.busy_s - began_s)
    for slot in range(len(ids)):
        engine.close_session(slot)
    return times


async def _step(engine: Engine, steps: Sequence[tuple[int, int, Sequence[int]]]) -> list[int]:
    outputs = await engine.step(
        [Step(slot, position, pack_ids(ids), Codec.IDS, Codec.IDS, GREEDY) for slot, position, ids in steps]
    )
    return [output.ids[0] for output in outputs]


async def gather_times(client: Client, prompts: Sequence[str], tokens: int = LAST) -> list[list[float]]:
    """`ask` for all prompts at once."""
    times: list[list[float]] = [[] for _ in prompts]

    async def one(at: int, prompt: str) -> None:
        times[at] = await ask(client, prompt, tokens)

    async with trio.open_nursery() as nursery:
        for at, prompt in enumerate(prompts):
            nursery.start_soon(one, at, prompt)
    return times
