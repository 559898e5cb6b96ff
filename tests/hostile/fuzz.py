"""`make fuzz`: sequences of `sequences.py` against nodes, for as long as told; a failure is shrunk, told, and ends it.

`python -m tests.hostile.fuzz [--seconds N] [--sequences N] [--seed N] [--kind NAME...] [--no-shrink]`. Sequences run in
rounds, each with a seed of its own; a round's seed and kind repeat it. 10,000 of all kinds take an hour on two cores.
"""

import argparse
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from hypothesis import HealthCheck, Phase, Verbosity, seed, settings
from hypothesis.errors import HypothesisDeprecationWarning
from hypothesis.reporting import with_reporter
from hypothesis.stateful import run_state_machine_as_test

from p2pinfer.disk.importing import import_model
from p2pinfer.disk.store import Store
from tests.disk.tiny import tiny_folder

from .crowds import ROOM, Crowd
from .sequences import Strangers, WhileLeaving, WithJumps, machine_for
from .yards import Yard, open_live_yard, open_memory_yard

ROUND = 50  # sequences with one seed
STEPS = 30  # of a sequence at most
# In memory for the number, live for the truth; a node that leaves has to be started again each time
KINDS: dict[str, tuple[type[Strangers], str, int]] = {
    "orders": (Strangers, "memory", ROUND),
    "jumps": (WithJumps, "memory", ROUND),
    "crowd": (Crowd, "full", ROUND),
    "leaving": (WhileLeaving, "memory", 10),
    "live": (Strangers, "live", ROUND),
    "live-leaving": (WhileLeaving, "live", 5),
}


def run_round(machine: type[Strangers], number: int, sequences: int, shrink: bool = False) -> None:
    """Sequences of one seed. Raises what the first failing one does, with its steps as a note."""
    phases = (Phase.generate, Phase.shrink) if shrink else (Phase.generate,)
    profile = settings(
        max_examples=sequences,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        phases=phases,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
        verbosity=Verbosity.debug,  # then it says each step before it is done
    )
    with with_reporter(machine.note), warnings.catch_warnings():
        # Nodes in another thread draw lots while a step is drawn here, which hypothesis takes for the strategy's doing
        warnings.simplefilter("ignore", HypothesisDeprecationWarning)
        run_state_machine_as_test(seed(number)(machine), settings=profile)  # type: ignore[no-untyped-call]


def open_yard(name: str, root: Path) -> AbstractContextManager[Yard]:
    if name == "memory":
        return open_memory_yard(root)
    if name == "full":
        return open_memory_yard(root, ROOM)
    store = Store(root / "store")
    import_model(str(tiny_folder(root / "tiny", num_hidden_layers=3, max_position_embeddings=4096)), store)
    return open_live_yard(root, store.root)


def rounds(kinds: list[str], first: int) -> Iterator[tuple[str, int]]:
    """Kinds in turn, each time with the next seed."""
    number = first
    while True:
        for kind in kinds:
            yield kind, number
        number += 1


def main(say: Callable[[str], object] = lambda line: sys.stdout.write(line + "\n")) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.hostile.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="stop after the round that ends past this")
    parser.add_argument("--sequences", type=int, default=0, help="stop after so many, whatever the time; 0: by time")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3), "big"), help="of the first round")
    parser.add_argument("--kind", nargs="*", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--no-shrink", action="store_true", help="tell the first failure as it came")
    asked = parser.parse_args()
    began, done = time.monotonic(), 0
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="p2pinfer-fuzz-")))
        yards: dict[str, Yard] = {}
        for kind, number in rounds(asked.kind, asked.seed):
            shape, where, size = KINDS[kind]
            if where not in yards:
                yards[where] = stack.enter_context(open_yard(where, root / where))
            machine = machine_for(yards[where], shape)
            try:
                run_round(machine, number, size, not asked.no_shrink)
            except Exception:
                say("\n".join(["the first sequence that failed:", *machine.failed]))
                say(f"FAILED after {done + machine.made} sequences; again: --kind {kind} --seed {number}")
                raise
            done += machine.made
            say(f"{time.monotonic() - began:6.0f} s  {done:6d} sequences  {kind} seed {number}")
            sys.stdout.flush()
            if done >= asked.sequences if asked.sequences else time.monotonic() - began >= asked.seconds:
                break
    say(f"{done} sequences in {time.monotonic() - began:.0f} s: no node ended, no bug was logged, nothing was kept")
    return 0


if __name__ == "__main__":
    sys.exit(main())
