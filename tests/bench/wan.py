"""Streams between homes: 25 ms one way and 10 Mbit/s up, without faults and with loss and jitter (issue 10).

The floor of a stream is T = S x delay + compute a token: S hops close the ring, and the client is in none of them.
Compute is measured by the engine alone, with the layers of all stages and the streams of the run in one batch, on one
thread; with many streams the stages work at the same time, and may beat it.
Called with a folder, counts and addresses (`python -m tests.bench.wan`), it is the client, on a host of the lab.
"""

import json
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from subprocess import PIPE
from typing import Final

import trio

from p2pinfer.client.api import Client, open_client
from p2pinfer.core.values.units import Numerics
from tests.bench.figures import Bound, Figure, rate_between, rate_together
from tests.bench.many_streams import PROMPTS
from tests.bench.setting import decode_alone, demo_model, gather_times, open_whole
from tests.lab.lab import Host, Lab, Line, build_switch, open_lab

ABOUT = "1, 16 and 64 streams over 2 and 3 stages, homes 25 ms apart with 10 Mbit/s up; needs root"
DELAY_S: Final = 0.025
PLAIN: Final = Line(up_mbit=10, down_mbit=40, delay_ms=12.5)
FAULTY: Final = Line(up_mbit=10, down_mbit=40, delay_ms=12.5, jitter_ms=2.5, loss=0.0025)  # a path has two lines
LINES: Final = {"": PLAIN, ", 0.5 % loss, 5 ms jitter": FAULTY}
STAGES: Final = (2, 3)
STREAMS: Final = (1, 16, 64)
RUNS: Final = 3  # of each number of streams
CLIENTS: Final = 2  # one has at most 32 generations at once
FIRST: Final = 8  # from the arrival of this token
LAST: Final = 72  # to the arrival of this one
PORT: Final = 4001
READY_S: Final = 180.0
CLIENT_S: Final = 900.0  # for all streams of one network
LEAST_SHARE: Final = 0.5  # of the floor's rate; a figure to watch, since the issue names none


@dataclass(frozen=True, slots=True)
class Speed:
    """Tokens a second of one stream (the median of the run's) and of all together, in the median run."""

    stream: float
    together: float


def run() -> Sequence[Figure]:
    return trio.run(_run)


async def _run() -> Sequence[Figure]:
    floors = await _floors()
    figures = []
    with tempfile.TemporaryDirectory(prefix="p2pinfer-bench-") as folder:
        switch = build_switch(Path(folder))
        for stages in STAGES:
            for words, line in LINES.items():
                root = Path(folder) / f"{stages}{words}"
                speeds, switch_share = await _speeds(switch, root, stages, line)
                figures += [
                    _figure(stages, words, streams, speed, floors[streams], switch_share)
                    for streams, speed in speeds.items()
                ]
    return figures


def _figure(stages: int, words: str, streams: int, speed: Speed, compute_s: float, switch_share: float) -> Figure:
    floor = streams / (stages * DELAY_S + compute_s)
    detail = (
        f"{speed.stream:.2f} tok/s a stream; floor {floor:.1f} tok/s, {1000 * stages * DELAY_S:.0f} ms of delay and "
        f"{1000 * compute_s:.1f} ms of compute a step; the lab's switch took {100 * switch_share:.0f} % of a core"
    )
    name = f"{streams} streams, {stages} stages{words}, i8g32-1"
    return Figure(name, speed.together, Bound.AT_LEAST, LEAST_SHARE * floor, "tok/s", detail)


async def _floors() -> dict[int, float]:
    """Seconds of compute a step for so many streams at once, in the engine alone with one thread."""
    floors = {}
    async with open_whole(1, Numerics.I8G32_1) as engine:
        for streams in STREAMS:
            times = await decode_alone(engine, _prompts(streams), LAST)
            floors[streams] = 1 / rate_between(times, FIRST, LAST)
    return floors


def _prompts(streams: int) -> list[str]:
    return [PROMPTS[at % len(PROMPTS)] for at in range(streams)]


async def _speeds(switch: Path, root: Path, stages: int, line: Line) -> tuple[dict[int, Speed], float]:
    """By the number of streams, and the share of a core that the switch took."""
    hosts = [Host(name, line) for name in ("boot", *(f"node{at}" for at in range(stages)), "client")]
    with open_lab(switch, hosts) as lab:
        async with _open_nodes(lab, root, stages) as addresses:
            used_s, began = lab.stats().cpu_s, trio.current_time()
            counts = ",".join(map(str, STREAMS))
            words = ["tests.bench.wan", str(root / "client"), counts, *addresses]
            command = [*lab.enter("client"), sys.executable, "-m", *words]
            with trio.fail_after(CLIENT_S):
                done = await trio.run_process(command, capture_stdout=True)
            share = (lab.stats().cpu_s - used_s) / (trio.current_time() - began)
    return {int(streams): Speed(*pair) for streams, pair in json.loads(done.stdout).items()}, share


@asynccontextmanager
async def _open_nodes(lab: Lab, root: Path, stages: int) -> AsyncIterator[list[str]]:
    """A bootstrap peer, and nodes that hold equal parts of the layers, a host each; the addresses to meet."""
    store, model = demo_model()
    cuts = [model.manifest.layers * at // stages for at in range(stages + 1)]
    options = ("--model", model.id.hex(), "--numerics", Numerics.I8G32_1.label, "--threads", "1")
    async with trio.open_nursery() as nursery:
        address: str = await nursery.start(_run_node, lab, "boot", root, store.root)
        async with trio.open_nursery() as starting:
            for at in range(stages):
                span = ("--layers", f"{cuts[at]}:{cuts[at + 1]}", "--bootstrap", address)
                starting.start_soon(nursery.start, _run_node, lab, f"node{at}", root, store.root, *span, *options)
        yield [address]
        nursery.cancel_scope.cancel()


async def _run_node(
    lab: Lab,
    host: str,
    root: Path,
    store: Path,
    *options: str,
    task_status: trio.TaskStatus[str],  # type: ignore[name-defined]  # old stubs
) -> None:
    """`p2pinfer node` on a host, until cancelled; it starts by saying its address."""
    data = root / host
    data.mkdir(parents=True)
    listen = f"/ip4/{lab.address(host)}/tcp/{PORT}"
    command = [*lab.enter(host), sys.executable, "-m", "p2pinfer", "node", "--data", str(data), "--store", str(store)]
    with (data / "log").open("wb") as stderr:
        process = await trio.lowlevel.open_process(
            [*command, "--listen", listen, *options], stdout=PIPE, stderr=stderr, stdin=None
        )
        assert process.stdout is not None
        try:
            with trio.fail_after(READY_S):
                line = (await process.stdout.receive_some()).decode().strip()
            if not line.startswith("ready "):
                raise RuntimeError(f"a node did not start: {(data / 'log').read_text()}")
            task_status.started(line.removeprefix("ready "))
            await trio.sleep_forever()
        finally:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
                await process.stdout.aclose()


# The client


async def _measure(data: Path, counts: Sequence[int], bootstrap: Sequence[str]) -> dict[int, tuple[float, float]]:
    store, _ = demo_model()
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(open_client(data / str(at), store.root, bootstrap)) for at in range(CLIENTS)
        ]
        await _gather(clients, PROMPTS[:CLIENTS])  # links, tokenizer, speeds
        return {streams: await _median_speed(clients, _prompts(streams)) for streams in counts}


async def _median_speed(clients: Sequence[Client], prompts: Sequence[str]) -> tuple[float, float]:
    runs = [await _gather(clients, prompts) for _ in range(RUNS)]
    single = median(rate_between(times, FIRST, LAST) for run in runs for times in run)
    return single, median(_together(times) for times in runs)


async def _gather(clients: Sequence[Client], prompts: Sequence[str]) -> list[list[float]]:
    """When each token of each answer came; the prompts are dealt out to the clients."""
    streams: list[list[float]] = []

    async def one(client: Client, prompts: Sequence[str]) -> None:
        streams.extend(await gather_times(client, prompts, LAST))

    async with trio.open_nursery() as nursery:
        for at, client in enumerate(clients):
            nursery.start_soon(one, client, prompts[at :: len(clients)])
    return streams


def _together(streams: Sequence[Sequence[float]]) -> float:
    """Tokens a second of all streams: while all run, or, where some wait for others to end, from first to last."""
    begin = max(times[FIRST - 1] for times in streams)
    if begin < min(times[-1] for times in streams):
        return rate_together(streams, FIRST)
    return sum(map(len, streams)) / (max(times[-1] for times in streams) - min(times[0] for times in streams))


if __name__ == "__main__":
    _, data, counts, *bootstrap = sys.argv
    print(json.dumps(trio.run(_measure, Path(data), [int(count) for count in counts.split(",")], bootstrap)))
