"""Receipts survive processes: whoever is killed, what was signed is complete at the next contact."""

import signal
import sqlite3
import time
from contextlib import ExitStack, closing
from pathlib import Path
from subprocess import PIPE, Popen

from .processes import COMMAND, COMMAND_S, ENVIRONMENT, QUIETLY, SERVING, NodeProcess, command, run_node
from .wires import wire_to


def rows(journal: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as reader:
        return reader.execute(query).fetchall()


def wait_rows(journal: Path, query: str) -> list[tuple[object, ...]]:
    """Rows of a journal, as soon as there are any."""
    deadline = time.monotonic() + COMMAND_S
    while not (found := rows(journal, query)):
        assert time.monotonic() < deadline, query
        time.sleep(0.02)
    return found


class Owed:
    """A client and a node whose signatures are on no wire: the node worked until its window was full, and the client
    has signed for all of it, in its journal."""

    def __init__(self, root: Path, store: Path, stack: ExitStack) -> None:
        self.ours, self.theirs = root / "client" / "client.sqlite", root / "node" / "journal.sqlite"
        self._data, self._store = root / "client", store
        self.node = stack.enter_context(run_node(root / "node", store, *SERVING))
        wire = stack.enter_context(wire_to(self.node.address))
        words = [*COMMAND, *self._asking(wire.address, 4000), *QUIETLY]
        self.client = stack.enter_context(Popen(words, stdout=PIPE, stderr=PIPE, text=True, env=ENVIRONMENT))
        assert self.client.stdout is not None
        self.client.stdout.read(4)
        wire.hold()
        [(seq,)] = wait_rows(self.theirs, "SELECT max(seq) FROM proposal HAVING count(*) = 8")
        wait_rows(self.ours, f"SELECT 1 FROM receipt WHERE seq >= {seq} AND NOT stored")

    def _asking(self, address: str, tokens: int) -> list[str]:
        options = ("--data", self._data, "--store", self._store, "--max-tokens", tokens, "--bootstrap", address)
        return ["ask", "hello", *map(str, options)]

    def give_up(self) -> None:
        """Whoever asked does not wait for the node to come back."""
        self.client.send_signal(signal.SIGINT)
        _, words = self.client.communicate()
        assert self.client.returncode == 130, words
        assert "Traceback" not in words

    def meet(self, *nodes: NodeProcess) -> None:
        """The client asks something else, and so meets the node again."""
        [(contract, signed)] = rows(self.ours, "SELECT contract, seq FROM receipt WHERE NOT stored")
        assert rows(self.theirs, "SELECT max(seq) FROM proposal") == [(signed,)]
        assert (
            command(
                *self._asking(nodes[0].address, 8), *(f"--bootstrap={node.address}" for node in nodes[1:])
            ).returncode
            == 0
        )
        wait_rows(self.theirs, "SELECT 1 WHERE NOT EXISTS (SELECT * FROM proposal)")
        complete = f"SELECT contract FROM receipt WHERE seq = {signed}"
        assert rows(self.theirs, complete) == rows(self.ours, f"{complete} AND stored") == [(contract,)]
        assert rows(self.ours, "SELECT count(*) FROM receipt WHERE NOT stored") == [(0,)]


def test_a_node_killed_before_the_signatures_came_gets_them_when_it_is_back(tmp_path: Path, tiny_store: Path) -> None:
    with ExitStack() as stack:
        owed = Owed(tmp_path, tiny_store, stack)
        owed.node.end(signal.SIGKILL)
        owed.give_up()
        owed.meet(stack.enter_context(run_node(tmp_path / "node", tiny_store, *SERVING)))


def test_a_node_back_without_its_model_gets_them_too(tmp_path: Path, tiny_store: Path) -> None:
    with ExitStack() as stack:
        owed = Owed(tmp_path, tiny_store, stack)
        owed.node.end(signal.SIGKILL)
        owed.give_up()
        back = stack.enter_context(run_node(tmp_path / "node", tiny_store))
        other = ("--bootstrap", back.address)
        owed.meet(stack.enter_context(run_node(tmp_path / "other", tiny_store, *SERVING, *other)), back)


def test_a_client_killed_before_its_signatures_left_sends_them_when_it_is_back(
    tmp_path: Path, tiny_store: Path
) -> None:
    with ExitStack() as stack:
        owed = Owed(tmp_path, tiny_store, stack)
        owed.client.kill()
        owed.client.communicate()
        owed.meet(owed.node)
        assert owed.node.end() == 0
        assert "Traceback" not in owed.node.words
