"""A client finds the node of its machine, and its swarm again after the node it knew moved, with no address given.

Nodes find each other so, too.
"""

import signal
import time
from pathlib import Path

from p2pinfer.core.values.keys import peer_name
from p2pinfer.disk.roll import entered
from tests.core.paid_route import CLIENT

from .processes import COMMAND_S, QUIETLY, SERVING, command, run_node

DEAD = f"/ip4/127.0.0.1/tcp/1/p2p/{peer_name(CLIENT.public)}"


def test_a_node_on_the_same_folder_is_asked_by_itself_and_one_that_was_killed_is_not_missed(
    tmp_path: Path, tiny_store: Path
) -> None:
    data = tmp_path / "data"
    asking = ("ask", "hello", "--max-tokens", 4, "--data", data, "--store", tiny_store)
    with run_node(data, tiny_store, *SERVING) as node:
        told = command("--verbose", *asking, *QUIETLY)
        assert told.returncode == 0, told.stderr
        assert "known as a node of this machine" in told.stderr
        assert command(*asking, "--bootstrap", DEAD).returncode == 0
        node.end(signal.SIGKILL)
    assert (data / "node.addresses").exists()
    missed = command(*asking, "--wait", 0)
    assert "no peer serves any model" in missed.stderr
    with run_node(data, tiny_store, *SERVING):
        assert command(*asking).returncode == 0


def test_nodes_of_one_user_are_found_whatever_their_folders_and_find_each_other(
    tmp_path: Path, roll: Path, tiny_store: Path
) -> None:
    asking = ("ask", "hello", "--max-tokens", 4, "--data", tmp_path / "client", "--store", tiny_store)
    met = "known as a node of this machine"
    with run_node(tmp_path / "whole", tiny_store, *SERVING, apart=False) as whole:
        told = command("--verbose", *asking, *QUIETLY)
        assert (told.returncode, met in told.stderr) == (0, True), told.stderr
        with run_node(tmp_path / "other", tiny_store, apart=False) as other:
            other.wait_words(met)
            assert other.end() == 0
        assert len(list(roll.glob("*/*.node"))) == 1
        whole.end(signal.SIGKILL)
    assert "no peer serves any model" in command(*asking, "--wait", 0).stderr
    with run_node(tmp_path / "next", tiny_store, apart=False) as other:
        other.wait_words("serving no model")
        wait_alone(tmp_path / "next")  # who was killed is on the roll no more


def wait_alone(data: Path) -> None:
    """Until this folder is on the roll, and no other."""
    deadline = time.monotonic() + COMMAND_S
    while (found := entered()) != [data]:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
