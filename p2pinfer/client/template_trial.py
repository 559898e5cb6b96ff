"""A trial of a chat template, in a process of its own, before anybody keeps the template.

It is a program by whoever made the model, and may never end, fill the memory or crash. The process has the bounds of a
scribe's (`scribe_process.py`).

Started as `python -m p2pinfer.client.template_trial MEMORY WORK_S`, with the template on its standard input; its output
is the fault in words, empty where there is none.
"""

import sys
from datetime import datetime
from typing import BinaryIO, Final

from p2pinfer.client.scribe import Bounds
from p2pinfer.client.scribe_process import MAX_REFUSAL, limit
from p2pinfer.core.models.chat import fault_of
from p2pinfer.system import bound_time, run_bounded

COMMAND: Final = (sys.executable, "-P", "-m", "p2pinfer.client.template_trial")
HALVES: Final = "surrogatepass"  # a template out of JSON may have halves of characters, and is refused for them later
BOUNDS: Final = Bounds()


def try_template(template: str, bounds: Bounds = BOUNDS) -> str:
    """The reason that a template renders no chat; empty where it does."""
    fault = run_bounded(COMMAND, template.encode(errors=HALVES), bounds.memory, bounds.work_s)
    if fault is None:
        return "the model's chat template takes too long or too much memory, or crashes"
    return fault.decode(errors=HALVES)


def main(given: BinaryIO, answer: BinaryIO, memory: int, work_s: float) -> None:
    """Answer with the fault of the one template. memory: bytes of address space; work_s: of the processor"""
    limit(memory)
    bound_time(work_s)
    fault = fault_of(given.read().decode(errors=HALVES), datetime.now())
    answer.write(fault[:MAX_REFUSAL].encode(errors=HALVES))
    answer.flush()


if __name__ == "__main__":
    main(sys.stdin.buffer, sys.stdout.buffer, int(sys.argv[1]), float(sys.argv[2]))
