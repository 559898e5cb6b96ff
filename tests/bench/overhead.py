"""CPU seconds of decode and of idling, of this checkout against another one, in pairs (figure 10).

BASE in the environment is the other checkout's folder, its kernel built; the interpreter is this one. Both serve the
demo model, one node each, and both are asked by their own client. PAIRS is how many pairs there are; times are CPU time
of the node and its engine, so that what else the machine does counts little. Which goes first changes with each pair.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from subprocess import PIPE, Popen
from typing import Final

import psutil

from tests.bench.figures import Bound, Figure
from tests.bench.machine import cpu_s_of
from tests.bench.setting import demo_model

ABOUT = "CPU time a token of decode and of idling, against the checkout that BASE names"
PAIRS: Final = 30
TOKENS: Final = 256
IDLE_S: Final = 10.0
MOST: Final = 1.03  # times that of the other checkout
HERE: Final = Path(__file__).parents[2]
# Runs in either checkout: it needs nothing but the library's own face
CLIENT: Final = """
import sys, trio
from pathlib import Path
from p2pinfer import open_client
async def main(data, store, bootstrap):
    async with open_client(Path(data), Path(store), [bootstrap]) as client:
        while line := await trio.to_thread.run_sync(sys.stdin.readline):
            answer = await client.answer("The history of the motor car begins with", max_tokens=int(line))
            print(len(answer.ids), flush=True)
trio.run(main, *sys.argv[1:])
"""


def run() -> Sequence[Figure]:
    base = os.environ.get("BASE", "")
    if not base:
        sys.exit("bench overhead: name the other checkout, for example: make bench BENCH=overhead BASE=/path/to/it")
    pairs, idle_s = int(os.environ.get("PAIRS", PAIRS)), float(os.environ.get("IDLE_S", IDLE_S))
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="p2pinfer-bench-")))
        ours = stack.enter_context(_open_side(HERE, root / "ours"))
        theirs = stack.enter_context(_open_side(Path(base), root / "theirs"))
        for side in (ours, theirs):
            side.decode_s()  # links, caches and codecs are warm after it
        decode, idle = _ratios(ours, theirs, pairs, idle_s)
    detail = f"{len(decode)} pairs, {min(decode):.3f} to {max(decode):.3f}"
    spent = [sum(side) for side in zip(*idle, strict=True)]
    shares = " and ".join(f"{1000 * one / (len(idle) * idle_s):.2f}" for one in spent)
    idling = f"{len(idle)} times {idle_s:.0f} s together; {shares} ms of CPU a second"
    return [
        Figure("CPU a token, of the base's", median(decode), Bound.BELOW, MOST, "x", f"{detail}; {TOKENS} tokens each"),
        Figure("CPU of idling, of the base's", spent[0] / spent[1], Bound.BELOW, MOST, "x", idling),
    ]


def _ratios(ours: "_Side", theirs: "_Side", pairs: int, idle_s: float) -> tuple[list[float], list[tuple[float, float]]]:
    """Of each pair the ratio of decode, and what either side spent idling: a few wake-ups, so their sum says more."""
    decode, idle = [], []
    for pair in range(pairs):
        order = (ours, theirs) if pair % 2 else (theirs, ours)
        spent = {id(side): side.decode_s() for side in order}
        decode.append(spent[id(ours)] / spent[id(theirs)])
        before = [side.cpu_s for side in (ours, theirs)]  # both idle at the same time
        time.sleep(idle_s)
        idle.append((ours.cpu_s - before[0], theirs.cpu_s - before[1]))
    return decode, idle


@dataclass
class _Side:
    """A node of one checkout and its client."""

    node: "Popen[str]"
    client: "Popen[str]"

    @property
    def pids(self) -> list[int]:
        """The node's and those of what it started."""
        return [self.node.pid, *(child.pid for child in psutil.Process(self.node.pid).children(recursive=True))]

    @property
    def cpu_s(self) -> float:
        return sum(map(cpu_s_of, self.pids))

    def decode_s(self) -> float:
        """CPU seconds for one answer, a token."""
        assert self.client.stdin is not None and self.client.stdout is not None
        before = self.cpu_s
        self.client.stdin.write(f"{TOKENS}\n")
        self.client.stdin.flush()
        count = int(self.client.stdout.readline())
        return (self.cpu_s - before) / count


@contextmanager
def _open_side(checkout: Path, root: Path) -> Iterator[_Side]:
    store, model = demo_model()
    root.mkdir()
    (run := root / "run").mkdir(0o700)  # a roll of its own, or the clients of both sides ask one node
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1", "XDG_RUNTIME_DIR": str(run)}
    node = [sys.executable, "-m", "p2pinfer", "node", "--data", str(root / "node"), "--store", str(store.root)]
    node += ["--listen", "/ip4/127.0.0.1/tcp/0", "--model", model.name, "--threads", "1"]
    node += ["--layers", f"0:{model.manifest.layers}"]
    with Popen(node, stdout=PIPE, stderr=subprocess.DEVNULL, text=True, env=environment, cwd=checkout) as serving:
        try:
            assert serving.stdout is not None
            address = serving.stdout.readline().strip().removeprefix("ready ")
            command = [sys.executable, "-c", CLIENT, str(root / "client"), str(store.root), address]
            with Popen(command, stdin=PIPE, stdout=PIPE, text=True, env=environment, cwd=checkout) as client:
                yield _Side(serving, client)
                assert client.stdin is not None
                client.stdin.close()
        finally:
            serving.terminate()
