"""What a long past costs: commands, an open, a client's start, beside the same at an empty journal.

A node has 100,000 contracts of one client, and a client 150,000, which are 300,000 rows. Their journals are made once a
run, which takes a minute or two. Long and empty take turns.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Final

import trio

from p2pinfer.core.money.budget import Risk
from p2pinfer.core.records.records import countersign, sign
from p2pinfer.core.swarm.source import NOWHERE
from p2pinfer.core.values.units import SessionId
from p2pinfer.disk.journal import Journal, open_journal
from p2pinfer.disk.journal_file import prove_journal
from p2pinfer.disk.places import client_journal, node_journal
from p2pinfer.node.exposure import Exposure
from tests.bench.figures import Bound, Figure
from tests.bench.past import Past, make_past
from tests.bench.setting import RUNS
from tests.core.paid_route import CLIENT, NODES, contract_on, route_offers

ABOUT = "commands, opens and starts at a journal of 100,000 contracts, beside an empty one"
CONTRACTS: Final = 100_000
ROWS: Final = 300_000  # of the client: a contract and a receipt each
OPENS: Final = 50
MUCH: Final = 1 << 40
MB: Final = 1 << 20
# A small process measures, since a child's memory is counted from that of its parent
MEASURE: Final = """
import resource, subprocess, sys, time
began = time.perf_counter()
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
# With what they may cost more than at an empty journal
COMMANDS: Final = {
    "owed": (("owed", "--json"), 1.5),
    "owed settle": (("owed", "settle", "--json", "--no-mdns"), 1.5),
    "receipt show": (("receipt", "show", "00000000"), 1.5),
    "ask": (("ask", "--no-mdns", "--wait", "0", "hello"), 1.5),
}


@dataclass(frozen=True)
class Ran:
    """seconds: from start to end; memory: MB at most"""

    seconds: float
    memory: float


def run() -> Sequence[Figure]:
    with tempfile.TemporaryDirectory(prefix="p2pinfer-bench-") as folder:
        empty, long = Path(folder) / "empty", Path(folder) / "long"
        for data, contracts, paid in ((empty, 0, 0), (long, CONTRACTS, ROWS // 2)):
            data.mkdir()
            make_past(node_journal(data), Past(contracts))
            make_past(client_journal(data), Past(paid, stages=3, days=10, is_client=True))  # nothing is left to settle
        return [*_earnings(long, empty), *_commands(long, empty), *trio.run(_opens, long, empty), _proof(long)]


def _earnings(long: Path, empty: Path) -> list[Figure]:
    words = ("earnings", "--json")
    ours, theirs = zip(*((_command(long, words), _command(empty, words)) for _ in range(RUNS)), strict=True)
    seconds, memory = median(ran.seconds for ran in ours), max(ran.memory for ran in ours)
    detail = (
        f"the whole command; {median(ran.seconds for ran in theirs):.2f} s at an empty journal; {RUNS} runs in turn"
    )
    return [
        Figure("earnings, 100,000 receipts", seconds, Bound.BELOW, 0.5, "s", detail),
        Figure("earnings, memory", memory, Bound.BELOW, 100, "MB", f"at most, of {RUNS} runs"),
    ]


def _commands(long: Path, empty: Path) -> list[Figure]:
    figures = []
    for name, (words, bound) in COMMANDS.items():
        pairs = [(_command(long, words).seconds, _command(empty, words).seconds) for _ in range(RUNS)]
        ours, theirs = (median(column) for column in zip(*pairs, strict=True))
        detail = f"{ours:.2f} s, and {theirs:.2f} s at an empty journal; {RUNS} runs in turn"
        figures.append(Figure(f"{name}, beside an empty journal", ours / theirs, Bound.BELOW, bound, "x", detail))
    return figures


def _command(data: Path, words: Sequence[str]) -> Ran:
    command = [sys.executable, "-m", "p2pinfer", *words, "--data", str(data)]
    ran = subprocess.run([sys.executable, "-c", MEASURE, *command], capture_output=True, check=True, text=True)
    seconds, memory = ran.stdout.split()
    return Ran(float(seconds), int(memory) * 1024 / MB)


async def _opens(long: Path, empty: Path) -> list[Figure]:
    async with AsyncExitStack() as stack:
        nodes = [await _Node.enter(stack, data) for data in (long, empty)]
        opened = [[await node.open(number) for node in nodes] for number in range(OPENS)]
    starts = [[await _start(data) for data in (long, empty)] for _ in range(RUNS)]
    (open_s, open_empty_s), (start_s, start_empty_s) = (
        [median(column) for column in zip(*pairs, strict=True)] for pairs in (opened, starts)
    )
    how = "at an empty journal; in turn"
    return [
        Figure("open at 100,000 contracts", 1e3 * open_s, Bound.BELOW, 5.0, "ms", f"{1e3 * open_empty_s:.2f} ms {how}"),
        Figure(
            "start of a client at 300,000 rows",
            1e3 * start_s,
            Bound.BELOW,
            1e3 * start_empty_s + 20.0,
            "ms",
            f"opening its journal, and all that it asks it; {1e3 * start_empty_s:.2f} ms {how}",
        ),
    ]


class _Node:
    """What a node does for an open that its journal and its books have part in."""

    def __init__(self, journal: Journal, data: Path) -> None:
        self._journal = journal
        self._exposure = Exposure(journal, data, Risk(MUCH, MUCH, MUCH))

    @classmethod
    async def enter(cls, stack: AsyncExitStack, data: Path) -> "_Node":
        return cls(await stack.enter_async_context(open_journal(node_journal(data))), data)

    async def open(self, number: int) -> float:
        now = int(time.time())
        own = {"nonce": (MUCH + number).to_bytes(16, "big"), "issued": now, "expires": now + 600}
        contract = countersign(sign(replace(contract_on(route_offers(1)[0]), **own), CLIENT), NODES[0])  # type: ignore[arg-type]
        began = time.perf_counter()
        await self._exposure.take(contract, NOWHERE, now)
        await self._journal.agree(contract, SessionId(bytes(16)))
        self._exposure.end(contract, None, now)
        return time.perf_counter() - began


async def _start(data: Path) -> float:
    began = time.perf_counter()
    async with open_journal(client_journal(data)) as journal:
        await journal.read(lambda reader: reader.paid_in_vain(CLIENT.public))
        await journal.read(lambda reader: reader.known_nodes(CLIENT.public))
        return time.perf_counter() - began


def _proof(long: Path) -> Figure:
    """What a node takes longer to start after a kill."""
    began = time.process_time()
    prove_journal(node_journal(long))
    seconds = time.process_time() - began
    rows = f"{2 * CONTRACTS:,} rows"
    return Figure("reading all of a journal", seconds, Bound.BELOW, 10.0, "s", f"CPU, of {rows}; once after a kill")
