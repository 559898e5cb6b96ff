"""One life of the DHT's process (`dht_process.py`), from its start to its end.

Whatever strangers do to libp2p's DHT costs the node neither its event loop nor its memory. Where the process does not
answer, or takes more memory or time than a part of the DHT is worth, it is ended by a signal that it cannot hold off.
"""

import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from typing import Final

import psutil
import trio

from p2pinfer.core.values.shown import shown_line
from p2pinfer.overlay.libp2p.dht_frames import LENGTH, MAX_REASON, addresses_in, pack, size_of, unpack
from p2pinfer.overlay.pipe import Address
from p2pinfer.system import APART

COMMAND: Final = (sys.executable, "-P", "-m", "p2pinfer.overlay.libp2p.dht_process")
NICENESS: Final = 10  # it waits for the processor behind everything else of ours, from its first moment on
START_S: Final = 60.0  # to begin; it has the lowest priority of a machine that may be busy
PATIENCE_S: Final = 15.0  # for an answer to be later still, before the process is held to be stuck
WATCH_S: Final = 60.0  # between looks at what it takes; each wakes a node that idles
CPU_S: Final = 60.0  # over which it may take CPU_SHARE
CPU_SHARE: Final = 0.5  # of a core
SPARE_BYTES: Final = 150 << 20  # of memory, above what it has at rest
MAX_UNANSWERED: Final = 64  # questions; many links that come up at once are as many hosts to meet


class _Question:
    """until: when its answer is so late that the process is stuck."""

    def __init__(self, until: float) -> None:
        self.until = until
        self.answered = trio.Event()
        self.found: tuple[Address, ...] = ()


class Life:
    """One process: what it is asked, and what it takes.

    `write`, `read` and `watch` run as long as it is used; each returns why it is of no more use.
    """

    def __init__(self, process: trio.Process, opening: Sequence[object]) -> None:
        self.ready = trio.Event()
        self.addresses: tuple[Address, ...] = ()
        self._process = process
        self._numbers = count()
        self._questions: dict[int, _Question] = {}
        # A writer that is cancelled in the middle of a frame would break the rest; callers are, so they do not write
        self._to_write, self._frames = trio.open_memory_channel[bytes](MAX_UNANSWERED + 1)
        self._to_write.send_nowait(pack(opening))

    async def ask(self, kind: str, what: object, takes_s: float) -> tuple[Address, ...]:
        """Return what it finds; nothing if it finds nothing, has too much to do, or ends. May be cancelled."""
        question = self.ask_nowait(kind, what, takes_s)
        if question is None:
            return ()
        await question.answered.wait()
        return question.found

    def ask_nowait(self, kind: str, what: object, takes_s: float) -> _Question | None:
        """Ask something; None where too much is unanswered. takes_s: for an answer, where nothing is wrong"""
        if len(self._questions) >= MAX_UNANSWERED:
            return None
        number = next(self._numbers)
        question = self._questions[number] = _Question(trio.current_time() + takes_s + PATIENCE_S)
        self._to_write.send_nowait(pack((number, kind, what)))
        return question

    async def end(self) -> None:
        """Kill the process, and let nobody wait for answers any longer."""
        for question in self._questions.values():
            question.answered.set()
        self._process.kill()  # it holds nothing that must be saved
        with trio.CancelScope(shield=True), trio.move_on_after(1.0):  # a killed process ends at once, stopped or not
            await self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                await trio.aclose_forcefully(pipe)

    async def write(self) -> str:
        assert self._process.stdin is not None
        try:
            async for frame in self._frames:
                await self._process.stdin.send_all(frame)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        return await self._how_it_ended()

    async def read(self) -> str:
        try:
            while True:
                size = size_of(await self._read(LENGTH))
                match unpack(await self._read(size)):
                    case ["ready", found] if not self.ready.is_set():
                        self.addresses = addresses_in(found)
                        self.ready.set()
                    case ["failed", str(why)]:
                        return shown_line(why[:MAX_REASON])
                    case [int(number), found] if number in self._questions:
                        question = self._questions.pop(number)
                        question.found = addresses_in(found)
                        question.answered.set()
                    case _:
                        raise ValueError("an answer to no question")
        except ValueError as error:
            return f"it talks nonsense: {error}"
        except (EOFError, trio.BrokenResourceError, trio.ClosedResourceError):
            return await self._how_it_ended()

    async def _read(self, size: int) -> bytes:
        """Raises EOFError where the process ends before."""
        assert self._process.stdout is not None
        data = bytearray()
        while len(data) < size:
            part = await self._process.stdout.receive_some(size - len(data))
            if not part:
                raise EOFError
            data += part
        return bytes(data)

    async def _how_it_ended(self) -> str:
        with trio.move_on_after(PATIENCE_S):
            code = await self._process.wait()
            return f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        return "it hung up"

    async def watch(self) -> str:
        with trio.move_on_after(START_S):
            await self.ready.wait()
        if not self.ready.is_set():
            return f"it did not begin within {START_S:.0f} s"
        try:
            return await self._watch(psutil.Process(self._process.pid))
        except psutil.NoSuchProcess:
            return await self._how_it_ended()

    async def _watch(self, process: psutil.Process) -> str:
        rest = process.memory_info().rss
        spent: deque[float] = deque([_cpu_s(process)], maxlen=1 + round(CPU_S / WATCH_S))
        while True:
            await trio.sleep(WATCH_S)
            if (why := self._too_much(process.memory_info().rss - rest, spent, _cpu_s(process))) is not None:
                return why
            if not self._questions:
                self.ask_nowait("here", None, 0.0)

    def _too_much(self, bytes_more: int, spent: deque[float], cpu_s: float) -> str | None:
        spent.append(cpu_s)
        if bytes_more > SPARE_BYTES:
            return f"it took {bytes_more >> 20} MB more than at rest, limit {SPARE_BYTES >> 20}"
        if len(spent) == spent.maxlen and spent[-1] - spent[0] > CPU_SHARE * CPU_S:
            return (
                f"it took {spent[-1] - spent[0]:.0f} s of a processor in {CPU_S:.0f} s, limit {CPU_SHARE * CPU_S:.0f}"
            )
        if any(question.until < trio.current_time() for question in self._questions.values()):
            return "it does not answer"
        return None


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


async def start() -> trio.Process:
    process = await trio.lowlevel.open_process(
        COMMAND,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        **APART,  # what a terminal sends is not for it
    )
    with suppress(psutil.Error):  # it ended already
        psutil.Process(process.pid).nice(min(19, psutil.Process().nice() + NICENESS))
    return process
