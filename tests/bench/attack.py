"""What an attack costs a good client, and the node's memory: with it and without it in turn (figures 8 and 9).

The node is held to one core, the attacker to a quarter. Whoever takes a quarter of a core may cost as much of the
node's, and a fifth more. ATTACK_S in the environment is how long each attack lasts in all, 60 seconds unless it says
otherwise; ATTACKS names some of them. All of them take half an hour so, and ten minutes with ATTACK_S=6, in which
bursts (wire.md, 7.1) weigh more than they do in a minute. What one came to is told as soon as it is measured, and one
that does not end is ended.
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
from math import inf
from pathlib import Path
from select import select
from statistics import median
from typing import Final

from tests.bench.figures import Bound, Figure
from tests.hostile.attacks import ATTACKS, LATE_S
from tests.hostile.good import Asking, GoodClient, open_good_client
from tests.hostile.held import holding
from tests.hostile.victims import SPARE_BYTES, Victim, open_victim, wide_store
from tests.live.processes import ENVIRONMENT

ABOUT = "a good client's tokens a second and the node's memory under each attack"
TOTAL_S: Final = 60.0  # of one attack
PAIRS: Final = 3  # of a time without and one with the attack
QUIET_S: Final = 5.0  # the time without, at most: some answers of the good client, which are much alike
START_S: Final = 30.0  # for a process of these to start, on a machine that has others to serve, and to end
NODE_CORES: Final = 1
ATTACK_CORES: Final = 0.25
FALL: Final = 20.0  # percent beyond what the attacker takes
TOKENS: Final = 64  # of an answer
WATCH_S: Final = 0.1


def run() -> Sequence[Figure]:
    seconds = float(os.environ.get("ATTACK_S", TOTAL_S)) / PAIRS
    names = os.environ.get("ATTACKS", "").split() or list(ATTACKS)
    if unknown := set(names) - set(ATTACKS):
        raise SystemExit(f"there is no attack {', '.join(sorted(unknown))}, but {', '.join(ATTACKS)}")
    figures: list[Figure] = []
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="p2pinfer-bench-")))
        store = wide_store(root)
        for number, name in enumerate(names, 1):
            with _served(root / name, store) as (victim, good, how):
                figures += _figures(name, victim, good, seconds, how)
            _tell(f"{number} of {len(names)}", figures[-2:])
    return figures


def _tell(which: str, figures: Sequence[Figure]) -> None:
    """In lines of their own, for whoever does not wait for the last attack."""
    for figure in figures:
        told = f"{figure.name}: {figure.value:.0f} {figure.unit}, bound {figure.bound:.0f}, {figure.verdict}"
        sys.stderr.write(f"{which}: {told}; {figure.detail}\n")
    sys.stderr.flush()


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
    """A time of asking. rate: tokens a second; most: of the node's memory, in bytes; whole: the attack ended itself."""

    rate: float
    most: int
    failures: list[str]
    taken: float = 0.0  # cores, by the attacker
    held_by: str = ""
    rounds: int = 0
    whole: bool = True


def _figures(name: str, victim: Victim, good: GoodClient, seconds: float, how: str) -> list[Figure]:
    resting = victim.resident
    quiet, loud = [], []
    for _ in range(PAIRS):
        quiet.append(_window(victim, good, min(seconds, QUIET_S), ""))
        loud.append(_window(victim, good, seconds, name))
    # Who is not served without an attack, is not with it either
    falls = [100 * (1 - with_.rate / (without.rate or inf)) for without, with_ in zip(quiet, loud, strict=True)]
    taken = median(window.taken for window in loud)
    failures = [failure for window in loud for failure in window.failures]
    rates = [median(window.rate for window in windows) for windows in (quiet, loud)]
    detail = (
        f"{rates[0]:.0f} to {rates[1]:.0f} tok/s, {len(failures)} asks failed; the attacker took {taken:.2f} core "
        f"({loud[0].held_by}), {sum(window.rounds for window in loud)} rounds; the node held by {how}; "
        f"{PAIRS} pairs of {seconds:.0f} s{f'; {failures[0]}' if failures else ''}"
    )
    fall = median(falls)
    if not all(window.whole for window in loud):
        fall, detail = 100.0, f"THE ATTACK DID NOT COME TO ITS END: {detail}"
    if not victim.alive:
        fall, detail = 100.0, f"THE NODE ENDED: {victim.new_words()[-200:]!r}"
    grown = max(window.most for window in loud) - resting
    return [
        Figure(f"{name}: fall of tokens/s", fall, Bound.BELOW, FALL + 100 * taken, "%", detail),
        Figure(f"{name}: memory", grown / 1e6, Bound.BELOW, SPARE_BYTES / 1e6, "MB", f"above {resting / 1e6:.0f} MB"),
    ]


def _window(victim: Victim, good: GoodClient, seconds: float, name: str) -> _Window:
    """Ask in a loop for so long; beside an attack, if one is named."""
    most, told = victim.resident if victim.alive else 0, {}
    with ExitStack() as stack:
        attacker = stack.enter_context(_attacker(victim, name, seconds)) if name else None
        asking = stack.enter_context(Asking(good, max_tokens=TOKENS))
        ends = time.monotonic() + seconds
        latest = ends + LATE_S + START_S
        while time.monotonic() < ends or (attacker and attacker.poll() is None and time.monotonic() < latest):
            time.sleep(WATCH_S)
            most = max(most, victim.resident if victim.alive else 0)
        if attacker and attacker.stdout and attacker.poll() is not None:
            told = json.loads(attacker.stdout.read() or "{}")
    window = _Window(asking.tokens / asking.took_s, most, asking.failures)
    if told:
        window.taken = told["cpu_s"] / told["seconds"]
        window.held_by, window.rounds = told["held_by"], told["rounds"]
    elif name:
        window.whole = False
    return window


@contextmanager
def _attacker(victim: Victim, name: str, seconds: float) -> Iterator["subprocess.Popen[str]"]:
    """The attack; the time that its process takes to start does not count. However it goes, it is over then."""
    command = [sys.executable, "-m", "tests.hostile.attacks", name, victim.address, str(seconds), str(ATTACK_CORES)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT) as process:
        assert process.stdout is not None
        try:
            if select([process.stdout], [], [], START_S)[0]:
                process.stdout.readline()  # it says when it begins
            yield process
        finally:
            process.kill()
