"""Nodes and commands as processes of this machine, started as a person would start them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from select import select
from subprocess import PIPE, CompletedProcess, Popen
from tempfile import gettempdir
from threading import Thread

import psutil

from p2pinfer.core.values.units import Numerics
from p2pinfer.engine.choice import obstacles
from p2pinfer.engine.messages import CPU

READY_S = 90.0
COMMAND_S = 120.0
LOOPBACK = "/ip4/127.0.0.1/tcp/0"
COMMAND = (sys.executable, "-m", "p2pinfer")
ENGINE = "p2pinfer.engine.worker"
DHT = "p2pinfer.overlay.libp2p.dht_process"
# The native engine loads no torch, and starts in a fraction of its time; where it was not built there is torch alone
NUMERICS = (Numerics.F32_1 if obstacles(None, CPU)[Numerics.I8G32_1] else Numerics.I8G32_1).label
TINY = ("--model", "tiny", "--numerics", NUMERICS, "--threads", "1")
SERVING = (*TINY, "--layers", "0:3")  # all of it
QUIETLY = ("--no-mdns",)  # nothing of a test is heard outside this machine
NOWHERE = str(Path(gettempdir()) / "p2pinfer-tests")  # default folders: a node of whoever runs the tests has others
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "XDG_DATA_HOME": NOWHERE}


@dataclass
class NodeProcess:
    """A node. address: where others meet it, empty where it never became ready."""

    process: "Popen[str]"
    log: Path
    address: str

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(COMMAND_S)

    @property
    def words(self) -> str:
        return self.log.read_text()

    def wait_words(self, wanted: str) -> None:
        """Wait until the log has these words."""
        deadline = time.monotonic() + COMMAND_S
        while wanted not in self.words:
            assert time.monotonic() < deadline, self.words
            time.sleep(0.05)


@contextmanager
def run_node(
    data: Path,
    store: Path,
    *options: str,
    listen: str = LOOPBACK,
    within: Sequence[str] = (),
    apart: bool = True,
    **changes: object,
) -> Iterator[NodeProcess]:
    """`p2pinfer node`, until the block ends; `changes` are of Popen, `within` are words that run it elsewhere.

    apart: on a roll of its own, where nobody finds it; else on that of the test
    """
    data.mkdir(parents=True, exist_ok=True)
    own = data.parent / f"{data.name}.run"
    own.mkdir(0o700, exist_ok=True)
    environment = ENVIRONMENT | {"XDG_RUNTIME_DIR": str(own)} if apart else ENVIRONMENT
    log = data.parent / f"{data.name}.log"
    command = [*within, *COMMAND, "node", "--data", str(data), "--store", str(store), "--listen", listen, *options]
    with log.open("w") as stderr:
        process = Popen(command, stdout=PIPE, stderr=stderr, text=True, env=environment, **changes)  # type: ignore
    with process:
        try:
            yield NodeProcess(process, log, _address(process))
        finally:
            process.kill()


def parts_of(node: "Popen[str]", module: str) -> list[psutil.Process]:
    """The processes of a node that run this module."""
    return [part for part in psutil.Process(node.pid).children() if module in _words_of(part)]


def _words_of(part: psutil.Process) -> list[str]:
    try:
        return part.cmdline()
    except psutil.NoSuchProcess:  # it ends at this moment, or has: then it is a zombie
        return []


def run_nodes(stack: ExitStack, root: Path, store: Path, options: Sequence[Sequence[str]]) -> list[NodeProcess]:
    """A node for each set of options, started at once; they end with the stack."""
    nodes: dict[int, NodeProcess] = {}

    def start(number: int, words: Sequence[str]) -> None:
        nodes[number] = stack.enter_context(run_node(root / f"node{number}", store, *words))

    threads = [Thread(target=start, args=(number, words)) for number, words in enumerate(options)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [nodes[number] for number in range(len(options))]


def _address(process: "Popen[str]") -> str:
    assert process.stdout is not None
    ready, _, _ = select([process.stdout], [], [], READY_S)
    line = process.stdout.readline() if ready else ""
    return line.strip().removeprefix("ready ") if line.startswith("ready ") else ""


def command(*arguments: object, text: str | None = None, within: Sequence[str] = ()) -> "CompletedProcess[str]":
    """`p2pinfer ARGUMENTS`, to its end; `within` are words that run it elsewhere."""
    words = [*within, *COMMAND, *map(str, arguments), *(QUIETLY if arguments[0] in ("ask", "swarm") else ())]
    return subprocess.run(
        words, capture_output=True, text=True, timeout=COMMAND_S, check=False, input=text, env=ENVIRONMENT
    )


def failed(result: "CompletedProcess[str]", code: int = 1) -> str:
    """The one sentence of a command that failed as it should."""
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stderr
    lines = result.stderr.strip().splitlines()
    assert lines[-1].startswith("Error: "), result.stderr
    assert sum(line.startswith("Error: ") for line in lines) == 1
    return lines[-1].removeprefix("Error: ")
