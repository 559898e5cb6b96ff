"""What an attack costs a good client, and the node's memory: with it and without it in turn (figures 8 and 9).

The node is held to one core, the attacker to a quarter. Whoever takes a quarter of a core may cost as much of the
node's, and a fifth more. ATTACK_S in the environment is how long each attack lasts in all, ATTACKS names some of them.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from p2pinfer.disk.importing import import_model
from p2pinfer.disk.store import Store
from tests.bench.figures import Bound, Figure
from tests.disk.tiny import tiny_folder
from tests.hostile.attacks import ATTACKS
from tests.hostile.good import Asking, GoodClient, open_good_client
from tests.hostile.held import holding
from tests.hostile.victims import SPARE_BYTES, Victim, open_victim
from tests.live.processes import ENVIRONMENT

ABOUT = "a good client's tokens a second and the node's memory under each attack"
TOTAL_S: Final = 60.0  # of one attack
PAIRS: Final = 3  # of a time without and one with the attack
NODE_CORES: Final = 1
ATTACK_CORES: Final = 0.25
FALL: Final = 20.0  # percent beyond what the attacker takes
TOKENS: Final = 64  # of an answer
WATCH_S: Final = 0.1


def run() -> Sequence[Figure]:
    seconds = float(os.environ.get("ATTACK_S", TOTAL_S)) / PAIRS
    names = os.environ.get("ATTACKS", "").split() or list(ATTACKS)
    figures: list[Figure] = []
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="p2pinfer-bench-")))
        store = Store(root / "store")
        wide = tiny_folder(root / "tiny", num_hidden_layers=3, intermediate_size=1 << 15, max_position_embeddings=4096)
        import_model(str(wide), store)
        for name in names:
            with _served(root / name, store.root) as (victim, good, how):
                figures += _figures(name, victim, good, seconds, how)
    return figures


@contextmanager
def _served(root: Path, store: Path) -> Iterator[tuple[Victim, GoodClient, str]]:
    """A node held to one core, a client that it has served, and how it is held."""
    with (
        open_victim(root, store) as victim,
        open_good_client(root, store, victim.address) as good,
        holding(victim.pids, NODE_CORES) as how,
    ):
        yield victim, good, how


@dataclass
class _Window:
    """A time of asking. rate: tokens a second; most: of the node's memory, in bytes."""

    rate: float
    most: int
    failures: list[str]
    taken: float = 0.0  # cores, by the attacker
    held_by: str = ""
    rounds: int = 0


def _figures(name: str, victim: Victim, good: GoodClient, seconds: float, how: str) -> list[Figure]:
    resting = victim.resident
    quiet, loud = [], []
    for _ in range(PAIRS):
        quiet.append(_window(victim, good, seconds, ""))
        loud.append(_window(victim, good, seconds, name))
    falls = [100 * (1 - with_.rate / without.rate) for without, with_ in zip(quiet, loud, strict=True)]
    taken = median(window.taken for window in loud)
    failed = sum(len(window.failures) for window in loud)
    rates = [median(window.rate for window in windows) for windows in (quiet, loud)]
    detail = (
        f"{rates[0]:.0f} to {rates[1]:.0f} tok/s, {failed} asks failed; the attacker took {taken:.2f} core "
        f"({loud[0].held_by}), {sum(window.rounds for window in loud)} rounds; the node held by {how}; "
        f"{PAIRS} pairs of {seconds:.0f} s"
    )
    if not victim.alive:
        detail = f"THE NODE ENDED: {victim.new_words()[-200:]!r}"
    grown = max(window.most for window in loud) - resting
    return [
        Figure(f"{name}: fall of tokens/s", median(falls), Bound.BELOW, FALL + 100 * taken, "%", detail),
        Figure(f"{name}: memory", grown / 1e6, Bound.BELOW, SPARE_BYTES / 1e6, "MB", f"above {resting / 1e6:.0f} MB"),
    ]


def _window(victim: Victim, good: GoodClient, seconds: float, name: str) -> _Window:
    """Ask in a loop for so long; beside an attack, if one is named."""
    most = victim.resident
    with ExitStack() as stack:
        attacker = stack.enter_context(_attacker(victim, name, seconds)) if name else None
        asking = stack.enter_context(Asking(good, max_tokens=TOKENS))
        ends = time.monotonic() + seconds
        while attacker.poll() is None if attacker else time.monotonic() < ends:
            time.sleep(WATCH_S)
            most = max(most, victim.resident if victim.alive else 0)
        told = json.loads(attacker.stdout.read()) if attacker and attacker.stdout else {}
    window = _Window(asking.tokens / asking.took_s, most, asking.failures)
    if told:
        window.taken = told["cpu_s"] / told["seconds"]
        window.held_by, window.rounds = told["held_by"], told["rounds"]
    return window


@contextmanager
def _attacker(victim: Victim, name: str, seconds: float) -> Iterator["subprocess.Popen[str]"]:
    """The attack; the time that its process takes to start does not count."""
    command = [sys.executable, "-m", "tests.hostile.attacks", name, victim.address, str(seconds), str(ATTACK_CORES)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it says when it begins
        yield process
