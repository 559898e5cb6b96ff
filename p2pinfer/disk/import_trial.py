"""A trial of a model's texts, in a process of its own, before this one reads them.

Configuration, tokenizer and headers are a stranger's, and what parses them (JSON, the tokenizers library) may take time
and memory without end, or crash, on bytes that are few. In the process of the trial that ends the trial alone. What
came through is read again by whoever imports the model, and takes no more than it took there. Values of tensors are
not read: they are as many as the configuration says, and whoever imports a large model waits for it.

Started as `python -m p2pinfer.disk.import_trial MEMORY WORK_S`, with the path and the wishes on its standard input;
its output is the fault in words, empty where there is none.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import msgpack

from p2pinfer.core.values.errors import ModelError
from p2pinfer.disk.wishes import Wishes
from p2pinfer.system import bound_memory, bound_time, run_bounded, write_no_files

COMMAND: Final = (sys.executable, "-P", "-m", "p2pinfer.disk.import_trial")
HALVES: Final = "surrogatepass"  # file names may have halves of characters, and what quotes them
MAX_FAULT: Final = 4_000  # characters; longer than any sentence of ours about paths and keys


@dataclass(frozen=True, slots=True)
class TrialBounds:
    """The bounds of a trial; a vocabulary of 230,000 names takes a quarter of the memory and four seconds.

    memory: bytes that it may write to, mapped files left out
    work_s: of the processor
    """

    memory: int = 2 << 30
    work_s: float = 60.0


BOUNDS: Final = TrialBounds()


def try_texts(path: Path, wishes: Wishes, bounds: TrialBounds = BOUNDS) -> None:
    """Raise ModelError where a file or folder holds no model, or one whose texts do not keep within bounds."""
    given = msgpack.packb((str(path), wishes.name, list(wishes.ignored)), unicode_errors=HALVES)
    fault = run_bounded(COMMAND, given, bounds.memory, bounds.work_s)
    if fault is None:
        raise ModelError(
            f"{path}: its configuration, tokenizer or headers take more than {bounds.work_s:g} s or "
            f"{bounds.memory >> 20} MiB to read, or crash what reads them: no usual model does"
        )
    if fault:
        raise ModelError(fault.decode(errors=HALVES))


def main(given: BinaryIO, answer: BinaryIO, memory: int, work_s: float) -> None:
    """Answer with the fault of one file or folder."""
    os.environ |= dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "1") | {"TOKENIZERS_PARALLELISM": "false"}
    bound_time(work_s)
    bound_memory(memory, maps_files=True)
    write_no_files()
    from p2pinfer.disk.importing.building import check_texts  # after threads are bounded, whose stacks count as memory
    from p2pinfer.disk.importing.sources import read_source

    path, name, ignored = msgpack.unpackb(given.read(), unicode_errors=HALVES)
    try:
        check_texts(read_source(Path(path), Wishes(name, ignored=ignored)))
    except ModelError as error:
        answer.write(str(error)[:MAX_FAULT].encode(errors=HALVES))
    answer.flush()


if __name__ == "__main__":
    main(sys.stdin.buffer, sys.stdout.buffer, int(sys.argv[1]), float(sys.argv[2]))
