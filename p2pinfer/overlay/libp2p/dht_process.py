"""The DHT's process: a DHT host that answers a node until the node is gone (`dht_life.py` is its other side).

libp2p's DHT parses what anybody sends it, and bounds little of it. Here whatever that takes is taken of a process that
the system holds to a bound of memory, which waits for the processor behind everything else, and whose end is the end
of nothing. Its standard input and output are the node's (`dht_frames.py`).
"""

import logging
import mmap
import os
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final

import trio

from p2pinfer.overlay.libp2p.dht import Dht, open_dht
from p2pinfer.overlay.libp2p.dht_frames import LENGTH, MAX_REASON, fitting, pack, size_of, unpack
from p2pinfer.overlay.pipe import Address
from p2pinfer.system import ENDING, bound_memory, write_no_files

SPARE_DATA: Final = 150 << 20  # bytes that it may allocate beside what it has at rest


def main(questions: BinaryIO, answers: BinaryIO) -> None:
    """Answer until there are no more questions; the first one says where the host is to be."""
    for number in ENDING:  # a service manager sends them to every process
        signal.signal(number, signal.SIG_IGN)
    write_no_files()
    logging.disable()  # nobody reads it
    sys.excepthook = partial(_say_failure, answers)
    if (opening := _read(questions)) is not None:
        trio.run(_serve, questions, answers, *opening)


async def _serve(questions: BinaryIO, answers: BinaryIO, listen: Sequence[str], links: Sequence[Address]) -> None:
    async with open_dht(os.urandom(32), listen, links) as dht, trio.open_nursery() as nursery:
        _bound_memory()
        _say(answers, ("ready", fitting(dht.addresses())))
        take = partial(nursery.start_soon, _answer, dht, answers)
        reading = (questions, take, trio.lowlevel.current_trio_token())
        threading.Thread(target=_read_all, args=reading, daemon=True).start()
        await trio.sleep_forever()


async def _answer(dht: Dht, answers: BinaryIO, question: tuple[int, str, Any]) -> None:
    number, kind, what = question
    found: Sequence[str] = ()
    match kind:
        case "meet":
            await dht.meet(what)
        case "provide":
            await dht.provide(what)
        case "find":
            found = await dht.find(what)
    _say(answers, (number, fitting(found)))


def _read_all(questions: BinaryIO, take: "partial[None]", token: trio.lowlevel.TrioToken) -> None:
    """Hand over questions until there are no more; then the node is gone, and this process ends, whatever it does.

    In a thread of its own, which a task that does not let go of the loop does not hold up.
    """
    while (question := _read(questions)) is not None:
        with suppress(trio.RunFinishedError):
            token.run_sync_soon(take, question)
    os._exit(0)


def _read(questions: BinaryIO) -> Any | None:
    head = questions.read(LENGTH)
    return unpack(questions.read(size_of(head))) if len(head) == LENGTH else None


def _say(answers: BinaryIO, message: Sequence[Any]) -> None:
    answers.write(pack(message))
    answers.flush()


def _say_failure(
    answers: BinaryIO, kind: type[BaseException], error: BaseException, _trace: TracebackType | None
) -> None:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    _say(answers, ("failed", f"{type(error).__name__}: {error}"[:MAX_REASON]))


def _bound_memory() -> None:
    """Take a bound on what may be allocated. Systems other than Linux do not hold it; there the node alone watches."""
    statistics = Path("/proc/self/statm")
    if statistics.exists():
        data = int(statistics.read_text().split()[5]) * mmap.PAGESIZE
        bound_memory(data + SPARE_DATA, maps_files=True)


if __name__ == "__main__":
    main(sys.stdin.buffer, sys.stdout.buffer)
