"""A client whose clock is wrong, as a whole process: it sees the swarm, and is told why nobody takes its contract."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from .processes import COMMAND_S, ENVIRONMENT, QUIETLY, SERVING, NodeProcess, failed, run_node

WRONG = """
import time
right = time.time
time.time = lambda: right() + {off_s}
from p2pinfer.cli.main import run
run()
"""
HOUR_S = 3600


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, tiny_store: Path) -> Iterator[NodeProcess]:
    with run_node(tmp_path_factory.mktemp("clocks") / "node", tiny_store, *SERVING) as node:
        yield node


def wrongly(off_s: int, node: NodeProcess, data: Path, *words: str) -> "CompletedProcess[str]":
    """A command whose clock is this much ahead."""
    options = ("--data", str(data), "--bootstrap", node.address, *QUIETLY)
    whole = [sys.executable, "-c", WRONG.format(off_s=off_s), *words, *options]
    return subprocess.run(whole, capture_output=True, text=True, timeout=COMMAND_S, check=False, env=ENVIRONMENT)


@pytest.mark.parametrize("off_s", [-HOUR_S, HOUR_S])
def test_an_hour_off_no_answer_comes_and_the_clock_is_named(node: NodeProcess, tmp_path: Path, off_s: int) -> None:
    result = wrongly(off_s, node, tmp_path, "ask", "hello", "--store", str(tmp_path / "store"))
    words = failed(result)
    sign = "-" if off_s < 0 else "+"
    assert f"the client's clock is {sign}3" in words
    assert words.endswith("limit 300 s: set the one that is wrong")
    assert result.stdout == ""


@pytest.mark.parametrize("off_s", [-HOUR_S, HOUR_S])
def test_an_hour_off_the_swarm_is_not_empty(node: NodeProcess, tmp_path: Path, off_s: int) -> None:
    result = wrongly(off_s, node, tmp_path, "swarm")
    assert result.returncode == 0
    assert "serving" in result.stdout


@pytest.mark.parametrize("off_s", [-240, 240])
def test_minutes_off_answers_come_and_are_paid(node: NodeProcess, tmp_path: Path, off_s: int) -> None:
    store = str(tmp_path / "store")
    result = wrongly(off_s, node, tmp_path, "ask", "hello", "--json", "--max-tokens", "8", "--store", store)
    assert result.returncode == 0, result.stderr
    assert '"tokens": 8' in result.stdout
    assert result.stderr == ""
