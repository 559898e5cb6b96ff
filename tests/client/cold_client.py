"""`python -m tests.client.cold_client DATA STORE ADDRESS PROMPTS WORDS`: a client that is asked much once it is open.

Prints one JSON object: answers, errors (of the prompts that failed), longest_ms (processor time of the longest step of
a task, in the loop's thread), of (that task), resident_mb (at most), took_s.
"""

import json
import random
import sys
import time
from math import inf
from pathlib import Path

import trio

from p2pinfer.client.answer import Answer
from p2pinfer.client.api import open_client

VOCABULARY = ("the car", "drives home", "while somebody", "asks", "what a", "distributed hash table", "is and", "why")
TOKENS = 4
MOST_NCR = 10**9


class Steps(trio.abc.Instrument):
    """Knows the longest step that a task took."""

    def __init__(self) -> None:
        self.longest_ms, self.of = 0.0, ""
        self._began_s = inf

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._began_s = time.thread_time()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        took_ms = 1000 * (time.thread_time() - self._began_s)
        if took_ms > self.longest_ms:
            self.longest_ms, self.of = took_ms, task.name


async def ask(data: str, store: str, address: str, prompts: int, words: int) -> dict[str, object]:
    draw, steps = random.Random(7), Steps()
    texts = [" ".join(draw.choices(VOCABULARY, k=words)) for _ in range(prompts)]
    began_s = time.perf_counter()
    async with open_client(Path(data), Path(store), [address], mdns=False) as client:
        trio.lowlevel.add_instrument(steps)
        found = await client.answers(texts, max_tokens=TOKENS, max_cost=MOST_NCR)
        trio.lowlevel.remove_instrument(steps)
    return {
        "answers": sum(isinstance(answer, Answer) for answer in found),
        "errors": [str(answer) for answer in found if not isinstance(answer, Answer)],
        "longest_ms": round(steps.longest_ms, 1),
        "of": steps.of,
        "resident_mb": _resident_mb(),
        "took_s": time.perf_counter() - began_s,
    }


def _resident_mb() -> float:
    """Of this process at most; what rusage says is that of who started it, too."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    folders, counts = sys.argv[1:4], map(int, sys.argv[4:6])
    sys.stdout.write(json.dumps(trio.run(ask, *folders, *counts)))
