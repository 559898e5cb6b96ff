"""Signals end a node in every phase, once is enough, and its engine neither ends before it nor stays behind."""

import os
import signal
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from subprocess import PIPE, Popen

import psutil
import pytest

from .processes import COMMAND, COMMAND_S, DHT, ENGINE, ENVIRONMENT, QUIETLY, SERVING, NodeProcess, parts_of, run_node

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@pytest.fixture
def node(tmp_path: Path, tiny_store: Path) -> Iterator[NodeProcess]:
    with run_node(tmp_path / "node", tiny_store, *SERVING, start_new_session=True) as node:
        yield node


@contextmanager
def asking(node: NodeProcess, root: Path, store: Path) -> Iterator["Popen[str]"]:
    """A client in the middle of a long answer."""
    words = ("ask", "hello", *QUIETLY, "--data", root / "client", "--store", store, "--max-tokens", 4000)
    command = [*COMMAND, *map(str, words), "--bootstrap", node.address]
    with Popen(command, stdout=PIPE, stderr=PIPE, text=True, env=ENVIRONMENT) as client:
        try:
            assert client.stdout is not None
            client.stdout.read(4)
            yield client
        finally:
            client.kill()


def engine_of(node: NodeProcess) -> psutil.Process:
    [engine] = parts_of(node.process, ENGINE)
    return engine


def counts(journal: Path, *queries: str) -> list[int]:
    with closing(sqlite3.connect(journal)) as reader:
        return [reader.execute(f"SELECT count(*) FROM {query}").fetchone()[0] for query in queries]


def check_paid(node: NodeProcess, root: Path) -> None:
    """The node ended by itself, and what it had done was signed before."""
    assert node.process.wait(COMMAND_S) == 0, node.words
    assert "Traceback" not in node.words
    assert counts(root / "node" / "journal.sqlite", "receipt WHERE final", "proposal") == [1, 0]


def test_a_signal_to_all_processes_of_a_node_lets_it_be_paid(
    node: NodeProcess, tmp_path: Path, tiny_store: Path
) -> None:
    """A service manager sends SIGTERM to all of them."""
    with asking(node, tmp_path, tiny_store):
        for pid in (engine_of(node).pid, node.process.pid):
            os.kill(pid, signal.SIGTERM)
        check_paid(node, tmp_path)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_to_the_process_group_lets_the_node_be_paid(
    node: NodeProcess, tmp_path: Path, tiny_store: Path, number: int
) -> None:
    with asking(node, tmp_path, tiny_store):
        os.killpg(node.process.pid, number)
        check_paid(node, tmp_path)


def test_a_terminal_that_closes_and_says_so_twice_ends_the_node_cleanly(
    node: NodeProcess, tmp_path: Path, tiny_store: Path
) -> None:
    with asking(node, tmp_path, tiny_store) as client:
        client.send_signal(signal.SIGSTOP)  # so that the node waits for it
        node.process.send_signal(signal.SIGHUP)
        time.sleep(0.2)
        node.process.send_signal(signal.SIGHUP)
        client.send_signal(signal.SIGCONT)
        check_paid(node, tmp_path)


def test_one_more_signal_ends_a_node_at_once(node: NodeProcess, tmp_path: Path, tiny_store: Path) -> None:
    engine = engine_of(node)
    with asking(node, tmp_path, tiny_store) as client:
        client.send_signal(signal.SIGSTOP)
        node.process.send_signal(signal.SIGTERM)
        time.sleep(2.0)
        assert node.process.poll() is None
        node.process.send_signal(signal.SIGTERM)
        assert node.process.wait(1.0) == -signal.SIGTERM
        engine.wait(COMMAND_S)


def test_an_engine_ends_with_a_node_that_is_killed(node: NodeProcess) -> None:
    engine = engine_of(node)
    node.end(signal.SIGKILL)
    engine.wait(COMMAND_S)


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_a_part_of_the_dht_that_stops_or_ends_holds_no_node_up(node: NodeProcess, number: int) -> None:
    [part] = parts_of(node.process, DHT)
    part.send_signal(number)
    assert node.end() == 0
    part.wait(COMMAND_S)


def test_a_part_of_the_dht_ends_with_a_node_that_is_killed(node: NodeProcess) -> None:
    [part] = parts_of(node.process, DHT)
    node.end(signal.SIGKILL)
    part.wait(COMMAND_S)


def test_what_was_done_before_the_engine_died_is_paid(node: NodeProcess, tmp_path: Path, tiny_store: Path) -> None:
    with asking(node, tmp_path, tiny_store):
        engine_of(node).kill()
        assert node.process.wait(COMMAND_S) == 1
    assert node.words.splitlines()[-1] == "Error: the engine's process was killed by signal 9"
    assert counts(tmp_path / "node" / "journal.sqlite", "receipt WHERE final", "proposal") == [1, 0]


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("all_of_them", [False, True])
def test_a_signal_while_a_node_loads_ends_it_cleanly(
    tmp_path: Path, tiny_store: Path, number: int, all_of_them: bool
) -> None:
    with loading(tmp_path / "node", tiny_store) as process:
        engine = wait_engine(process)
        for pid in [engine.pid] * all_of_them + [process.pid]:
            os.kill(pid, number)
        told, words = process.communicate(timeout=COMMAND_S)
        engine.wait(COMMAND_S)
    assert process.returncode == 0, words
    assert "Traceback" not in words
    assert told == ""


@contextmanager
def loading(data: Path, store: Path, options: Sequence[str] = SERVING) -> Iterator["Popen[str]"]:
    command = [*COMMAND, "node", "--data", str(data), "--store", str(store), *options]
    with Popen(command, stdout=PIPE, stderr=PIPE, text=True, env=ENVIRONMENT) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_engine(process: "Popen[str]") -> psutil.Process:
    """The engine's process, as soon as it can be told what signals mean to it."""
    deadline = time.monotonic() + COMMAND_S
    while time.monotonic() < deadline:
        for engine in parts_of(process, ENGINE):
            if ignores(engine.pid, signal.SIGTERM):
                return engine
        time.sleep(0.01)
    raise AssertionError("no engine came")


def ignores(pid: int, number: int) -> bool:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    [mask] = [int(line.split()[1], 16) for line in lines if line.startswith("SigIgn:")]
    return bool(mask >> number - 1 & 1)


def test_nohup_keeps_a_node_alive(tmp_path: Path, tiny_store: Path) -> None:
    with ExitStack() as stack:
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        stack.callback(signal.signal, signal.SIGHUP, before)
        node = stack.enter_context(run_node(tmp_path / "node", tiny_store))
        node.process.send_signal(signal.SIGHUP)
        assert node.end() == 0
        assert "SIGTERM: the node ends" in node.words
        assert "SIGHUP" not in node.words


def test_who_waits_is_told_for_what_and_ctrl_c_ends_it(tmp_path: Path) -> None:
    words = ("ask", "hello", *QUIETLY, "--wait", 600, "--data", tmp_path, "--store", tmp_path / "store")
    with Popen([*COMMAND, *map(str, words)], stdout=PIPE, stderr=PIPE, text=True, env=ENVIRONMENT) as client:
        assert client.stderr is not None
        assert client.stderr.readline() == "waiting for a peer to ask, of which none is known ...\n"
        client.send_signal(signal.SIGINT)
        assert client.wait(COMMAND_S) == 130
        assert client.stderr.read().strip() == ""
