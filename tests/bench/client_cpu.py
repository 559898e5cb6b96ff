"""CPU time of a client for each id that it gets, at sixteen streams through three stages.

With BASE in the environment, the folder of another checkout, a client of that one asks the same nodes in turn with
ours, so that both are measured in one run. Opening and settling are not counted: they cost once, and ids go on coming.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import median
from subprocess import PIPE
from typing import Final

import trio

from p2pinfer.cli.processes import open_swarm
from tests.bench.figures import Bound, Figure
from tests.bench.many_streams import PROMPTS
from tests.bench.setting import RUNS, demo_model

ABOUT = "CPU time of the client a token, at 16 streams through three stages; against a checkout that BASE names"
MOST_MS: Final = 0.1
TOKENS: Final = 192
BEGUN: Final = 16  # pieces that each stream has had before it counts; whoever reads them notes it, for a timer costs
HERE: Final = Path(__file__).parents[2]
# Runs in either checkout: it needs little but the library's own face
CLIENT: Final = """
import sys, time, trio
from pathlib import Path
from p2pinfer import open_client

async def measure(client, prompts, tokens, begun):
    streams, begins, marks = [], [], []
    def mark():
        marks.append((time.process_time(), sum(len(one.ids) for one in streams)))
    async def one(prompt):
        pieces = 0
        async with client.open_answer(prompt, max_tokens=tokens) as stream:
            streams.append(stream._running.generation)
            async for _ in stream:
                pieces += 1
                if pieces == begun:
                    begins.append(prompt)
                    if len(begins) == len(prompts):
                        mark()
            if len(marks) == 1:
                mark()
            await stream.wait_paid()
    async with trio.open_nursery() as nursery:
        for prompt in prompts:
            nursery.start_soon(one, prompt)
    (cpu, ids), (later_cpu, later_ids) = marks
    return 1000 * (later_cpu - cpu) / (later_ids - ids)

async def main(data, store, bootstrap, tokens, begun, *prompts):
    async with open_client(Path(data), Path(store), [bootstrap], mdns=False) as client:
        while await trio.to_thread.run_sync(sys.stdin.readline):
            print(await measure(client, prompts, int(tokens), int(begun)), flush=True)

trio.run(main, *sys.argv[1:])
"""


def run() -> Sequence[Figure]:
    return trio.run(_run, os.environ.get("BASE", ""))


async def _run(base: str) -> Sequence[Figure]:
    store, model = demo_model()
    checkouts = [HERE, *([Path(base)] if base else [])]
    options = ("--threads", "1", "--numerics", "i8g32-1")
    with tempfile.TemporaryDirectory(prefix="p2pinfer-bench-") as folder:
        root = Path(folder)
        async with AsyncExitStack() as stack:
            bootstrap, *_ = await stack.enter_async_context(open_swarm(root, store.root, model, 3, *options))
            folders = store.root, bootstrap.address
            sides = [
                await stack.enter_async_context(_open_side(checkout, root / f"client{at}", *folders))
                for at, checkout in enumerate(checkouts)
            ]
            for side in sides:
                await side.measure_ms()  # links and caches are warm after it
            measured = [[await side.measure_ms() for side in sides] for _ in range(RUNS)]
    return _figures(measured)


def _figures(measured: Sequence[Sequence[float]]) -> Sequence[Figure]:
    ours = [row[0] for row in measured]
    detail = f"{len(ours)} runs, {min(ours):.3f} to {max(ours):.3f}; {len(PROMPTS)} streams of {TOKENS} tokens"
    figures = [Figure("client CPU a token, 16 streams", median(ours), Bound.BELOW, MOST_MS, "ms", detail)]
    if len(measured[0]) > 1:
        ratios, theirs = [one / other for one, other in measured], [row[1] for row in measured]
        detail = f"{median(theirs):.3f} ms there; {min(ratios):.2f} to {max(ratios):.2f}"
        figures.append(Figure("the same, of the base's", median(ratios), Bound.BELOW, 1.0, "x", detail))
    return figures


class _Side:
    def __init__(self, process: trio.Process) -> None:
        self._process = process

    async def measure_ms(self) -> float:
        """CPU time a token, of the whole process."""
        assert self._process.stdin is not None and self._process.stdout is not None
        await self._process.stdin.send_all(b"\n")
        words = b""
        while not words.endswith(b"\n"):
            if not (more := await self._process.stdout.receive_some()):
                raise RuntimeError("the client has ended: a checkout of BASE has to speak as this one does")
            words += more
        return float(words)


@asynccontextmanager
async def _open_side(checkout: Path, data: Path, store: Path, bootstrap: str) -> AsyncIterator[_Side]:
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    words = [str(data), str(store), bootstrap, str(TOKENS), str(BEGUN), *PROMPTS]
    process = await trio.lowlevel.open_process(
        [sys.executable, "-c", CLIENT, *words],
        stdin=PIPE,
        stdout=PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        cwd=checkout,  # which goes before what the environment says
    )
    try:
        yield _Side(process)
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
