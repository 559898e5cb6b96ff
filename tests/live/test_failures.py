"""What breaks in real life: processes killed, ports taken, disks full. A tiny model, real processes, real libp2p."""

import json
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from resource import RLIMIT_FSIZE, prlimit
from subprocess import PIPE, Popen

import pytest

from .processes import (
    COMMAND,
    COMMAND_S,
    ENGINE,
    ENVIRONMENT,
    QUIETLY,
    SERVING,
    TINY,
    NodeProcess,
    command,
    failed,
    parts_of,
    run_node,
    run_nodes,
)

LONG = ("--max-tokens", "4000", *QUIETLY)
HASTY = """
from p2pinfer.core.sessions import suspension
suspension.RETURN_S = 1.0  # in place of half a minute
from p2pinfer.cli.main import run
run()
"""


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def serve(stack: ExitStack, root: Path, store: Path, spans: list[str], bootstrap: str) -> list[NodeProcess]:
    """Nodes of the tiny model for these spans, started at once."""
    options = [*TINY, *(["--bootstrap", bootstrap] if bootstrap else [])]
    return run_nodes(stack, root, store, [("--layers", span, *options) for span in spans])


def ask(root: Path, store: Path, bootstrap: str, *options: object) -> "subprocess.CompletedProcess[str]":
    return command("ask", "hello", "--data", root / "client", "--store", store, "--bootstrap", bootstrap, *options)


def answer(root: Path, store: Path, bootstrap: str) -> dict[str, object]:
    result = ask(root, store, bootstrap, "--json", "--max-tokens", 8)
    assert result.returncode == 0, result.stderr
    found: dict[str, object] = json.loads(result.stdout)
    return found


def test_a_node_killed_in_the_middle_of_an_answer_is_told_and_the_others_live_on(
    stack: ExitStack, tmp_path: Path, tiny_store: Path
) -> None:
    boot = stack.enter_context(run_node(tmp_path / "boot", tiny_store))
    head, middle, tail = serve(stack, tmp_path, tiny_store, ["0:1", "1:2", "2:3"], boot.address)
    asking = [sys.executable, "-c", HASTY, "ask", "hello", "--data", tmp_path / "client", "--store", tiny_store, *LONG]
    with Popen(
        [*map(str, asking), "--bootstrap", boot.address], stdout=PIPE, stderr=PIPE, text=True, env=ENVIRONMENT
    ) as process:
        assert process.stdout is not None
        process.stdout.read(4)
        middle.end(signal.SIGKILL)
        _, words = process.communicate()
    assert process.returncode == 1
    assert "Traceback" not in words
    assert words.splitlines()[-1].startswith("Error: ")
    assert f"…{middle.address[-8:]} " in words.splitlines()[-1]

    [spare] = serve(stack, tmp_path / "later", tiny_store, ["1:2"], boot.address)
    assert answer(tmp_path, tiny_store, boot.address)["tokens"] == 8
    for node in (boot, head, tail, spare):
        assert node.end() == 0
        assert "Traceback" not in node.words


def test_without_the_bootstrap_peer_those_who_know_each_other_go_on(
    stack: ExitStack, tmp_path: Path, tiny_store: Path
) -> None:
    boot = stack.enter_context(run_node(tmp_path / "boot", tiny_store))
    nodes = serve(stack, tmp_path, tiny_store, ["0:1", "1:2", "2:3"], boot.address)
    before = answer(tmp_path, tiny_store, boot.address)
    boot.end(signal.SIGKILL)
    assert answer(tmp_path, tiny_store, nodes[1].address)["ids"] == before["ids"]


def test_a_node_that_vanished_before_the_route_opens_is_told(
    stack: ExitStack, tmp_path: Path, tiny_store: Path
) -> None:
    boot = stack.enter_context(run_node(tmp_path / "boot", tiny_store))
    [alone] = serve(stack, tmp_path, tiny_store, ["0:3"], boot.address)
    assert answer(tmp_path, tiny_store, boot.address)["tokens"] == 8
    alone.end(signal.SIGKILL)  # its offer lives on for a while
    result = ask(tmp_path, tiny_store, boot.address, "--wait", 0)
    words = failed(result, result.returncode)
    assert (result.returncode, "reached" in words) == (1, True) or (result.returncode, "serves" in words) == (2, True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_a_node_cleanly(stack: ExitStack, tmp_path: Path, tiny_store: Path, number: int) -> None:
    boot = stack.enter_context(run_node(tmp_path / "boot", tiny_store))
    [node] = serve(stack, tmp_path, tiny_store, ["0:3"], boot.address)
    answer(tmp_path, tiny_store, boot.address)
    assert [node.end(number), boot.end(number)] == [0, 0]
    for one in (node, boot):
        assert "Traceback" not in one.words


def test_a_signal_in_the_middle_of_an_answer_ends_the_node_and_the_answer_and_is_paid(
    stack: ExitStack, tmp_path: Path, tiny_store: Path
) -> None:
    boot = stack.enter_context(run_node(tmp_path / "boot", tiny_store))
    [node] = serve(stack, tmp_path, tiny_store, ["0:3"], boot.address)
    asking = [*COMMAND, "ask", "hello", "--data", tmp_path / "client", "--store", tiny_store, *LONG]
    with Popen(
        [*map(str, asking), "--bootstrap", boot.address], stdout=PIPE, stderr=PIPE, text=True, env=ENVIRONMENT
    ) as process:
        assert process.stdout is not None
        process.stdout.read(4)
        assert node.end() == 0
        _, words = process.communicate()
    last = words.splitlines()[-1]
    assert last.startswith(f"Error: stage …{node.address[-8:]} gave up: it stops; ")
    assert last.endswith(" nano-credits were signed for what came before")
    with closing(sqlite3.connect(tmp_path / "node0" / "journal.sqlite")) as journal:
        assert journal.execute("SELECT count(*) FROM receipt WHERE final").fetchone() == (1,)
        assert journal.execute("SELECT count(*) FROM proposal").fetchone() == (0,)


def test_an_answer_interrupted_by_the_person_who_asked_is_settled(
    stack: ExitStack, tmp_path: Path, tiny_store: Path
) -> None:
    [node] = serve(stack, tmp_path, tiny_store, ["0:3"], "")
    asking = [*COMMAND, "ask", "hello", "--data", tmp_path / "client", "--store", tiny_store, *LONG]
    with Popen(
        [*map(str, asking), "--bootstrap", node.address], stdout=PIPE, stderr=PIPE, text=True, env=ENVIRONMENT
    ) as process:
        assert process.stdout is not None
        process.stdout.read(4)
        process.send_signal(signal.SIGINT)
        _, words = process.communicate()
    assert process.returncode == 130, words
    assert "Traceback" not in words
    with closing(sqlite3.connect(tmp_path / "node0" / "journal.sqlite")) as journal:
        assert journal.execute("SELECT count(*) FROM receipt WHERE final").fetchone() == (1,)


def test_a_killed_engine_ends_its_node_with_a_sentence(stack: ExitStack, tmp_path: Path, tiny_store: Path) -> None:
    [node] = serve(stack, tmp_path, tiny_store, ["0:3"], "")
    [engine] = parts_of(node.process, ENGINE)
    engine.kill()
    assert node.process.wait(60) == 1
    assert node.words.splitlines()[-1] == "Error: the engine's process was killed by signal 9"
    assert "Traceback" not in node.words


# What keeps a node from starting


def test_a_port_in_use_is_named(stack: ExitStack, tmp_path: Path, tiny_store: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        options = ("--data", tmp_path, "--store", tiny_store, "--listen", f"/ip4/127.0.0.1/tcp/{port}")
        assert str(port) in failed(command("node", *options), 2)


def test_a_data_folder_of_another_node_is_named_with_its_user(
    stack: ExitStack, tmp_path: Path, tiny_store: Path
) -> None:
    node = stack.enter_context(run_node(tmp_path / "node", tiny_store))
    words = failed(command("node", "--data", tmp_path / "node", "--store", tiny_store), 2)
    assert f"in use by node pid {node.process.pid}" in words
    assert node.end() == 0


def test_a_data_folder_is_free_after_its_node_was_killed(stack: ExitStack, tmp_path: Path, tiny_store: Path) -> None:
    first = stack.enter_context(run_node(tmp_path / "node", tiny_store))
    first.end(signal.SIGKILL)
    second = stack.enter_context(run_node(tmp_path / "node", tiny_store))
    assert second.address.rpartition("/")[2] == first.address.rpartition("/")[2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--model", "gpt-9"), "gpt-9"),
        (("--model", "tiny", "--layers", "2:9"), "has layers 0:3, not 2:9"),
        (("--model", "tiny", "--layers", "3"), "FIRST:LAST"),
        (("--listen", "nowhere"), "nowhere"),
        (("--bootstrap", "nowhere"), "nowhere"),
        (("--config", "absent.toml"), "absent.toml"),
    ],
)
def test_a_wrong_word_is_named(tmp_path: Path, tiny_store: Path, options: tuple[str, ...], message: str) -> None:
    assert message in failed(command("node", "--data", tmp_path, "--store", tiny_store, *options), 2)


@pytest.mark.parametrize("words", [["node"], ["ask", "hello"], ["swarm"]])
@pytest.mark.parametrize(
    "address", ["nowhere", "/ip4/nowhere/tcp/1/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"]
)
def test_a_wrong_bootstrap_is_named_before_anything_starts(tmp_path: Path, words: list[str], address: str) -> None:
    data = tmp_path / "data"
    told = failed(command(*words, "--data", data, "--store", tmp_path / "store", "--bootstrap", address), 2)
    assert "nowhere" in told
    assert not data.exists()


# A disk that is full


def test_a_node_whose_disk_is_full_refuses_and_lives_on(stack: ExitStack, tmp_path: Path, tiny_store: Path) -> None:
    with full_disk(tmp_path / "disk", tiny_store) as node:
        ask(tmp_path, tiny_store, node.address, "--max-tokens", 8)  # by which the node learns of it
        words = failed(ask(tmp_path, tiny_store, node.address, "--max-tokens", 8))
        assert "cannot keep contracts" in words
        assert node.process.poll() is None
        assert "cannot be kept" in node.words
        assert "Traceback" not in node.words


@contextmanager
def full_disk(folder: Path, store: Path) -> Iterator[NodeProcess]:
    """A node that serves, and whose disk is full from then on: a small file system, or a limit on files."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], check=False, capture_output=True
    ).returncode
    try:
        if mounted == 0:
            with run_node(folder / "node", store, *SERVING) as node:
                fill(folder / "ballast")
                yield node
        else:  # without the right to mount: the journal's log of changes may not grow any more
            with run_node(folder / "node", store, *SERVING) as node:
                size = (folder / "node" / "journal.sqlite-wal").stat().st_size
                prlimit(node.process.pid, RLIMIT_FSIZE, (size, size))
                yield node
    finally:
        if mounted == 0:
            subprocess.run(["umount", "-l", folder], check=True)


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as ballast:
        try:
            while ballast.write(bytes(512)):
                pass
        except OSError:
            return


# One key on two machines


def test_a_copy_of_a_data_folder_does_not_serve_beside_the_first(
    stack: ExitStack, tmp_path: Path, tiny_store: Path
) -> None:
    boot = stack.enter_context(run_node(tmp_path / "boot", tiny_store))
    options = (*TINY, "--bootstrap", boot.address)
    first = stack.enter_context(run_node(tmp_path / "first", tiny_store, *options))
    shutil.copytree(tmp_path / "first", tmp_path / "second")
    second = stack.enter_context(run_node(tmp_path / "second", tiny_store, *options))
    assert second.process.wait(COMMAND_S) == 1
    assert second.words.splitlines()[-1].startswith("Error: another process runs with this node's key")
    first.wait_words("another process was started with this node's key")  # told by the bootstrap peer, a moment later
    assert "Traceback" not in first.words + second.words
    assert answer(tmp_path, tiny_store, boot.address)["tokens"] == 8


def test_an_address_that_nobody_can_use_is_named_before_it_is_told(tmp_path: Path, tiny_store: Path) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text('[network]\nannounce = ["/ip4/192.0.2.1/udp/53"]\n')
    words = failed(command("node", "--data", tmp_path / "data", "--store", tiny_store, "--config", settings), 2)
    assert "/ip4/192.0.2.1/udp/53" in words
    assert not (tmp_path / "data").exists()
