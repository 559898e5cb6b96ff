"""Where sequences are tried: a node, a good client, and an event loop in a thread to which steps are handed one by one.

In memory the node is an object of this process, whose clock can be made to jump: that is fast. Live it is a process of
its own on loopback: that is the truth.
"""

import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from tempfile import mkdtemp
from threading import Thread
from typing import Any, Protocol, TypeVar

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from p2pinfer.client.api import Client
from p2pinfer.core.values.errors import P2pinferError
from p2pinfer.node.daemon import Node
from tests.swarms import TinySwarm, open_tiny_swarm

from .arena import Arena, LiveArena, MemoryArena
from .good import GoodClient, open_good_client
from .victims import Victim, open_victim

T = TypeVar("T")

# What is late after these never comes: they bound no speed, for the machine may have others to serve
CALL_S = 90.0  # for one step, whatever happens
GOOD_S = 60.0  # for a good answer beside an attack
TOKENS = 12
SESSIONS = 64  # as many as a node takes that is told nothing else
FREE_S = 60.0  # for what strangers held to be given back once they are gone; their last receipts get 10 s
SETTLE_S = 1.0  # for a node to do what a jump of the clock calls for, where it then goes on with work
IDLE_S = 0.002  # without anything to do, and it has done so
# Strangers are to get far: their budget is no matter here
TRUST = {"strangers_window": (1 << 32) - 1, "cadence": 4, "max_chunk": 8, "window": 24}


class Yard(Protocol):
    """arena: the node under attack."""

    arena: Arena

    def call(self, function: Callable[..., Awaitable[T]], *arguments: object) -> T:
        """Run a function in the loop, and wait for it."""

    def start(self, function: Callable[..., Awaitable[T]], *arguments: object) -> T:
        """Run a function in the loop's nursery; wait until it says that it has started."""

    def jump(self, seconds: float) -> None:
        """Let time pass, where that costs none."""

    def meet_again(self) -> None:
        """The good client hears of the node: a jump cuts links, and peers meet again every few seconds."""

    def begin_good(self) -> None:
        """The good client asks."""

    def end_good(self) -> None:
        """It has been answered as if nobody else were there."""

    def check(self) -> None:
        """The node lives, has logged no bug, and holds nothing for strangers that are gone."""

    def leave(self) -> None:
        """Tell the node to stop."""

    def wait_left(self) -> None:
        """It has stopped as it should; a new one takes its place."""


class _Loop:
    """An event loop in a thread."""

    def __init__(self, clock: MockClock | None) -> None:
        self.clock = clock
        self.nursery: trio.Nursery | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._started: SimpleQueue[BaseException | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name="yard")
        self._thread.start()
        assert self._started.get() is None

    def _run(self) -> None:
        trio.run(self._main, clock=self.clock)

    async def _main(self) -> None:
        async with trio.open_nursery() as self.nursery:
            self._token = trio.lowlevel.current_trio_token()
            self._started.put(None)
            await trio.sleep_forever()

    def call(self, function: Callable[..., Awaitable[T]], *arguments: object) -> T:
        async def bounded() -> T:
            with trio.fail_after(CALL_S):
                return await function(*arguments)

        return trio.from_thread.run(bounded, trio_token=self._token)

    def start(self, function: Callable[..., Awaitable[Any]], *arguments: object) -> Any:
        assert self.nursery is not None
        return self.call(self.nursery.start, function, *arguments)

    def jump(self, seconds: float) -> None:
        """Let time pass at once; wait until those have acted whose time has come."""

        async def jump() -> None:
            assert self.clock is not None
            self.clock.jump(seconds)
            with trio.move_on_after(SETTLE_S):
                await wait_all_tasks_blocked(IDLE_S)

        trio.from_thread.run(jump, trio_token=self._token)

    def close(self) -> None:
        assert self.nursery is not None
        trio.from_thread.run_sync(self.nursery.cancel_scope.cancel, trio_token=self._token)
        self._thread.join()


class Bugs(logging.Handler):
    """Tracebacks that were logged: whoever contains a bug tells of it so."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.told: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self.told.append(logging.Formatter().format(record))

    def check(self) -> None:
        told, self.told = self.told, []
        assert not told, told[0]


class MemoryYard:
    """A node in this process, on the memory network. Its engine is a process all the same.

    sessions: as many as it takes at once
    """

    def __init__(self, root: Path, sessions: int) -> None:
        self._sessions = sessions
        self._loop = _Loop(MockClock(rate=1.0))
        self._bugs = Bugs()
        self._root = root
        self._ended: BaseException | None = None
        self._wanted: tuple[int, ...] = ()
        logging.getLogger().addHandler(self._bugs)
        self._swarm: TinySwarm = self._loop.start(self._keep_swarm)
        self._begin()

    def _begin(self) -> None:
        self._ended = None
        self._node, self._stop, self._gone = self._loop.start(self._keep_node)
        self._swarm.nodes = (self._node,)
        self.arena: Arena = MemoryArena(self._swarm)
        self._client: Client = self._loop.start(self._keep_client)
        self._good: tuple[trio.Event, list[object]] | None = None
        self.begin_good()
        self.end_good()

    async def _keep_swarm(self, *, task_status: trio.TaskStatus[TinySwarm]) -> None:
        async with open_tiny_swarm(self._root, [], max_position_embeddings=4096) as swarm:
            task_status.started(swarm)
            await trio.sleep_forever()

    async def _keep_node(self, *, task_status: trio.TaskStatus[tuple[Node, trio.Event, trio.Event]]) -> None:
        stop, gone, started = trio.Event(), trio.Event(), False
        changes = {f"trust_{name}": value for name, value in TRUST.items()} | {"serve_max_sessions": self._sessions}
        data = Path(mkdtemp(dir=self._root))
        try:
            async with self._swarm.node(data, "0:3", **changes) as node:
                started = True
                task_status.started((node, stop, gone))
                await stop.wait()
        except (Exception, BaseExceptionGroup) as error:
            if not started:
                raise
            self._ended = error
        finally:
            gone.set()

    async def _keep_client(self, *, task_status: trio.TaskStatus[Client]) -> None:
        gone = self._gone
        async with self._swarm.client() as client:
            task_status.started(client)
            await gone.wait()

    def call(self, function: Callable[..., Awaitable[T]], *arguments: object) -> T:
        return self._loop.call(function, *arguments)

    def start(self, function: Callable[..., Awaitable[Any]], *arguments: object) -> Any:
        return self._loop.start(function, *arguments)

    def jump(self, seconds: float) -> None:
        self._loop.jump(seconds)

    def meet_again(self) -> None:
        node = self._node.identity.key.public  # strangers offer, too

        async def meet() -> None:
            while node not in {known.node for known in await self._client.offers()}:  # noqa: ASYNC110 - nobody tells
                await trio.sleep(0.1)

        self.call(meet)

    def begin_good(self) -> None:
        done, found = trio.Event(), list[object]()

        async def ask(*, task_status: trio.TaskStatus[None]) -> None:
            task_status.started()
            try:
                found.append((await self._client.answer("hello", max_tokens=TOKENS, codec="f32")).ids)
            except P2pinferError as error:
                found.append(error)
            done.set()

        self.start(ask)
        self._good = done, found

    def end_good(self) -> None:
        if self._good is None:
            return
        (done, found), self._good = self._good, None

        async def wait() -> None:
            with trio.move_on_after(GOOD_S):
                await done.wait()

        self.call(wait)
        self._check_node()
        assert found, "the good client waits for ever"
        assert not isinstance(found[0], P2pinferError), f"the good client: {found[0]}"
        self._wanted = self._wanted or found[0]  # type: ignore[assignment]
        assert found[0] == self._wanted

    def _check_node(self) -> None:
        if (ended := self._ended) is not None or self._gone.is_set():
            self._begin()
            raise AssertionError(f"the node ended: {ended!r}") from ended
        self._bugs.check()

    def check(self) -> None:
        self._check_node()
        self.call(self._wait_free)
        self._bugs.check()

    async def _wait_free(self) -> None:
        assert self._node.shard is not None
        engine = self._node.shard.engine
        with trio.move_on_after(FREE_S):
            while engine.free_pages < engine.facts.pages:  # noqa: ASYNC110 - nobody tells of it
                await trio.sleep(0.002)
        assert engine.free_pages == engine.facts.pages, "pages are held for strangers that are gone"

    def leave(self) -> None:
        async def leave() -> None:
            self._stop.set()

        self.call(leave)

    def wait_left(self) -> None:
        self.call(self._gone.wait)
        ended = self._ended
        self._begin()
        assert ended is None, f"the node left so: {ended!r}"
        self._bugs.check()

    def close(self) -> None:
        logging.getLogger().removeHandler(self._bugs)
        self._loop.close()


class LiveYard:
    """A node in a process of its own, on loopback."""

    def __init__(self, root: Path, store: Path) -> None:
        self._root = root
        self._store = store
        self._loop = _Loop(None)
        self._started = 0
        self._open()

    def _open(self) -> None:
        self._started += 1
        root = self._root / str(self._started)
        config = "[trust]\n" + "".join(f"{name} = {value}\n" for name, value in TRUST.items())
        self._victim_block = open_victim(root, self._store, config=config)
        self._victim: Victim = self._victim_block.__enter__()
        self._good_block = open_good_client(root, self._store, self._victim.address)
        self._good: GoodClient = self._good_block.__enter__()
        self.arena: Arena = LiveArena(self._victim.address)
        self._asking: Thread | None = None
        self._answers: list[dict[str, Any]] = []

    def _close(self) -> None:
        self._good_block.__exit__(None, None, None)
        self._victim_block.__exit__(None, None, None)

    def call(self, function: Callable[..., Awaitable[T]], *arguments: object) -> T:
        return self._loop.call(function, *arguments)

    def start(self, function: Callable[..., Awaitable[Any]], *arguments: object) -> Any:
        return self._loop.start(function, *arguments)

    def jump(self, seconds: float) -> None:
        self.call(trio.sleep, min(seconds, 0.1))

    def meet_again(self) -> None:
        """Nobody was cut: time passes as it does."""

    def begin_good(self) -> None:
        self._answers.clear()
        self._asking = Thread(target=lambda: self._answers.append(self._good.ask(max_tokens=TOKENS)))
        self._asking.start()

    def end_good(self) -> None:
        if self._asking is None:
            return
        self._asking.join(GOOD_S)
        assert not self._asking.is_alive(), "the good client waits for ever"
        self._asking = None
        self._victim.check()
        assert "error" not in self._answers[0], self._answers[0]

    def check(self) -> None:
        try:
            self._victim.check()
        except AssertionError:
            self._close()
            self._open()
            raise

    def leave(self) -> None:
        self._victim.node.process.terminate()

    def wait_left(self) -> None:
        try:
            self._victim.wait_stopped()
        finally:
            self._close()
            self._open()

    def close(self) -> None:
        self._close()
        self._loop.close()


@contextmanager
def open_memory_yard(root: Path, sessions: int = SESSIONS) -> Iterator[MemoryYard]:
    yard = MemoryYard(root, sessions)
    try:
        yield yard
    finally:
        yard.close()


@contextmanager
def open_live_yard(root: Path, store: Path) -> Iterator[LiveYard]:
    yard = LiveYard(root, store)
    try:
        yield yard
    finally:
        yard.close()
