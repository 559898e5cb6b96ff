"""Twenty nodes that nobody asks anything: what each takes of a core and of its line, and how many links it keeps.

Every node is what a person starts: a process with its engine's and its part of the DHT. Each joins through one that was
there before it; every second one chooses its layers, the others hold a third of them each. Then they are left alone.
What happens but once an hour is not in the figures: while a part of the DHT looks through its table and says again what
it provides, it takes about a percent of a core for a minute, and those whom it asks less.
"""

import random
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Final

import psutil
import trio

from p2pinfer.cli.processes import NodeProcess, open_node_process
from p2pinfer.disk.importing import import_model
from p2pinfer.disk.store import Store
from tests.bench.figures import Bound, Figure
from tests.bench.machine import child_with, parts_with, usage_of
from tests.bench.sockets import Carried, Connections
from tests.disk.tiny import tiny_folder

ABOUT = "20 nodes of a tiny model while nobody asks, for ten minutes"
NODES: Final = 20
LAYERS: Final = 6
SETTLE_S: Final = 120.0  # after the last one's start
WATCH_S: Final = 600.0
LOOK_S: Final = 5.0  # between looks at the connections
SEED: Final = 1
SEGMENT: Final = 52  # bytes of IP's and TCP's headers
PARTS: Final = {"engine": "p2pinfer.engine.worker", "DHT": "p2pinfer.overlay.libp2p.dht_process"}
OWN: Final = "node"


@dataclass(frozen=True, slots=True)
class Idled:
    """One node, over the time it was watched.

    cpu:     shares of a core, by part
    carried: bytes and segments a second, by part
    links:   at each look
    """

    cpu: Mapping[str, float]
    carried: Mapping[str, Carried]
    links: Sequence[int]

    @property
    def share(self) -> float:
        return sum(self.cpu.values())

    @property
    def sent(self) -> int:
        return sum(one.sent for one in self.carried.values())

    @property
    def received(self) -> int:
        return sum(one.received for one in self.carried.values())

    @property
    def on_wire(self) -> int:
        """Bytes sent, headers among them."""
        return self.sent + SEGMENT * sum(one.segments for one in self.carried.values())


def run() -> Sequence[Figure]:
    return figures(trio.run(measure, NODES, SETTLE_S, WATCH_S), WATCH_S)


def figures(idled: Sequence[Idled], watch_s: float) -> Sequence[Figure]:
    shares, links = [100 * one.share for one in idled], [fmean(one.links) for one in idled]
    sent, received = [one.sent for one in idled], [one.received for one in idled]
    by_part = ", ".join(f"{part} {100 * median(one.cpu[part] for one in idled):.3f}" for part in idled[0].cpu)
    bytes_by_part = ", ".join(f"{part} {median(one.carried[part].sent for one in idled):.0f}" for part in (OWN, "DHT"))
    how = f"over {watch_s:.0f} s"
    wire = f"{median(one.on_wire for one in idled):.0f} with headers of TCP and IP"
    count, most = len(idled), max(max(one.links) for one in idled)
    return [
        Figure(f"{count} nodes idle, CPU", median(shares), Bound.BELOW, 0.3, "% of a core", f"median {how}: {by_part}"),
        Figure(f"{count} nodes idle, CPU at most", max(shares), Bound.BELOW, 0.3, "% of a core", "of the busiest"),
        Figure(f"{count} nodes idle, sent", median(sent), Bound.BELOW, 1000, "B/s", f"{bytes_by_part}; {wire}"),
        Figure(f"{count} nodes idle, sent at most", max(sent), Bound.BELOW, 1000, "B/s"),
        Figure(f"{count} nodes idle, received at most", max(received), Bound.BELOW, 1000, "B/s"),
        Figure(
            f"{count} nodes idle, links at most",
            max(links),
            Bound.BELOW,
            13,
            "",
            f"mean of the node with most; median {median(links):.1f}, {most} at any moment",
        ),
    ]


async def measure(count: int, settle_s: float, watch_s: float) -> Sequence[Idled]:
    with tempfile.TemporaryDirectory(prefix="p2pinfer-bench-") as folder:
        root = Path(folder)
        store = Store(root / "store")
        tiny = tiny_folder(root / "tiny", num_hidden_layers=LAYERS, hidden_size=64, intermediate_size=96)
        model = import_model(str(tiny), store)
        async with open_nodes(root, store.root, model.id.hex(), count) as nodes:
            await trio.sleep(settle_s)
            return await watch([child_with(node.data) for node in nodes], watch_s)


@asynccontextmanager
async def open_nodes(root: Path, store: Path, model: str, count: int) -> AsyncIterator[Sequence[NodeProcess]]:
    """So many nodes, one started after the other."""
    lots, nodes = random.Random(SEED), list[NodeProcess]()
    third = LAYERS // 3
    async with AsyncExitStack() as stack:
        for at in range(count):
            wanted = ["--model", model, "--numerics", "i8g32-1", "--threads", "1"]
            if at % 2:
                first = at // 2 % 3 * third
                wanted += ["--layers", f"{first}:{first + third}"]
            if nodes:
                wanted += ["--bootstrap", lots.choice(nodes).address]
            nodes.append(await stack.enter_async_context(open_node_process(root / f"node{at}", store, *wanted)))
        yield nodes


async def watch(pids: Sequence[int], watch_s: float) -> Sequence[Idled]:
    """What these nodes take meanwhile."""
    parts = [_parts(pid) for pid in pids]
    connections = Connections({pid: _name(at, part) for at, one in enumerate(parts) for part, pid in one.items()})
    before = [_cpu_s(one) for one in parts]
    links: list[list[int]] = [[] for _ in parts]
    began = trio.current_time()
    while (left_s := began + watch_s - trio.current_time()) > 0:
        await trio.sleep(min(LOOK_S, left_s))
        connections.look()
        for at, one in enumerate(links):
            one.append(connections.open[_name(at, OWN)])
    passed_s = trio.current_time() - began
    after = [_cpu_s(one) for one in parts]
    carried = connections.since_first()
    return [
        Idled(
            {part: (after[at][part] - before[at][part]) / passed_s for part in one},
            {part: _a_second(carried[_name(at, part)], passed_s) for part in one},
            links[at],
        )
        for at, one in enumerate(parts)
    ]


def _parts(pid: int) -> Mapping[str, int]:
    """The processes of a node."""
    found = {OWN: pid} | {part: one.pid for part, module in PARTS.items() for one in parts_with(pid, module)}
    if len(found) != len(psutil.Process(pid).children()) + 1:
        raise RuntimeError(f"the node {pid} has other processes than {', '.join(found)}")
    return found


def _name(at: int, part: str) -> str:
    return f"{part} {at}"


def _cpu_s(parts: Mapping[str, int]) -> Mapping[str, float]:
    return {part: usage_of(pid).cpu_s for part, pid in parts.items()}


def _a_second(carried: Carried, passed_s: float) -> Carried:
    return Carried(*(round(count / passed_s) for count in (carried.sent, carried.received, carried.segments)))
