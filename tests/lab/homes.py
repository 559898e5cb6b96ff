"""Nodes and commands of the product on the hosts of a lab: a node a host, of a tiny model, as at somebody's home."""

import json
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from subprocess import PIPE, Popen
from threading import Thread

from tests.live.processes import COMMAND, ENVIRONMENT, TINY, NodeProcess, command, run_node

from .lab import Host, Lab, Line, open_lab

HOME = Line(up_mbit=10, down_mbit=40, delay_ms=12.5)  # two homes are 25 ms apart, one way
LISTEN = "/ip4/0.0.0.0/tcp/4001"
LISTEN_IPV6 = "/ip6/::/tcp/4001"
LISTENING = f"00000000:{4001:04X} 00000000:0000 0A"  # as /proc/net/tcp has it
PATIENCE_S = 90.0  # for what may take a few tries; how long it does take is no test's business
FIRST_S = 30.0  # for the first answer between homes, a new process and a machine that has other work included


class Homes:
    """lab: the network. Nodes end with it."""

    def __init__(self, lab: Lab, root: Path, store: Path, stack: ExitStack) -> None:
        self.lab = lab
        self._root = root
        self._store = store
        self._stack = stack

    def start(self, host: str, *options: str, listen: str = LISTEN) -> NodeProcess:
        """A node on this host, once it is ready."""
        node = run_node(self._root / host, self._store, *options, listen=listen, within=self.lab.enter(host))
        return self._stack.enter_context(node)

    def serve(self, spans: Mapping[str, str], *options: str, listen: str = LISTEN) -> list[NodeProcess]:
        """A node of the tiny model on each host, with the layers beside its name; they start at once."""
        nodes: dict[str, NodeProcess] = {}

        def start(host: str, span: str) -> None:
            nodes[host] = self.start(host, "--layers", span, *TINY, *options, listen=listen)

        threads = [Thread(target=start, args=item) for item in spans.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return [nodes[host] for host in spans]

    def wait_listening(self, host: str) -> None:
        """Wait until the node on a host listens, or could have for long."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline and LISTENING not in self.lab.run(host, ["cat", "/proc/net/tcp"]).stdout:
            time.sleep(0.2)
        time.sleep(1.0)  # what it then looks at, it has seen

    def client(self, host: str) -> list[object]:
        """Options of a client with folders of its own and no model."""
        return ["--data", self._root / f"{host}-client", "--store", self._root / f"{host}-store"]

    def command(self, host: str, name: str, *words: object) -> "subprocess.CompletedProcess[str]":
        """`p2pinfer NAME WORDS` as a client on a host, to its end."""
        return command(name, *words, *self.client(host), within=self.lab.enter(host))

    def answer(self, host: str, *options: object, within_s: float = FIRST_S) -> dict[str, object]:
        """The answer to a question asked once on a host, eight tokens long."""
        began = time.monotonic()
        result = self.command(host, "ask", "hello", "--json", "--max-tokens", 8, *options)
        assert result.returncode == 0, result.stderr
        assert time.monotonic() < began + within_s, result.stderr
        answer: dict[str, object] = json.loads(result.stdout)
        assert answer["tokens"] == 8
        return answer

    def answer_soon(self, host: str, *options: object) -> dict[str, object]:
        """The same, asked again and again where those who can answer are not found yet."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            result = self.command(host, "ask", "hello", "--json", "--max-tokens", 8, *options)
            assert "Traceback" not in result.stderr
            if result.returncode == 0:
                answer: dict[str, object] = json.loads(result.stdout)
                return answer
        raise AssertionError(result.stderr)

    @contextmanager
    def asking(self, host: str, tokens: int, *options: str) -> Iterator[tuple["Popen[bytes]", bytes]]:
        """A question on a host, while it is answered, and what has come of the answer when the block begins."""
        words = [*COMMAND, "ask", "hello", "--max-tokens", str(tokens), *map(str, self.client(host)), *options]
        command = [*self.lab.enter(host), *words]
        with Popen(command, stdout=PIPE, stderr=PIPE, bufsize=0, env=ENVIRONMENT) as process:
            assert process.stdout is not None
            first = process.stdout.read(1)
            assert first
            yield process, first


@contextmanager
def open_homes(switch: Path, root: Path, store: Path, hosts: Sequence[Host]) -> Iterator[Homes]:
    """A lab of these hosts, on which nothing runs yet."""
    with open_lab(switch, hosts) as lab, ExitStack() as stack:
        yield Homes(lab, root, store, stack)


def bootstrap(*nodes: NodeProcess) -> tuple[str, ...]:
    """Options that name these nodes as peers to meet first."""
    return tuple(word for node in nodes for word in ("--bootstrap", node.address))
