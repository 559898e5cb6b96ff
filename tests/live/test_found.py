"""Nodes of which each knows only the one before are found through any of them, and go on when the first is dead."""

import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from .processes import TINY, command, run_node

SPANS = ("0:1", "1:2", "2:3", "0:3")


@pytest.mark.slow
def test_a_chain_of_bootstraps_answers_through_its_ends(tmp_path: Path, tiny_store: Path) -> None:
    with ExitStack() as stack:
        nodes = [stack.enter_context(run_node(tmp_path / "node 0", tiny_store))]
        for number, span in enumerate(SPANS, 1):
            met = ("--bootstrap", nodes[-1].address)
            nodes.append(
                stack.enter_context(run_node(tmp_path / f"node {number}", tiny_store, *TINY, "--layers", span, *met))
            )

        def ask(address: str) -> int:
            words = ("--data", tmp_path / "client", "--store", tiny_store, "--max-tokens", 4, "--bootstrap", address)
            return command("ask", "hello", *words).returncode

        assert [ask(nodes[at].address) for at in (0, -2, -1)] == [0, 0, 0]
        nodes[0].end(signal.SIGKILL)
        newcomer = run_node(
            tmp_path / "newcomer", tiny_store, *TINY, "--layers", "0:2", "--bootstrap", nodes[2].address
        )
        nodes.append(stack.enter_context(newcomer))
        assert ask(nodes[-1].address) == 0
