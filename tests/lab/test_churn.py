"""Twelve homes, one of which loses its node every ten seconds; each comes back a while later."""

import json
import random
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE, Popen
from threading import Thread

import pytest

from tests.live.processes import ENVIRONMENT, NodeProcess

from .asking import Asked
from .homes import HOME, TINY, Homes, bootstrap, open_homes
from .lab import Host

SPANS = {f"home{at}": span for at, span in enumerate(["0:1", "1:2", "2:3"] * 4)}
MET_FIRST = 3  # homes that the others were told of; nobody spares them
KILLS = 6
EVERY_S = 10.0
SEED = 5


@pytest.mark.slow
def test_only_answers_that_a_killed_node_carried_fail(switch: Path, tmp_path: Path, tiny_store: Path) -> None:
    with open_homes(switch, tmp_path, tiny_store, [Host(name, HOME) for name in (*SPANS, "client")]) as homes:
        first = homes.serve(dict(list(SPANS.items())[:MET_FIRST]))
        known = bootstrap(*first)
        later = homes.serve(dict(list(SPANS.items())[MET_FIRST:]), *known)
        nodes = dict(zip(SPANS, [*first, *later], strict=True))
        homes.answer_soon("client", *known)
        with asking(homes, tmp_path, [node.address for node in first]) as asked:
            killed = kill_in_turn(homes, nodes, known)
    assert len(asked) > KILLS
    assert [one for one in asked if one.failure and not was_carried_by_one_of(one, killed)] == []


@contextmanager
def asking(homes: Homes, root: Path, addresses: list[str]) -> Iterator[list[Asked]]:
    """A client that asks all the time; what it said is there when the block is over."""
    asked: list[Asked] = []
    words = ["-m", "tests.lab.asking", root / "asking", root / "asking-store", *addresses]
    command = [*homes.lab.enter("client"), sys.executable, *map(str, words)]
    with Popen(command, stdin=PIPE, stdout=PIPE, text=True, env=ENVIRONMENT) as process:
        yield asked
        said, _ = process.communicate()
    asked += [Asked(**json.loads(line)) for line in said.splitlines()]


def kill_in_turn(homes: Homes, nodes: dict[str, NodeProcess], known: tuple[str, ...]) -> list[tuple[str, float]]:
    """Kill a node every EVERY_S, and start it anew; the names of those killed, and when they were."""
    lots, killed, threads = random.Random(SEED), [], []
    for host in lots.sample(sorted(nodes), KILLS):
        killed.append((nodes[host].address.rpartition("/")[2], time.monotonic()))
        nodes[host].end(signal.SIGKILL)
        threads.append(Thread(target=homes.start, args=(host, "--layers", SPANS[host], *TINY, *known)))
        threads[-1].start()
        time.sleep(EVERY_S)
    for thread in threads:
        thread.join()
    return killed


def was_carried_by_one_of(asked: Asked, killed: list[tuple[str, float]]) -> bool:
    return any(name in asked.peers and asked.began <= at <= asked.ended for name, at in killed)
