"""A client finds the node of its machine, and its swarm again after the node it knew moved, with no address given."""

import signal
from pathlib import Path

from p2pinfer.core.keys import peer_name
from tests.core.paid_route import CLIENT

from .processes import QUIETLY, command, run_node

DEAD = f"/ip4/127.0.0.1/tcp/1/p2p/{peer_name(CLIENT.public)}"
SERVING = ("--model", "tiny", "--layers", "0:3", "--numerics", "f32-1", "--threads", "1")


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
