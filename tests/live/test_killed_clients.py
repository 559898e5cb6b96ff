"""A client that is killed at any moment: what its journal proves is signed at the next contact, the rest on a word."""

import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from subprocess import DEVNULL, Popen

import pytest

from p2pinfer.core.values.units import SessionId
from p2pinfer.disk.journal_reader import Unpaid, read_journal

from .processes import COMMAND, COMMAND_S, ENVIRONMENT, QUIETLY, NodeProcess, command, run_nodes

CADENCE = 16
WINDOW = 128
KILLS = 3
SPANS = ("0:1", "1:3")


@pytest.fixture
def nodes(tmp_path: Path, tiny_store: Path) -> Iterator[list[NodeProcess]]:
    settings = tmp_path / "node.toml"
    settings.write_text(f"[trust]\ncadence = {CADENCE}\nmax_chunk = 16\nwindow = {WINDOW}\n")
    # torch's engine, which is slow enough for an answer to be under way when its client is killed
    options = ("--config", str(settings), "--model", "tiny", "--numerics", "f32-1", "--threads", "1")
    with ExitStack() as stack:
        [head] = run_nodes(stack, tmp_path, tiny_store, [("--layers", SPANS[0], *options)])
        more = ("--layers", SPANS[1], "--bootstrap", head.address, *options)
        [tail] = run_nodes(stack, tmp_path / "tail", tiny_store, [more])
        yield [head, tail]


def kill_one(root: Path, store: Path, bootstrap: str, after_s: float) -> Unpaid:
    """Ask, and kill the client so long after what it was given first is durable; return what it leaves."""
    known = set(sessions(root))
    asking = [*COMMAND, "ask", "hello", "--data", root / "client", "--store", store, "--max-tokens", 4000, *QUIETLY]
    words = [*map(str, asking), "--bootstrap", bootstrap]
    with Popen(words, stdout=DEVNULL, stderr=DEVNULL, env=ENVIRONMENT) as process:
        deadline = time.monotonic() + COMMAND_S
        while not (new := set(sessions(root)) - known) or unpaid(root, *new).delivered is None:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(after_s)
        process.kill()
    return unpaid(root, *new)


def sessions(root: Path) -> list[SessionId]:
    path = root / "client" / "client.sqlite"
    if not path.exists():
        return []
    try:
        with closing(sqlite3.connect(path)) as rows:
            return [SessionId(session) for (session,) in rows.execute("SELECT DISTINCT session FROM contract")]
    except sqlite3.OperationalError:  # it is being made
        return []


def unpaid(root: Path, session: SessionId) -> Unpaid:
    with read_journal(root / "client" / "client.sqlite") as journal:
        found = journal.unpaid(session)
    assert found is not None
    return found


def signed(unpaid: Unpaid) -> list[int]:
    """Positions that are signed for each stage."""
    receipts = [(contract.record, unpaid.complete.get(contract.id)) for contract in unpaid.contracts]
    return [terms.work.committed(receipt.record.usage) if receipt else 0 for terms, receipt in receipts]


def test_what_its_journal_proves_is_signed_and_the_rest_on_a_word(
    tmp_path: Path, tiny_store: Path, nodes: list[NodeProcess]
) -> None:
    draw = random.Random(11)
    killed = [kill_one(tmp_path, tiny_store, nodes[0].address, draw.uniform(0.0, 1.5)) for _ in range(KILLS)]
    folders = ("--data", tmp_path / "client", "--store", tiny_store, "--bootstrap", nodes[0].address, "--no-mdns")
    assert command("owed", "settle", *folders, text="no\n").returncode == 0
    for before in killed:
        assert before.delivered is not None
        proven = (before.delivered.counted - 1) // CADENCE * CADENCE  # a head is one behind at the end
        assert min(signed(unpaid(tmp_path, before.session))) >= proven

    result = command("owed", "settle", *folders, text="yes\n")
    assert result.returncode == 0, result.stderr
    for journal in (tmp_path / "node0", tmp_path / "tail" / "node0"):
        with closing(sqlite3.connect(journal / "journal.sqlite")) as rows:
            assert rows.execute("SELECT count(*) FROM proposal").fetchone() == (0,)
            # Where the last proposal covered all that was done when the client was killed no final one follows (RCT-19)
            assert rows.execute("SELECT count(*) FROM receipt").fetchone() == (KILLS,)
