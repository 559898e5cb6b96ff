"""Nodes as processes of this machine, for the demo: started with the command a person would type, ended with it."""

import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE
from typing import Final

import trio

from p2pinfer.core.values.errors import P2pinferError
from p2pinfer.disk.store import StoredModel

READY_S: Final = 120.0  # for a node to load and serve; a slow disk reads a model in this time
STOP_S: Final = 10.0  # for a node to leave by itself
ANY_PORT: Final = "/ip4/127.0.0.1/tcp/0"


@dataclass(frozen=True, slots=True)
class NodeProcess:
    """A node that serves. address: where others meet it."""

    data: Path
    address: str


@asynccontextmanager
async def open_node_process(data: Path, store: Path, *options: str) -> AsyncIterator[NodeProcess]:
    """Run `p2pinfer node` for as long as the block lasts; it is ready when the block begins.

    Raises P2pinferError with the node's own words where it does not become ready.
    """
    await trio.Path(data).mkdir(parents=True, exist_ok=True)
    log, apart = data / "log", data.parent / ".run"
    await trio.Path(apart).mkdir(0o700, exist_ok=True)
    command = [sys.executable, "-P", "-m", "p2pinfer", "node", "--data", str(data), "--store", str(store)]
    with log.open("wb") as stderr:
        process = await trio.lowlevel.open_process(
            [*command, "--listen", ANY_PORT, *options],
            stdout=PIPE,
            stderr=stderr,
            stdin=None,
            env={**os.environ, "XDG_RUNTIME_DIR": str(apart)},  # nodes that this user runs here are none of the demo's
        )
    assert process.stdout is not None
    try:
        line = ""
        with trio.move_on_after(READY_S):
            line = await _line(process.stdout)
        if not line.startswith("ready "):
            raise P2pinferError(f"a node did not start: {_last_words(log)}")
        yield NodeProcess(data, line.removeprefix("ready "))
    finally:
        with trio.CancelScope(shield=True):
            await _stop(process)
            await process.stdout.aclose()


@asynccontextmanager
async def open_swarm(
    root: Path, store: Path, model: StoredModel, peers: int, *options: str
) -> AsyncIterator[tuple[NodeProcess, ...]]:
    """A bootstrap peer, then `peers` nodes that met through it and hold equal parts of the layers, head first.

    options: of every node but the bootstrap peer
    """
    layers = model.manifest.layers
    cuts = [layers * at // peers for at in range(peers + 1)]
    nodes: dict[int, NodeProcess] = {}
    ready, stop = trio.Event(), trio.Event()

    async def run(at: int, bootstrap: str) -> None:
        span = f"{cuts[at]}:{cuts[at + 1]}"
        wanted = ("--bootstrap", bootstrap, "--model", model.id.hex(), "--layers", span, *options)
        async with open_node_process(root / f"node{at + 1}", store, *wanted) as node:
            nodes[at] = node
            if len(nodes) == peers:
                ready.set()
            await stop.wait()

    async with open_node_process(root / "bootstrap", store) as bootstrap, trio.open_nursery() as nursery:
        for at in range(peers):
            nursery.start_soon(run, at, bootstrap.address)
        await ready.wait()
        try:
            yield bootstrap, *(nodes[at] for at in range(peers))
        finally:
            stop.set()


async def _line(stream: trio.abc.ReceiveStream) -> str:
    """The first line, or what there is of it when the stream ends."""
    data = b""
    while b"\n" not in data and (more := await stream.receive_some()):
        data += more
    return data.partition(b"\n")[0].decode(errors="replace")


async def _stop(process: trio.Process) -> None:
    if process.poll() is None:
        process.terminate()
        with trio.move_on_after(STOP_S):
            await process.wait()
    if process.poll() is None:
        process.kill()
        await process.wait()


def _last_words(log: Path) -> str:
    lines: Sequence[str] = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
