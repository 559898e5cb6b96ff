"""Our part of the DHT as the node sees it: a process of its own (`dht_process.py`), started anew when it ends.

Whatever strangers do to libp2p's DHT costs the node neither its event loop nor its memory. Where it does not
answer, or takes more memory or time than a part of the DHT is worth, it is ended by a signal that it cannot hold off.
Nothing waits for it: who asks it something goes on without an answer.
"""

import logging
import os
import subprocess
import sys
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from importlib.util import find_spec
from itertools import chain, count, repeat
from typing import Final

import psutil
import trio

from p2pinfer.core.swarm.source import Source
from p2pinfer.core.values.shown import shown_line
from p2pinfer.overlay.contained import Contained
from p2pinfer.overlay.libp2p.dht_frames import (
    FIND_S,
    LENGTH,
    MAX_REASON,
    PROVIDE_S,
    WHERE_S,
    addresses_in,
    fitting,
    pack,
    size_of,
    unpack,
)
from p2pinfer.overlay.limits import MAX_MET
from p2pinfer.overlay.pipe import Address

COMMAND: Final = (sys.executable, "-P", "-m", "p2pinfer.overlay.libp2p.dht_process")
DHT_WAITS_S: Final = (5.0, 30.0, 300.0)  # before a part of the DHT that ended starts anew; then as the last
NICENESS: Final = 10  # it waits for the processor behind everything else of ours, from its first moment on
START_S: Final = 60.0  # to begin; it has the lowest priority of a machine that may be busy
LATE_S: Final = 0.5  # for an answer to come from the process, beside what it takes there
PATIENCE_S: Final = 15.0  # for an answer to be later still, before the process is held to be stuck
WATCH_S: Final = 60.0  # between looks at what it takes; each wakes a node that idles
CPU_S: Final = 60.0  # over which it may take CPU_SHARE
CPU_SHARE: Final = 0.5  # of a core
SPARE_BYTES: Final = 150 << 20  # of memory, above what it has at rest
MAX_UNANSWERED: Final = 64  # questions; many links that come up at once are as many hosts to meet
KEPT_HOSTS: Final = 16  # that were met, and are met again after a new start
KEPT_KEYS: Final = 64  # that are provided again then

logger = logging.getLogger(__name__)


class DhtDoor:
    """Our part of the DHT, and no more than a memory of it while its process is away.

    settled: it has begun, or failed to
    """

    def __init__(self, listen: Sequence[str], links: Sequence[Address]) -> None:
        self.settled = trio.Event()
        self._opening = (fitting(listen), fitting(links))
        self._moved = trio.Event()
        self._process: _Process | None = None
        self._hosts: dict[tuple[str, ...], str | None] = {}  # that were met, and the networks of those who named them
        self._keys: deque[bytes] = deque(maxlen=KEPT_KEYS)

    def move(self, listen: Sequence[str], links: Sequence[Address]) -> None:
        """Be elsewhere from now on: libp2p's host cannot, so another one begins there."""
        opening = (fitting(listen), fitting(links))
        if opening != self._opening:
            self._opening = opening
            self._moved.set()

    async def run(self) -> None:
        """Have a part in the DHT, until cancelled; none where libp2p is not installed, which a client need not have."""
        if find_spec("libp2p") is None:
            logger.warning(
                "no part in the DHT, which needs libp2p: pip install 'p2pinfer[node]' brings it; links go on"
            )
            self.settled.set()
            return
        waits_s = _waits_s()
        while True:
            self._moved = trio.Event()
            why = "for a fault of ours"
            with Contained("our part of the DHT"):
                why = await self._live()
            if not self._moved.is_set():
                wait_s = next(waits_s)
                logger.warning("our part of the DHT ended (%s); it starts anew in %.0f s, links go on", why, wait_s)
                with trio.move_on_after(wait_s):
                    await self._moved.wait()
            if self._moved.is_set():  # elsewhere there may be what was missing
                waits_s = _waits_s()

    async def _wait_moved(self) -> str:
        await self._moved.wait()
        return "it moved"

    async def _live(self) -> str:
        """One life of the process; why it ended."""
        try:
            process = await _start()
        except OSError as error:
            self.settled.set()
            return f"its process does not start: {error}"
        life, end = _Process(process, self._opening), list[str]()
        try:
            async with trio.open_nursery() as nursery:

                async def until_end(task: Callable[[], Awaitable[str]]) -> None:
                    end.append(await task())
                    nursery.cancel_scope.cancel()

                for task in (life.write, life.read, life.watch, self._wait_moved):
                    nursery.start_soon(until_end, task)
                await life.ready.wait()
                if self.settled.is_set():  # it is not the first
                    nursery.start_soon(self._remind, life)
                self._process = life
                self.settled.set()
        finally:
            self._process = None
            self.settled.set()
            life.leave()
            await _end(process)
        return end[0]

    async def _remind(self, life: "_Process") -> None:
        """Tell a process that starts anew what the one before knew: first whom it may tell what we provide."""
        async with trio.open_nursery() as nursery:
            for addresses in self._hosts:
                nursery.start_soon(life.ask, "meet", list(addresses), WHERE_S * MAX_MET)
        for key in tuple(self._keys):  # more may come meanwhile
            await life.ask("provide", key, PROVIDE_S)

    def addresses(self) -> tuple[Address, ...]:
        return self._process.addresses if self._process is not None else ()

    async def meet(self, addresses: Sequence[str], word: Source) -> None:
        """Take another DHT host, found at any of these, into our table. word: of whoever said so"""
        if addresses:
            self._keep(tuple(addresses), word.network)
        await self._ask("meet", list(addresses), WHERE_S * MAX_MET)

    def _keep(self, host: tuple[str, ...], network: str | None) -> None:
        """Remember a host; of too many, the first of the network that named most is forgotten."""
        self._hosts.pop(host, None)
        self._hosts[host] = network
        if len(self._hosts) > KEPT_HOSTS:
            most, _ = Counter(self._hosts.values()).most_common(1)[0]
            del self._hosts[next(one for one, named_by in self._hosts.items() if named_by == most)]

    async def provide(self, key: bytes) -> None:
        if key not in self._keys:
            self._keys.append(key)
        await self._ask("provide", key, PROVIDE_S)

    async def find(self, key: bytes) -> tuple[Address, ...]:
        """Link addresses of those who provide `key`, as far as they answer within FIND_S."""
        return await self._ask("find", key, FIND_S)

    async def _ask(self, kind: str, what: object, takes_s: float) -> tuple[Address, ...]:
        with trio.move_on_after(takes_s + LATE_S):
            await self.settled.wait()
            if self._process is not None:
                return await self._process.ask(kind, what, takes_s)
        return ()


def _waits_s() -> Iterator[float]:
    return chain(DHT_WAITS_S, repeat(DHT_WAITS_S[-1]))


class _Question:
    """until: when its answer is so late that the process is stuck."""

    def __init__(self, until: float) -> None:
        self.until = until
        self.answered = trio.Event()
        self.found: tuple[Address, ...] = ()


class _Process:
    """One process. `write`, `read` and `watch` run as long as it is used; each returns why it is of no more use."""

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

    def leave(self) -> None:
        """Let nobody wait for answers any longer."""
        for question in self._questions.values():
            question.answered.set()

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


async def _start() -> trio.Process:
    process = await trio.lowlevel.open_process(
        COMMAND,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # what a terminal sends is not for it
    )
    with suppress(OSError):  # it ended already
        os.setpriority(os.PRIO_PROCESS, process.pid, min(19, os.getpriority(os.PRIO_PROCESS, 0) + NICENESS))
    return process


async def _end(process: trio.Process) -> None:
    process.kill()  # it holds nothing that must be saved
    with trio.CancelScope(shield=True), trio.move_on_after(1.0):  # a killed process ends at once, stopped or not
        await process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            await trio.aclose_forcefully(pipe)
